// Smaller behaviours, through the SDKs and as raw messages.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { FieldValue, Timestamp } from '@google-cloud/firestore';
import { node, until, web, webClient } from './support/clients.mjs';
import { Raw, fields, value } from './support/raw.mjs';
import { Server } from './support/server.mjs';
import { start } from './support/suite.mjs';

let suite;
let server;
let db;
let raw;
let projectId;
let database;
let root;

before(async () => {
  suite = await start('api');
  ({ server, db, raw, projectId, database, root } = suite);
});

after(() => suite?.stop());

const doc = path => `${root}/${path}`;

test('create, update and delete keep their preconditions', async () => {
  const ref = db.doc('pre/one');
  const created = await ref.create({ a: 1 });
  await assert.rejects(ref.create({ a: 2 }), { code: 6, message: /already exists/i });
  await assert.rejects(db.doc('pre/none').update({ a: 1 }), { code: 5, message: /No document to update/ });
  await ref.update({ a: 2 }, { lastUpdateTime: created.writeTime });
  await assert.rejects(ref.update({ a: 3 }, { lastUpdateTime: created.writeTime }), { code: 9, message: /does not match the required base version/ });
  await assert.rejects(db.doc('pre/none').delete({ exists: true }), { code: 5 });
  await db.doc('pre/none').delete();
  assert.deepEqual((await ref.get()).data(), { a: 2 });
});

test('merge, field deletion and nested paths', async () => {
  const ref = db.doc('merge/one');
  await ref.set({ a: { b: 1, c: 2 }, d: 3, 'odd.name': { '`': 1 } });
  await ref.set({ a: { b: 10 } }, { merge: true });
  await ref.update({ 'a.x.y': 5, d: FieldValue.delete() });
  assert.deepEqual((await ref.get()).data(), { a: { b: 10, c: 2, x: { y: 5 } }, 'odd.name': { '`': 1 } });
  await ref.set({ only: true });
  assert.deepEqual((await ref.get()).data(), { only: true });
});

test('transforms', async () => {
  const ref = db.doc('transforms/one');
  const { writeTime } = await ref.set({ at: FieldValue.serverTimestamp(), n: FieldValue.increment(2), list: FieldValue.arrayUnion(1, 2, 1) });
  let data = (await ref.get()).data();
  assert.equal(data.n, 2);
  assert.deepEqual(data.list, [1, 2]);
  assert.equal(data.at.nanoseconds % 1_000_000, 0, 'server timestamps have milliseconds');
  assert.equal(data.at.seconds, writeTime.seconds);
  await ref.update({ n: FieldValue.increment(0.5), list: FieldValue.arrayRemove(1) });
  await ref.update({ list: FieldValue.arrayUnion(2, 3), m: FieldValue.increment(7) });
  data = (await ref.get()).data();
  assert.deepEqual([data.n, data.list, data.m], [2.5, [2, 3], 7]);
});

test('every type comes back as it went in', async () => {
  const all = {
    null: null, yes: true, int: 9007199254740991, double: 0.1, nan: NaN, infinity: -Infinity,
    time: new Timestamp(1_700_000_000, 123_456_000), text: 'ü\u{1F525}\u0000', bytes: Buffer.from([0, 1, 255]),
    ref: db.doc('other/doc'), array: [1, [], { a: [1] }].filter(x => !Array.isArray(x)), map: { a: { b: {} } }, vector: FieldValue.vector([1, 2.5]),
  };
  const ref = db.doc('types/all');
  await ref.set(all);
  const back = (await ref.get()).data();
  assert.equal(back.ref.path, 'other/doc');
  assert.deepEqual(back.vector.toArray(), [1, 2.5]);
  for (const name of Object.keys(all)) if (name !== 'ref' && name !== 'vector') assert.deepEqual(back[name], all[name], name);
});

