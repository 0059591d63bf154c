// The listen stream and the write stream by raw messages and by the web SDK: what clients rely on, message by message.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { uniqueProject, until, web, webClient } from './support/clients.mjs';
import { Raw, fields } from './support/raw.mjs';
import { start } from './support/suite.mjs';

let suite;
before(async () => { suite = await start('streams'); });
after(async () => suite.stop());

const kind = a => a.error ? 'error' : a.ended ? 'ended' : a.documentChange ? 'changed' : a.documentDelete ? 'deleted' : a.documentRemove ? 'removed'
  : a.filter ? 'filter' : a.targetChange.targetChangeType && a.targetChange.targetChangeType !== 'NO_CHANGE' ? a.targetChange.targetChangeType
    : a.targetChange.targetIds?.length || !a.targetChange.readTime ? 'progress' : 'snapshot';
const query = (collectionId, rest = {}) => ({ query: { parent: suite.root, structuredQuery: { from: [{ collectionId }], ...rest } } });
const doc = path => `${suite.root}/${path}`;
const micros = ({ seconds, nanos = 0 }) => BigInt(seconds) * 1_000_000n + BigInt(nanos) / 1_000n;

// All answers up to and including the first of a kind.
async function upTo(stream, wanted, ms) {
  const answers = [];
  for (;;) {
    const answer = await stream.next(ms);
    answers.push(answer);
    if (kind(answer) === wanted) return answers;
    if (answer.error || answer.ended) assert.fail(`the stream ended before ${wanted}: ${JSON.stringify(answers)}`);
  }
}

async function current(stream) {
  const answers = await upTo(stream, 'CURRENT');
  return [...answers, ...await upTo(stream, 'snapshot')];
}

const bytes = text => Buffer.from(text, 'base64');
const tokenOf = answers => bytes(answers.findLast(a => a.targetChange?.resumeToken).targetChange.resumeToken);
const names = (answers, member) => answers.filter(a => a[member]).map(a => (a[member].document.name ?? a[member].document).split('/').slice(-2).join('/')).sort();

function listen(t, raw = suite.raw) {
  const stream = raw.stream('Listen');
  t.after(() => stream.cancel());
  return stream;
}

test('each request has one answer, however they race', async t => {
  const stream = listen(t);
  const { database } = suite;
  const count = 40;
  for (let targetId = 1; targetId <= count; targetId += 1) {
    stream.send({ database, addTarget: { ...query('race'), targetId } });
    if (targetId % 2 === 0) stream.send({ database, removeTarget: targetId });
  }
  stream.send({ database, addTarget: { ...query('race'), targetId: 1_000 } });
  const answers = [];
  const said = what => answers.filter(a => kind(a) === what).flatMap(a => a.targetChange.targetIds);
  while (!said('CURRENT').includes(1_000) || said('REMOVE').length < count / 2) answers.push(await stream.next());
  const ids = [...Array(count).keys()].map(k => k + 1);
  assert.deepEqual(said('ADD').toSorted((x, y) => x - y), [...ids, 1_000]);
  assert.deepEqual(said('REMOVE').toSorted((x, y) => x - y), ids.filter(id => id % 2 === 0));
  assert.ok(answers.every(a => !a.targetChange?.cause));
});

test('a document of several targets is told with all of their ids', async t => {
  const { database, db } = suite;
  const stream = listen(t);
  for (const [i, rest] of [{}, { orderBy: [{ field: { fieldPath: 'n' } }] }, { limit: { value: 5 } }].entries()) {
    stream.send({ database, addTarget: { ...query('several', rest), targetId: 2 * (i + 1) } });
  }
  stream.send({ database, addTarget: { documents: { documents: [doc('several/a')] }, targetId: 8 } });
  const answers = [];
  while (answers.filter(a => kind(a) === 'CURRENT').flatMap(a => a.targetChange.targetIds).length < 4) answers.push(await stream.next());
  await upTo(stream, 'snapshot');
  await db.doc('several/a').set({ n: 1 });
  const told = (await upTo(stream, 'snapshot')).filter(a => a.documentChange);
  assert.deepEqual(told.flatMap(a => a.documentChange.targetIds).toSorted((x, y) => x - y), [2, 4, 6, 8]);
  await db.doc('several/a').delete();
  const gone = (await upTo(stream, 'snapshot')).filter(a => a.documentDelete);
  assert.deepEqual(gone.flatMap(a => a.documentDelete.removedTargetIds).toSorted((x, y) => x - y), [2, 4, 6, 8]);
});

