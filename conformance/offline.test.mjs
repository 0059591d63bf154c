// A client goes offline, edits, sees its own edits, comes back; another has written meanwhile; both end equal.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { node, until, uniqueProject, web, webClient } from './support/clients.mjs';
import { Server } from './support/server.mjs';

test('edits made offline arrive in order, once, and both clients end equal', { timeout: 120_000 }, async () => {
  const server = await Server.start();
  const projectId = uniqueProject('offline');
  const a = webClient(server.host, projectId);
  const b = webClient(server.host, projectId);
  const admin = node(server.host, projectId);
  try {
    const notes = web.collection(a.db, 'notes');
    await web.setDoc(web.doc(notes, 'shared'), { title: 'start', count: 0, log: [] });
    const views = { a: null, b: null };
    const stops = [
      web.onSnapshot(web.collection(a.db, 'notes'), { includeMetadataChanges: true }, s => { views.a = s; }),
      web.onSnapshot(web.collection(b.db, 'notes'), { includeMetadataChanges: true }, s => { views.b = s; }),
    ];
    const settled = s => s && !s.metadata.hasPendingWrites && !s.metadata.fromCache;
    await until(() => settled(views.a) && settled(views.b) && views.b.size === 1, 'both see the note');

    // Every intermediate state as the other side sees it, to check the order of arrival.
    const history = [];
    const stopHistory = admin.collection('steps').orderBy('n').onSnapshot(s => history.push(s.docs.map(d => d.get('n'))));

    await web.disableNetwork(a.db);
    const pending = [];
    pending.push(web.updateDoc(web.doc(notes, 'shared'), { title: 'from a', count: web.increment(1), log: web.arrayUnion('a1') }));
    pending.push(web.updateDoc(web.doc(notes, 'shared'), { count: web.increment(1), log: web.arrayUnion('a2') }));
    pending.push(web.setDoc(web.doc(notes, 'new-from-a'), { title: 'made offline', at: web.serverTimestamp() }));
    for (let n = 0; n < 8; n += 1) pending.push(web.setDoc(web.doc(web.collection(a.db, 'steps'), `s${n}`), { n }));

    await until(() => views.a.size === 2, 'a sees its own new note while offline');
    const own = views.a.docs.find(d => d.id === 'shared');
    assert.equal(own.get('title'), 'from a');
    assert.equal(own.get('count'), 2);
    assert.deepEqual(own.get('log'), ['a1', 'a2']);
    assert.equal(own.metadata.hasPendingWrites, true);
    assert.equal((await admin.doc('notes/new-from-a').get()).exists, false);

    await web.updateDoc(web.doc(b.db, 'notes/shared'), { title: 'from b', count: web.increment(10), log: web.arrayUnion('b1') });
    await web.setDoc(web.doc(b.db, 'notes/new-from-b'), { title: 'made online' });

    await web.enableNetwork(a.db);
    await Promise.all(pending);
    const text = s => JSON.stringify(s.docs.map(d => [d.id, d.get('title'), d.get('count') ?? null, d.get('log') ?? null]));
    await until(
      () => settled(views.a) && settled(views.b) && views.a.size === 3 && views.b.size === 3 && text(views.a) === text(views.b),
      () => `both end equal: ${text(views.a)} ${text(views.b)}`,
    );
    const stored = await admin.doc('notes/shared').get();
    // The pending update of the title comes last; increments and unions of both sides all count, once.
    assert.equal(stored.get('title'), 'from a');
    assert.equal(stored.get('count'), 12);
    assert.deepEqual(stored.get('log'), ['b1', 'a1', 'a2']);
    const steps = await admin.collection('steps').get();
    assert.equal(steps.size, 8);
    const times = [...steps.docs].sort((x, y) => x.get('n') - y.get('n')).map(d => d.updateTime.valueOf());
    assert.deepEqual(times, [...times].sort(), 'the writes were committed in the order in which they were made');
    await until(() => history.at(-1)?.length === 8, 'the listener saw all steps');
    for (const seen of history) assert.deepEqual(seen, seen.map((_, i) => i), 'every snapshot is a prefix');
    stopHistory();
    stops.forEach(stop => stop());
  } finally {
    await Promise.all([a.close(), b.close(), admin.terminate()]);
    await server.stop();
  }
});