test('a write that changes nothing keeps the update time and tells nobody', async () => {
  const ref = db.doc('noop/one');
  const first = await ref.set({ a: 1 });
  const seen = [];
  const stop = ref.onSnapshot(s => seen.push(s.get('a')));
  await until(() => seen.length === 1, 'first snapshot');
  const second = await ref.set({ a: 1 });
  assert.deepEqual(second.writeTime, first.writeTime);
  await ref.set({ a: 2 });
  await until(() => seen.includes(2), 'second snapshot');
  assert.deepEqual(seen, [1, 2]);
  stop();
});

test('databases are apart', async () => {
  const other = node(server.host, projectId, { databaseId: 'other' });
  await other.doc('apart/x').set({ here: 'other' });
  await db.doc('apart/x').set({ here: 'default' });
  assert.equal((await other.doc('apart/x').get()).get('here'), 'other');
  assert.equal((await db.doc('apart/x').get()).get('here'), 'default');
  await other.terminate();
});

test('unary calls: get, create, update, delete, list, batch get', async () => {
  const created = await raw.call('CreateDocument', { parent: root, collectionId: 'unary', documentId: 'a', document: { fields: fields({ n: 1, m: 2 }) } });
  assert.equal(created.name, doc('unary/a'));
  const named = await raw.call('CreateDocument', { parent: root, collectionId: 'unary', document: { fields: fields({ n: 0 }) } });
  assert.match(named.name.split('/').pop(), /^[A-Za-z0-9]{20}$/);
  await raw.call('DeleteDocument', { name: named.name });
  const masked = await raw.call('GetDocument', { name: doc('unary/a'), mask: { fieldPaths: ['n'] } });
  assert.deepEqual(masked.fields, { n: { integerValue: '1' } });
  assert.ok(masked.createTime && masked.updateTime);
  const updated = await raw.call('UpdateDocument', { document: { name: doc('unary/a'), fields: fields({ n: 5 }) }, updateMask: { fieldPaths: ['n', 'm'] } });
  assert.deepEqual(updated.fields, { n: { integerValue: '5' } });
  await assert.rejects(raw.call('GetDocument', { name: doc('unary/none') }), e => e.code === 5 && e.message === `Document "${doc('unary/none')}" not found.`);
  for (const id of ['b', 'c', 'd', 'e']) await raw.call('UpdateDocument', { document: { name: doc(`unary/${id}`), fields: fields({ n: id }) } });
  const names = [];
  let pageToken = '';
  do {
    const page = await raw.call('ListDocuments', { parent: root, collectionId: 'unary', pageSize: 2, pageToken });
    assert.ok((page.documents ?? []).length <= 2);
    names.push(...(page.documents ?? []).map(d => d.name));
    pageToken = page.nextPageToken ?? '';
  } while (pageToken);
  assert.deepEqual(names, ['a', 'b', 'c', 'd', 'e'].map(id => doc(`unary/${id}`)));
  const turned = await raw.call('ListDocuments', { parent: root, collectionId: 'unary', orderBy: 'n desc' });
  assert.deepEqual(turned.documents.map(d => d.name.split('/').pop()), ['e', 'd', 'c', 'b', 'a']);
  const got = await raw.call('BatchGetDocuments', { database, documents: [doc('unary/a'), doc('unary/none'), doc('unary/a')] });
  assert.equal(got.filter(g => g.found).length, 1);
  assert.deepEqual(got.filter(g => g.missing).map(g => g.missing), [doc('unary/none')]);
});

test('BatchWrite: each write for itself', async () => {
  const answer = await raw.call('BatchWrite', {
    database,
    writes: [
      { update: { name: doc('bw/a'), fields: fields({ n: 1 }) } },
      { update: { name: doc('bw/b'), fields: fields({ n: 1 }) }, currentDocument: { exists: true } },
      { delete: doc('bw/c') },
    ],
  });
  assert.deepEqual(answer.status.map(s => s.code ?? 0), [0, 5, 0]);
  assert.equal(answer.writeResults.length, 3);
  assert.equal((await db.doc('bw/a').get()).exists, true);
  assert.equal((await db.doc('bw/b').get()).exists, false);
});