test('ids: negative, mixed, and chosen by the server', async t => {
  const { database } = suite;
  const negative = listen(t);
  negative.send({ database, addTarget: { ...query('ids'), targetId: -1 } });
  assert.equal((await upTo(negative, 'error')).at(-1).error.code, 3);
  const mixed = listen(t);
  mixed.send({ database, addTarget: { ...query('ids'), targetId: 2 } });
  await current(mixed);
  mixed.send({ database, addTarget: query('ids') });
  assert.equal((await upTo(mixed, 'error')).at(-1).error.code, 3);
  const chosen = listen(t);
  chosen.send({ database, addTarget: query('ids') });
  const [first] = await upTo(chosen, 'ADD');
  await upTo(chosen, 'snapshot');
  chosen.send({ database, addTarget: query('other-ids') });
  const [second] = (await upTo(chosen, 'ADD')).slice(-1);
  assert.notDeepEqual(first.targetChange.targetIds, second.targetChange.targetIds);
});

test('tokens of another database, another target, and cut ones are refused; the stream stays', async t => {
  const { database, db } = suite;
  await db.doc('tokens/a').set({ n: 1 });
  const stream = listen(t);
  stream.send({ database, addTarget: { ...query('tokens'), targetId: 2 } });
  const answers = await upTo(stream, 'CURRENT');
  const token = bytes(answers.at(-1).targetChange.resumeToken);
  const refused = async (on, target, name) => {
    on.send({ database: name, addTarget: { ...target, targetId: 4 } });
    const { targetChange } = (await upTo(on, 'REMOVE')).at(-1);
    assert.equal(targetChange.cause.code, 3);
    assert.match(targetChange.cause.message, /bad resume token/);
  };
  await refused(stream, { ...query('elsewhere'), resumeToken: token }, database);
  await refused(stream, { ...query('tokens'), resumeToken: token.subarray(0, -1) }, database);
  await refused(stream, { ...query('tokens'), resumeToken: Buffer.concat([token, token]) }, database);
  const other = `projects/${uniqueProject('tokens')}/databases/(default)`;
  const elsewhere = { query: { ...query('tokens').query, parent: `${other}/documents` } };
  await refused(listen(t), { ...elsewhere, resumeToken: token }, other);
  stream.send({ database, addTarget: { ...query('tokens'), targetId: 6, resumeToken: token } });
  assert.deepEqual(names(await current(stream), 'documentChange'), []);
});

test('a resume tells just what happened, and read times rise, across a restart', { skip: Boolean(process.env.WATCHFIRE_TARGET_HOST) }, async t => {
  const { database, db, server } = suite;
  await Promise.all(['a', 'b', 'c', 'd'].map(id => db.doc(`again/${id}`).set({ n: 1 })));
  const target = query('again', { where: { fieldFilter: { field: { fieldPath: 'n' }, op: 'EQUAL', value: { integerValue: 1 } } } });
  const stream = listen(t);
  stream.send({ database, addTarget: { ...target, targetId: 2 } });
  const first = await current(stream);
  stream.cancel();
  await db.doc('again/a').update({ more: true });
  await db.doc('again/b').update({ n: 2 });
  await db.doc('again/c').delete();
  await db.doc('again/e').set({ n: 1 });
  await db.doc('again/f').set({ n: 2 });
  let newest = micros(first.at(-1).targetChange.readTime);
  for (const end of ['kill', 'end']) {
    await server[end]();
    await server.launch();
    const raw = new Raw(server.host);
    t.after(() => raw.close());
    const again = listen(t, raw);
    again.send({ database, addTarget: { ...target, targetId: 2, resumeToken: tokenOf(first) } });
    const answers = await current(again);
    assert.deepEqual(names(answers, 'documentChange').filter(name => !/[bf]$/.test(name)), ['again/a', 'again/e']);
    const left = answers.filter(a => a.documentChange?.removedTargetIds?.length).map(a => a.documentChange.document.name.split('/').at(-1));
    assert.deepEqual([...left, ...names(answers, 'documentRemove').map(name => name.split('/').at(-1))], ['b']);
    assert.deepEqual(names(answers, 'documentDelete'), ['again/c']);
    assert.ok(answers.every(a => !['RESET', 'filter'].includes(kind(a))));
    const times = answers.filter(a => a.targetChange?.readTime).map(a => micros(a.targetChange.readTime));
    for (const time of times) {
      assert.ok(time >= newest, `${time} comes after ${newest}`);
      newest = time;
    }
    again.cancel();
  }
});

