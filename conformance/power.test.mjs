// The server is killed at random moments under load and started again; nothing acknowledged is lost.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FieldValue } from '@google-cloud/firestore';
import { node, random, until, uniqueProject, web, webClient } from './support/clients.mjs';
import { Server } from './support/server.mjs';

const KILLS = Number(process.env.POWER_KILLS ?? 20);
const WRITERS = 8;

test('kill -9 under load: acknowledged writes stay, commits are whole, listeners go on', { timeout: 400_000 }, async t => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  t.diagnostic(`seed ${seed}`);
  const next = random(seed);
  const server = await Server.start();
  const projectId = uniqueProject('power');
  const closers = [];
  const faults = [];
  try {
    // Listeners that live through all of it.
    const listener = node(server.host, projectId);
    closers.push(() => listener.terminate());
    let nodeView = new Map();
    const stopNode = listener.collection('left').onSnapshot(
      s => {
        const seen = new Map(s.docs.map(d => [d.id, d.get('n')]));
        for (const id of nodeView.keys()) if (!seen.has(id)) faults.push(`node listener lost ${id}`);
        nodeView = seen;
      },
      e => faults.push(`node listener ended: ${e.message}`),
    );
    const browser = webClient(server.host, projectId);
    closers.push(browser.close);
    let webView = new Map();
    const stopWeb = web.onSnapshot(
      web.collection(browser.db, 'left'),
      s => {
        const seen = new Map(s.docs.map(d => [d.id, d.get('n')]));
        for (const id of webView.keys()) if (!seen.has(id)) faults.push(`web listener lost ${id}`);
        webView = seen;
      },
      e => faults.push(`web listener ended: ${e.message}`),
    );

    const acknowledged = new Map();
    const attempted = new Set();
    let running = true;
    const writers = Array.from({ length: WRITERS }, (_, w) => (async () => {
      const db = node(server.host, projectId);
      closers.push(() => db.terminate());
      for (let n = 0; running; n += 1) {
        const id = `w${w}-${n}`;
        attempted.add(id);
        const batch = db.batch();
        batch.set(db.doc(`left/${id}`), { n });
        batch.set(db.doc(`right/${id}`), { n });
        batch.set(db.doc(`counters/w${w}`), { n: FieldValue.increment(1) }, { merge: true });
        try {
          await batch.commit();
          acknowledged.set(id, n);
        } catch (error) {
          // Refused or cut off: may or may not be there, but never in half.
          if (![1, 2, 4, 10, 13, 14].includes(error.code)) faults.push(`writer: ${error.code} ${error.message}`);
        }
      }
    })());

    for (let kill = 0; kill < KILLS; kill += 1) {
      const before = acknowledged.size;
      await until(() => acknowledged.size > before + 5, 'writes are acknowledged', 60_000);
      await new Promise(resolve => setTimeout(resolve, next() * 250));
      await server.kill();
      await server.launch();
      const check = node(server.host, projectId);
      const known = [...acknowledged.keys()];
      const [left, right] = await Promise.all([check.collection('left').get(), check.collection('right').get()]);
      const ids = new Set(left.docs.map(d => d.id));
      for (const id of known) if (!ids.has(id)) faults.push(`acknowledged ${id} is gone after kill ${kill}`);
      await check.terminate();
      if (right.size === 0) faults.push('the right half is empty');
    }
    running = false;
    await Promise.all(writers);
    t.diagnostic(`${acknowledged.size} commits acknowledged across ${KILLS} kills`);

    const check = node(server.host, projectId);
    closers.push(() => check.terminate());
    const both = await check.runTransaction(
      async tx => [await tx.get(check.collection('left')), await tx.get(check.collection('right')), await tx.get(check.collection('counters'))],
      { readOnly: true },
    );
    const [left, right, counters] = both;
    const leftIds = left.docs.map(d => d.id);
    assert.deepEqual(leftIds, right.docs.map(d => d.id), 'no half commit');
    for (const id of acknowledged.keys()) assert.ok(leftIds.includes(id), `${id} was acknowledged`);
    for (const id of leftIds) assert.ok(attempted.has(id), `${id} was never written`);
    for (const counter of counters.docs) {
      const written = leftIds.filter(id => id.startsWith(`${counter.id}-`)).length;
      // A commit that was retried by the SDK after a cut may count twice, never less than once.
      assert.ok(counter.get('n') >= written, `${counter.id}: ${counter.get('n')} increments, ${written} documents`);
    }
    const truth = JSON.stringify(leftIds);
    const keys = view => JSON.stringify([...view.keys()].sort());
    await until(() => keys(nodeView) === JSON.stringify([...leftIds].sort()), () => `the node listener has everything (${nodeView.size} of ${leftIds.length})`, 180_000);
    await until(() => keys(webView) === JSON.stringify([...leftIds].sort()), () => `the web listener has everything (${webView.size} of ${leftIds.length})`, 120_000);
    assert.ok(truth.length > 0);
    assert.deepEqual(faults, []);
    stopNode();
    stopWeb();
  } finally {
    await Promise.all(closers.map(close => close()));
    await server.stop();
  }
});