test('transactions: the loser is aborted, a query is protected, a finished one is unknown', async () => {
  await db.doc('tx/a').set({ n: 1 });
  const begin = async () => (await raw.call('BeginTransaction', { database, options: { readWrite: {} } })).transaction;
  const [one, two] = [await begin(), await begin()].map(t => Buffer.from(t, 'base64'));
  for (const transaction of [one, two]) await raw.call('GetDocument', { name: doc('tx/a'), transaction });
  const write = n => [{ update: { name: doc('tx/a'), fields: fields({ n }) } }];
  await raw.call('Commit', { database, writes: write(2), transaction: one });
  await assert.rejects(raw.call('Commit', { database, writes: write(3), transaction: two }), { code: 10 });
  await assert.rejects(raw.call('Commit', { database, writes: write(3), transaction: one }), { code: 3 });
  assert.equal((await db.doc('tx/a').get()).get('n'), 2);

  const answers = await raw.call('RunQuery', { parent: root, structuredQuery: { from: [{ collectionId: 'phantom' }] }, newTransaction: { readWrite: {} } });
  assert.ok(answers[0].transaction && !answers[0].document, 'the id comes alone');
  await db.doc('phantom/new').set({ a: 1 });
  await assert.rejects(
    raw.call('Commit', { database, writes: [{ update: { name: doc('tx/seen'), fields: {} } }], transaction: Buffer.from(answers[0].transaction, 'base64') }),
    { code: 10 },
  );
  assert.equal((await db.doc('tx/seen').get()).exists, false);
});

test('an empty query still answers with a read time', async () => {
  const answers = await raw.call('RunQuery', { parent: root, structuredQuery: { from: [{ collectionId: 'nothing-here' }] } });
  assert.equal(answers.length, 1);
  assert.ok(answers[0].readTime && !answers[0].document);
});

const query = (collectionId, more = {}) => ({ query: { parent: root, structuredQuery: { from: [{ collectionId }], ...more } } });
const kind = answer => {
  if (answer.error) return `error ${answer.error.code}`;
  if (answer.documentChange) return answer.documentChange.removedTargetIds?.length ? 'left' : 'changed';
  if (answer.documentDelete) return 'deleted';
  if (answer.documentRemove) return 'removed';
  if (answer.filter) return 'filter';
  const type = answer.targetChange.targetChangeType ?? 'NO_CHANGE';
  return type === 'NO_CHANGE' ? (answer.targetChange.targetIds?.length ? 'progress' : 'snapshot') : type;
};
async function upTo(stream, last) {
  const got = [];
  do got.push(await stream.next()); while (kind(got.at(-1)) !== last && !got.at(-1).error && !got.at(-1).ended);
  return got;
}

test('listen: fresh, live, leave, delete, remove', async () => {
  await db.doc('watch/a').set({ n: 1 });
  const stream = raw.stream('Listen');
  stream.send({ database, addTarget: { ...query('watch', { where: { fieldFilter: { field: { fieldPath: 'n' }, op: 'LESS_THAN', value: value(10) } } }), targetId: 2 } });
  const fresh = await upTo(stream, 'snapshot');
  assert.deepEqual(fresh.map(kind), ['ADD', 'changed', 'CURRENT', 'snapshot']);
  assert.deepEqual(fresh[0].targetChange.targetIds, [2]);
  assert.ok(!fresh[0].targetChange.resumeToken?.length);
  assert.ok(fresh[2].targetChange.resumeToken.length && fresh[3].targetChange.readTime);

  const batch = db.batch();
  batch.set(db.doc('watch/b'), { n: 2 });
  batch.set(db.doc('watch/c'), { n: 3 });
  await batch.commit();
  const two = await upTo(stream, 'snapshot');
  assert.deepEqual(two.map(kind), ['changed', 'changed', 'snapshot']);
  assert.deepEqual(two[0].documentChange.document.updateTime, two[1].documentChange.document.updateTime);

  await db.doc('watch/b').set({ n: 99 });
  const left = await upTo(stream, 'snapshot');
  assert.ok(['left', 'removed'].includes(kind(left[0])) && left.length === 2);
  await db.doc('watch/c').delete();
  const gone = await upTo(stream, 'snapshot');
  assert.deepEqual(gone.map(kind), ['deleted', 'snapshot']);
  assert.deepEqual(gone[0].documentDelete.removedTargetIds, [2]);
  stream.send({ database, removeTarget: 2 });
  const removed = await stream.next();
  assert.equal(kind(removed), 'REMOVE');
  assert.ok(!removed.targetChange.cause);
  stream.end();
});