test('a reader that stops reading is brought back to what is there', { timeout: 60_000 }, async t => {
  const { database, db, server } = suite;
  const raw = new Raw(server.host);
  t.after(() => raw.close());
  const stream = listen(t, raw);
  stream.send({ database, addTarget: { ...query('slow'), targetId: 2 } });
  await current(stream);
  stream.pause();
  // Far more than all buffers on the way hold.
  const text = 'x'.repeat(200_000);
  for (let n = 0; n < 30; n += 1) {
    await Promise.all([...Array(10).keys()].map(k => db.doc(`slow/d${k}`).set({ n, text })));
  }
  await db.doc('slow/d3').delete();
  stream.resume();
  const held = new Map();
  const told = a => {
    const id = name => name.split('/').at(-1);
    if (kind(a) === 'RESET') held.clear();
    if (a.documentChange) held.set(id(a.documentChange.document.name), Number(a.documentChange.document.fields.n.integerValue));
    if (a.documentDelete) held.delete(id(a.documentDelete.document));
    if (a.documentRemove) held.delete(id(a.documentRemove.document));
  };
  const expected = JSON.stringify([0, 1, 2, 4, 5, 6, 7, 8, 9].map(k => [`d${k}`, 29]));
  for (;;) {
    const answers = await upTo(stream, 'snapshot');
    answers.forEach(told);
    if (JSON.stringify([...held].sort()) === expected) break;
  }
});

const set = (path, object, rest = {}) => ({ update: { name: doc(path), fields: fields(object) }, ...rest });

async function openWrites(t, raw = suite.raw) {
  const stream = raw.stream('Write');
  t.after(() => stream.cancel());
  stream.send({ database: suite.database });
  const hello = await stream.next();
  assert.ok(hello.streamId);
  return { stream, token: bytes(hello.streamToken) };
}

test('writes sent ahead are committed in their order, each with a token of its own', async t => {
  const { stream, token } = await openWrites(t);
  for (let n = 0; n < 10; n += 1) stream.send({ streamToken: token, writes: [set('ahead/a', { n }), set(`ahead/n${n}`, { n })] });
  const answers = [];
  for (let n = 0; n < 10; n += 1) answers.push(await stream.next());
  const times = answers.map(a => micros(a.commitTime));
  for (let n = 1; n < 10; n += 1) assert.ok(times[n] > times[n - 1]);
  assert.equal(new Set(answers.map(a => a.streamToken)).size, 10);
  assert.ok(answers.every(a => a.writeResults.length === 2));
  assert.equal((await suite.db.doc('ahead/a').get()).get('n'), 9);
  // The last message has no writes, and the stream then ends well.
  stream.send({ streamToken: bytes(answers.at(-1).streamToken), writes: [] });
  stream.end();
  assert.deepEqual(await stream.next(), { ended: true });
});

test('a write that fails for good ends the stream, and nothing behind it is done', async t => {
  const { stream, token } = await openWrites(t);
  stream.send({ streamToken: token, writes: [set('head/a', { n: 1 })] });
  stream.send({ streamToken: token, writes: [set('head/none', { n: 1 }, { currentDocument: { exists: true } })] });
  stream.send({ streamToken: token, writes: [set('head/b', { n: 1 })] });
  assert.ok((await stream.next()).commitTime);
  assert.equal((await stream.next()).error.code, 5);
  const docs = (await suite.db.collection('head').get()).docs.map(d => d.id);
  assert.deepEqual(docs, ['a']);
});

test('a stream that dies after the commit: what is sent again is done again, and the answer is another', async t => {
  const raw = new Raw(suite.server.host);
  const { stream, token } = await openWrites(t, raw);
  const write = set('died/a', { n: 1 });
  stream.send({ streamToken: token, writes: [write] });
  await until(async () => (await suite.db.doc('died/a').get()).exists, 'it is committed');
  raw.close();
  stream.cancel();
  const updated = (await suite.db.doc('died/a').get()).updateTime;
  const second = await openWrites(t);
  second.stream.send({ streamToken: second.token, writes: [write] });
  assert.ok((await second.stream.next()).commitTime);
  assert.ok((await suite.db.doc('died/a').get()).updateTime.isEqual(updated), 'the same content is no change');
});

test('web SDK: only the batch that cannot be is refused, those behind it are committed in their order', { timeout: 60_000 }, async t => {
  const { db, close } = webClient(suite.server.host, suite.projectId);
  t.after(close);
  const told = [];
  const note = (name, promise) => promise.then(() => told.push(name), error => told.push(`${name} ${error.code}`));
  const ref = id => web.doc(db, `web-queue/${id}`);
  const all = [];
  for (let n = 0; n < 25; n += 1) {
    if (n === 5 || n === 6) all.push(note(`w${n}`, web.updateDoc(ref('none'), { n })));
    else all.push(note(`w${n}`, web.writeBatch(db).set(ref(`d${n}`), { n }).set(ref('last'), { n }).commit()));
  }
  await Promise.all(all);
  assert.deepEqual(told, [...Array(25).keys()].map(n => (n === 5 || n === 6 ? `w${n} not-found` : `w${n}`)));
  const found = await suite.db.collection('web-queue').get();
  assert.equal(found.size, 24);
  const times = found.docs.filter(d => d.id !== 'last').sort((x, y) => x.get('n') - y.get('n')).map(d => d.updateTime.valueOf());
  assert.deepEqual(times, times.toSorted());
  assert.equal(found.docs.find(d => d.id === 'last').get('n'), 24);
});