test('listen: several targets on one stream, one consistent snapshot', async () => {
  await db.doc('multi/a').set({ n: 1, tag: 'x' });
  const stream = raw.stream('Listen');
  stream.send({ database, addTarget: { ...query('multi'), targetId: 2 } });
  await upTo(stream, 'snapshot');
  stream.send({ database, addTarget: { documents: { documents: [doc('multi/a')] }, targetId: 4 } });
  const second = await upTo(stream, 'snapshot');
  assert.deepEqual(second.map(kind), ['ADD', 'changed', 'CURRENT', 'snapshot']);
  await db.doc('multi/a').update({ n: 2 });
  const live = await upTo(stream, 'snapshot');
  const ids = live.filter(a => kind(a) === 'changed').flatMap(a => a.documentChange.targetIds).sort();
  assert.deepEqual(ids, [2, 4]);
  assert.equal(kind(live.at(-1)), 'snapshot');
  stream.end();
});

test('listen: a limited query is refilled', async () => {
  for (let n = 1; n <= 5; n += 1) await db.doc(`limited/d${n}`).set({ n });
  const seen = [];
  const stop = db.collection('limited').orderBy('n').limit(3).onSnapshot(s => seen.push(s.docs.map(d => d.get('n'))));
  await until(() => seen.length === 1, 'first');
  await db.doc('limited/d2').delete();
  await until(() => seen.length === 2, 'refilled');
  await db.doc('limited/d0').set({ n: 0 });
  await until(() => seen.length === 3, 'pushed out');
  assert.deepEqual(seen, [[1, 2, 3], [1, 3, 4], [0, 1, 3]]);
  stop();
});

test('listen: resume with a token sends only what changed', async () => {
  await db.doc('resume/a').set({ n: 1 });
  await db.doc('resume/b').set({ n: 1 });
  const first = raw.stream('Listen');
  first.send({ database, addTarget: { ...query('resume'), targetId: 2 } });
  const got = await upTo(first, 'snapshot');
  const resumeToken = Buffer.from(got.at(-1).targetChange.resumeToken, 'base64');
  first.end();
  await db.doc('resume/a').set({ n: 2 });
  await db.doc('resume/b').delete();
  const again = raw.stream('Listen');
  again.send({ database, addTarget: { ...query('resume'), targetId: 2, resumeToken } });
  const answers = [];
  while (!answers.some(a => kind(a) === 'CURRENT')) answers.push(await again.next());
  answers.push(...await upTo(again, 'snapshot'));
  const names = answers.filter(a => a.documentChange).map(a => a.documentChange.document.name);
  assert.equal(kind(answers[0]), 'ADD');
  assert.deepEqual(names, [doc('resume/a')]);
  assert.deepEqual(answers.filter(a => a.documentDelete).map(a => a.documentDelete.document), [doc('resume/b')]);
  again.end();

  const foreign = raw.stream('Listen');
  foreign.send({ database, addTarget: { ...query('elsewhere'), targetId: 2, resumeToken: Buffer.from('rubbish') } });
  const refused = await upTo(foreign, 'REMOVE');
  assert.equal(refused.at(-1).targetChange.cause.code, 3);
  assert.match(refused.at(-1).targetChange.cause.message, /bad resume token/);
  foreign.end();
});

test('listen: once, a doubled id, a bad target; the stream stays up', async () => {
  await db.doc('once/a').set({ n: 1 });
  const stream = raw.stream('Listen');
  stream.send({ database, addTarget: { ...query('once'), targetId: 2, once: true } });
  assert.deepEqual((await upTo(stream, 'REMOVE')).map(kind), ['ADD', 'changed', 'CURRENT', 'snapshot', 'REMOVE']);
  stream.send({ database, addTarget: { ...query('once'), targetId: 4 } });
  await upTo(stream, 'snapshot');
  stream.send({ database, addTarget: { ...query('once'), targetId: 4 } });
  const doubled = await upTo(stream, 'REMOVE');
  assert.equal(doubled.at(-1).targetChange.cause.code, 6);
  stream.send({ database, addTarget: { ...query('once', { orderBy: [{ field: { fieldPath: 'a' } }, { field: { fieldPath: 'a' } }] }), targetId: 6 } });
  const bad = await upTo(stream, 'REMOVE');
  assert.equal(bad.at(-1).targetChange.cause.code, 3);
  stream.send({ database, addTarget: { ...query('once'), targetId: 8 } });
  assert.equal(kind((await upTo(stream, 'snapshot')).at(-1)), 'snapshot');
  stream.end();
});

test('write stream: handshake, then one answer for each message', async () => {
  const stream = raw.stream('Write');
  stream.send({ database });
  const hello = await stream.next();
  assert.ok(hello.streamId && hello.streamToken);
  let token = Buffer.from(hello.streamToken, 'base64');
  for (let n = 1; n <= 3; n += 1) {
    stream.send({ database, streamToken: token, writes: [{ update: { name: doc('ws/a'), fields: fields({ n }) } }, { delete: doc('ws/none') }] });
  }
  for (let n = 1; n <= 3; n += 1) {
    const answer = await stream.next();
    assert.equal(answer.writeResults.length, 2);
    assert.ok(answer.commitTime);
    token = Buffer.from(answer.streamToken, 'base64');
  }
  assert.equal((await db.doc('ws/a').get()).get('n'), 3);
  stream.send({ database, streamToken: token, writes: [{ update: { name: doc('ws/none'), fields: {} }, currentDocument: { exists: true } }] });
  assert.equal((await stream.next()).error.code, 5);
});

test('web SDK: transaction, batch, getDoc, listeners', async () => {
  const { db: w, close } = webClient(server.host, projectId);
  const ref = web.doc(w, 'web/a');
  await web.setDoc(ref, { n: 1, at: web.serverTimestamp() });
  assert.equal((await web.getDoc(ref)).get('n'), 1);
  assert.equal((await web.getDoc(web.doc(w, 'web/none'))).exists(), false);
  const result = await web.runTransaction(w, async tx => {
    const other = await tx.get(web.doc(w, 'web/none'));
    const n = (await tx.get(ref)).get('n') + 1;
    tx.update(ref, { n, other: other.exists() });
    return n;
  });
  assert.equal(result, 2);
  const seen = [];
  const stop = web.onSnapshot(ref, s => seen.push(s.get('n')));
  await until(() => seen.includes(2), 'first');
  await db.doc('web/a').update({ n: 3 });
  await until(() => seen.at(-1) === 3, 'live');
  const batch = web.writeBatch(w);
  batch.set(web.doc(w, 'web/b'), { n: 1 });
  batch.delete(ref);
  await batch.commit();
  await until(() => seen.at(-1) === undefined, 'deleted');
  await assert.rejects(web.updateDoc(web.doc(w, 'web/none'), { a: 1 }), { code: 'not-found' });
  stop();
  await close();
});

test('SIGTERM ends streams with a retryable status, exit code 0', async () => {
  if (process.env.WATCHFIRE_TARGET_HOST) return;
  const own = await Server.start();
  const client = new Raw(own.host);
  const stream = client.stream('Listen');
  stream.send({ database, addTarget: { ...query('x'), targetId: 2 } });
  await upTo(stream, 'snapshot');
  const stopped = own.stop();
  const end = await stream.next();
  assert.equal(end.error.code, 14);
  await stopped;
  client.close();
});
