// Indexes as administrators meet them: the published admin client, the command line, builds while writes go on.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { FieldPath, FieldValue } from '@google-cloud/firestore';
import { adminClient, decodeLink, follow, indexes, plain, properties, run, used } from './support/admin.mjs';
import { node, random, until, uniqueProject } from './support/clients.mjs';
import { ids } from './support/data.mjs';
import { Server } from './support/server.mjs';

const skip = process.env.WATCHFIRE_TARGET_HOST ? 'needs a server of its own' : false;

let server;
let projectId;
let database;
let db;
let admin;

before(async () => {
  if (skip) return;
  server = await Server.start('--index-mode', 'enforce');
  projectId = uniqueProject('indexes');
  database = `projects/${projectId}/databases/(default)`;
  db = node(server.host, projectId);
  admin = adminClient(server.host, projectId);
  const writer = db.bulkWriter({ throttling: false });
  for (let i = 0; i < 30; i += 1) {
    writer.set(db.doc(`books/b${String(i).padStart(2, '0')}`), { author: `a${i % 5}`, year: 1990 + (i * 7) % 30, tags: [`t${i % 3}`, 'all'], 'odd.name': i });
    writer.set(db.doc(`shops/s${i % 4}/stock/i${String(i).padStart(2, '0')}`), { price: i, tags: [`t${i % 3}`] });
  }
  await writer.close();
});

after(async () => {
  await admin?.close();
  await db?.terminate();
  await server?.stop();
});

const group = id => `${database}/collectionGroups/${id}`;
const ascending = fieldPath => ({ fieldPath, order: 'ASCENDING' });
const descending = fieldPath => ({ fieldPath, order: 'DESCENDING' });
const contains = fieldPath => ({ fieldPath, arrayConfig: 'CONTAINS' });
const vector = (fieldPath, dimension) => ({ fieldPath, vectorConfig: { dimension, flat: {} } });
const index = (...fields) => ({ queryScope: 'COLLECTION', fields });
const create = async (collectionGroup, definition) => (await admin.createIndex({ parent: group(collectionGroup), index: definition }))[0];
const created = async (collectionGroup, definition) => plain((await (await create(collectionGroup, definition)).promise())[0]);
const list = async (collectionGroup = '-') => (await admin.listIndexes({ parent: group(collectionGroup) }))[0].map(plain);
const refusal = async promise => {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('it was answered');
};
const denied = async query => {
  const error = await refusal(query.get());
  assert.equal(error.code, 9, error.message);
  return error.details ?? error.message.replace(/^9 FAILED_PRECONDITION: /, '');
};

test('an index is created, shown, used and deleted', { skip }, async () => {
  const query = db.collection('books').where('author', '==', 'a1').orderBy('year', 'desc');
  await denied(query);
  const operation = await create('books', index(ascending('author'), descending('year')));
  assert.match(operation.name, new RegExp(`^${database.replace(/[()]/g, '\\$&')}/operations/[^/]+$`));
  const [answer, metadata] = await operation.promise();
  const made = plain(answer);
  assert.match(made.name, /\/collectionGroups\/books\/indexes\/[^/]+$/);
  assert.equal(made.state, 'READY');
  assert.equal(made.queryScope, 'COLLECTION');
  assert.equal(properties(made), '(author ASC, year DESC, __name__ DESC)');
  assert.equal(metadata.index, made.name);
  assert.deepEqual(plain((await admin.getIndex({ name: made.name }))[0]), made);
  assert.deepEqual((await list('books')).map(i => i.name), [made.name]);
  assert.deepEqual((await list()).map(i => i.name), [made.name]);
  assert.deepEqual(await list('shops'), []);

  const years = (await query.get()).docs.map(d => d.get('year'));
  assert.deepEqual(years, [...years].sort((a, b) => b - a));
  assert.equal(years.length, 6);
  assert.deepEqual(used(await query.explain()), ['(author ASC, year DESC, __name__ DESC)']);
  // Read backwards it serves the order turned round.
  assert.deepEqual((await db.collection('books').where('author', '==', 'a1').orderBy('year').get()).docs.map(d => d.get('year')), [...years].reverse());

  await admin.deleteIndex({ name: made.name });
  await denied(query);
  assert.equal((await refusal(admin.getIndex({ name: made.name }))).code, 5);
  assert.equal((await refusal(admin.deleteIndex({ name: made.name }))).code, 5);
  assert.deepEqual(await list('books'), []);
});

test('what cannot be an index is refused by name', { skip }, async () => {
  await created('twice', index(ascending('a'), ascending('b')));
  const again = await refusal(create('twice', index(ascending('a'), ascending('b'))));
  assert.equal(again.code, 6, again.message);
  const named = await refusal(create('twice', index(ascending('a'), ascending('b'), ascending('__name__'))));
  assert.equal(named.code, 6, 'the name at the end says nothing new');
  for (const [what, definition] of [
    ['no fields', index()],
    ['one field, which is indexed by itself', index(ascending('a'))],
    ['a field twice', index(ascending('a'), descending('a'))],
    ['two arrays', index(contains('a'), contains('b'))],
    ['a field without mode', index(ascending('a'), { fieldPath: 'b' })],
    ['no path', index(ascending('a'), ascending(''))],
    ['a bad path', index(ascending('a'), ascending('b..c'))],
    ['the name first', index(ascending('__name__'), ascending('a'))],
    ['a vector of no dimensions', index(ascending('a'), vector('v', 0))],
    ['a vector of 2049', index(vector('v', 2049))],
    ['a vector before a field', index(vector('v', 3), ascending('a'))],
    ['a scope that is not ours', { ...index(ascending('a'), ascending('b')), queryScope: 'COLLECTION_RECURSIVE' }],
    ['no scope', { fields: [ascending('a'), ascending('b')] }],
    ['an API that is not ours', { ...index(ascending('a'), ascending('b')), apiScope: 'DATASTORE_MODE_API' }],
    ['101 fields', index(...Array.from({ length: 101 }, (_, i) => ascending(`f${i}`)))],
  ]) {
    const error = await refusal(create('bad', definition));
    assert.ok([3, 12].includes(error.code) && error.message.length > 10, `${what}: ${error.code} ${error.message}`);
  }
  assert.deepEqual(await list('bad'), []);
  for (const [what, call, codes] of [
    ['an unknown id', () => admin.getIndex({ name: `${group('twice')}/indexes/nothing` }), [3, 5]],
    ['a name without an id', () => admin.getIndex({ name: group('twice') }), [3]],
    ['a reserved collection', () => create('__bad__', index(ascending('a'), ascending('b'))), [3]],
    ['a parent that is a document', () => admin.listIndexes({ parent: `${database}/documents` }), [3]],
    ['a filter', () => admin.listIndexes({ parent: group('-'), filter: 'a:b' }), [3, 12]],
    ['a field of nothing', () => admin.getField({ name: `${group('books')}/fields/` }), [3]],
    ['a foreign page token', () => admin.listIndexes({ parent: group('-'), pageToken: 'rubbish' }, { autoPaginate: false }), [3]],
  ]) {
    const error = await refusal(call());
    assert.ok(codes.includes(error.code), `${what}: ${error.code} ${error.message}`);
  }
});

test('lists come page by page', { skip }, async () => {
  for (const n of [1, 2, 3]) await created(`page${n}`, index(ascending('a'), ascending('b')));
  const whole = (await list()).map(i => i.name);
  const paged = [];
  let pageToken = '';
  do {
    const [, , page] = await admin.listIndexes({ parent: group('-'), pageSize: 2, pageToken }, { autoPaginate: false });
    assert.ok(page.indexes.length <= 2);
    paged.push(...page.indexes.map(i => i.name));
    pageToken = page.nextPageToken;
  } while (pageToken);
  assert.deepEqual(paged, whole);
  assert.ok(whole.length >= 4);
});

const AUTOMATIC = path => [ascending(path), descending(path), contains(path)].map(f => ({ queryScope: 'COLLECTION', fields: [f] }));
const configure = async (name, indexConfig) => {
  const [operation] = await admin.updateField({ field: { name, indexConfig }, updateMask: { paths: ['index_config'] } });
  return (await operation.promise())[0];
};
const own = async () => (await admin.listFields({ parent: group('-'), filter: 'indexConfig.usesAncestorConfig:false' }))[0]
  .map(f => f.name).filter(name => !name.includes('__default__'));

test('fields: the default, an exemption, and back', { skip }, async () => {
  const name = `${group('books')}/fields/year`;
  const modes = field => field.indexConfig.indexes.map(i => `${plain(i).queryScope} ${properties(i)}`).sort();
  const everything = ['COLLECTION (year ASC)', 'COLLECTION (year CONTAINS)', 'COLLECTION (year DESC)'];
  const [field] = await admin.getField({ name });
  assert.equal(field.name, name);
  assert.equal(field.indexConfig.usesAncestorConfig, true);
  assert.equal(field.indexConfig.ancestorField, `${group('__default__')}/fields/*`);
  assert.deepEqual(modes(field), everything);
  const [base] = await admin.getField({ name: `${group('__default__')}/fields/*` });
  assert.equal(base.indexConfig.indexes.length, 3);
  assert.deepEqual(await own(), []);

  const query = db.collection('books').where('year', '>', 2000);
  const want = ids(await query.get());
  assert.ok(want.length > 5);
  await configure(name, { indexes: [] });
  const [exempt] = await admin.getField({ name });
  assert.equal(exempt.indexConfig.usesAncestorConfig, false);
  assert.deepEqual(exempt.indexConfig.indexes, []);
  assert.deepEqual(await own(), [name]);
  const text = await denied(query);
  assert.match(text, /^The query requires a COLLECTION_ASC index for collection books and field year\. You can create it here: https:\S+$/);
  assert.match(await denied(db.collection('books').orderBy('year', 'desc')), /COLLECTION_DESC index for collection books and field year/);
  const { kind, index: offered } = decodeLink(text);
  assert.deepEqual([kind, offered.name, offered.queryScope], ['exemption', name, 'COLLECTION']);
  // Documents written meanwhile are found once the field is indexed again.
  await db.doc('books/new').set({ author: 'a9', year: 2999 });
  await configure(name, undefined);
  const [back] = await admin.getField({ name });
  assert.equal(back.indexConfig.usesAncestorConfig, true);
  assert.deepEqual(modes(back), everything);
  assert.deepEqual(await own(), []);
  assert.deepEqual(ids(await query.get()), [...want, 'new']);
  await db.doc('books/new').delete();
  assert.deepEqual(ids(await query.get()), want);
});

test('fields: collection groups are indexed on demand', { skip }, async () => {
  const stock = () => db.collectionGroup('stock');
  const ends = 'You can create it here: https:\\S+create_exemption=[A-Za-z0-9_-]+$';
  for (const [query, mode, field] of [
    [stock().where('price', '>', 20), 'ASC', 'price'],
    [stock().orderBy('price', 'desc'), 'DESC', 'price'],
    [stock().where('tags', 'array-contains', 't1'), 'CONTAINS', 'tags'],
    [stock().where('price', '==', 3), 'ASC', 'price'],
  ]) {
    assert.match(await denied(query), new RegExp(`^The query requires a COLLECTION_GROUP_${mode} index for collection stock and field ${field}\\. ${ends}`));
  }
  // No filter and no order needs no index.
  assert.equal((await stock().get()).size, 30);
  await follow(admin, decodeLink(await denied(stock().where('price', '>', 20))));
  assert.deepEqual(ids(await stock().where('price', '>', 20).get()), Array.from({ length: 9 }, (_, i) => `i${21 + i}`));
  assert.deepEqual(ids(await stock().where('price', '==', 3).get()), ['i03']);
  const [{ query_scope: scope, properties: parts }] = (await stock().where('price', '>', 20).explain()).metrics.planSummary.indexesUsed;
  assert.deepEqual([scope.toLowerCase(), parts], ['collection group', '(price ASC, __name__ ASC)']);
  await follow(admin, decodeLink(await denied(stock().where('tags', 'array-contains', 't1'))));
  assert.equal((await stock().where('tags', 'array-contains', 't1').get()).size, 10);
  // Single collections are served as before.
  assert.equal((await db.collection('shops/s0/stock').where('price', '>', 20).get()).size, 2);
  await db.doc('shops/s9/stock/extra').set({ price: 99, tags: ['t1'] });
  assert.equal(ids(await stock().where('price', '>', 20).get()).at(-1), 'extra');
  await configure(`${group('stock')}/fields/price`, undefined);
  await denied(stock().where('price', '>', 20));
  await configure(`${group('stock')}/fields/tags`, undefined);
});

test('fields: a quoted path, a group default, and what is refused', { skip }, async () => {
  const quoted = `${group('books')}/fields/\`odd.name\``;
  await configure(quoted, { indexes: [] });
  assert.deepEqual(await own(), [quoted]);
  assert.match(await denied(db.collection('books').where(new FieldPath('odd.name'), '>', 3)), /COLLECTION_ASC index for collection books and field .?odd\.name/);
  await configure(quoted, undefined);
  const some = `${group('sparse')}/fields/*`;
  await configure(some, { indexes: [] });
  await db.doc('sparse/a').set({ n: 1 });
  await denied(db.collection('sparse').where('n', '==', 1));
  const [inherits] = await admin.getField({ name: `${group('sparse')}/fields/n` });
  assert.deepEqual([inherits.indexConfig.usesAncestorConfig, inherits.indexConfig.ancestorField], [true, some]);
  await configure(some, undefined);
  assert.equal((await db.collection('sparse').where('n', '==', 1).get()).size, 1);
  for (const [what, name, indexConfig] of [
    ['two fields', `${group('books')}/fields/year`, { indexes: [index(ascending('year'), ascending('author'))] }],
    ['another field', `${group('books')}/fields/year`, { indexes: [index(ascending('author'))] }],
    ['the same twice', `${group('books')}/fields/year`, { indexes: [index(ascending('year')), index(ascending('year'))] }],
  ]) {
    const error = await refusal(configure(name, indexConfig));
    assert.ok([3, 12].includes(error.code), `${what}: ${error.code} ${error.message}`);
  }
  const error = await refusal(admin.listFields({ parent: group('-'), filter: 'name:year' }));
  assert.ok([3, 12].includes(error.code), error.message);
});

test('vector indexes: missing, made, used', { skip }, async () => {
  for (let i = 0; i < 20; i += 1) await db.doc(`points/p${i}`).set({ color: i % 2 ? 'red' : 'blue', at: FieldValue.vector([i, 0, 1]) });
  const near = query => query.findNearest({ vectorField: 'at', queryVector: [6.2, 0, 1], distanceMeasure: 'EUCLIDEAN', limit: 3 });
  const all = near(db.collection('points'));
  const red = near(db.collection('points').where('color', '==', 'red'));
  const text = await denied(all);
  assert.match(text, /^Missing vector index configuration\. Please create the required index with the following gcloud command: gcloud firestore indexes composite create --project=/);
  assert.match(text, /--collection-group=points --query-scope=COLLECTION --field-config=vector-config='\{"dimension":"3","flat": ?"?\{\}"?\}',field-path=at/);
  assert.match(await denied(red), /--field-config=order=ASCENDING,field-path=color --field-config=vector-config=/);
  const made = await created('points', index(vector('at', 3)));
  assert.match(properties(made), /at VECTOR<3>/);
  assert.deepEqual(ids(await all.get()), ['p6', 'p7', 'p5']);
  await denied(red);
  await created('points', index(ascending('color'), vector('at', 3)));
  assert.deepEqual(ids(await red.get()), ['p7', 'p5', 'p9']);
});

test('operations: listed, shown, unknown', { skip }, async () => {
  const operation = await create('operated', index(ascending('a'), ascending('b')));
  await operation.promise();
  const [shown] = await admin.getOperation({ name: operation.name });
  assert.equal(shown.name, operation.name);
  assert.equal(shown.done, true);
  assert.match(shown.metadata.typeUrl ?? shown.metadata.type_url, /google\.firestore\.admin\.v1\.IndexOperationMetadata$/);
  const names = [];
  for await (const one of admin.listOperationsAsync({ name: database })) names.push(one.name);
  assert.ok(names.includes(operation.name), names.join(' '));
  for (const call of ['getOperation', 'cancelOperation']) {
    const error = await refusal(admin[call]({ name: `${database}/operations/nothing` }));
    assert.ok([3, 5].includes(error.code), `${call}: ${error.code} ${error.message}`);
  }
  // One that is over cannot be cancelled, and it does not harm to try.
  await admin.cancelOperation({ name: operation.name });
  assert.equal((await list('operated')).length, 1);
});

test('the command line deploys an index file, shows it, and asks before it deletes', { skip }, async () => {
  const other = uniqueProject('deployed');
  const file = {
    indexes: [
      { collectionGroup: 'books', queryScope: 'COLLECTION', fields: [ascending('author'), descending('year')] },
      { collectionGroup: 'books', queryScope: 'COLLECTION_GROUP', fields: [contains('tags'), ascending('year')] },
      { collectionGroup: 'points', queryScope: 'COLLECTION', fields: [vector('at', 3)] },
    ],
    fieldOverrides: [
      { collectionGroup: 'books', fieldPath: 'isbn', indexes: [] },
      { collectionGroup: 'stock', fieldPath: 'price', indexes: [...AUTOMATIC('price').map(({ queryScope, fields: [{ fieldPath, ...mode }] }) => ({ ...mode, queryScope })), { order: 'ASCENDING', queryScope: 'COLLECTION_GROUP' }] },
    ],
  };
  const settled = ({ code, output, errors }) => assert.equal(code, 0, output + errors);
  settled(await indexes(server, other, 'deploy', { file }));
  const parent = `projects/${other}/databases/(default)/collectionGroups/-`;
  const shown = async () => (await admin.listIndexes({ parent }))[0].map(i => `${plain(i).queryScope} ${properties(i)}`).sort();
  const three = await shown();
  assert.deepEqual(three.filter(i => !i.includes('VECTOR')), ['COLLECTION (author ASC, year DESC, __name__ DESC)', 'COLLECTION_GROUP (tags CONTAINS, year ASC, __name__ ASC)']);
  assert.equal(three.length, 3);

  // What is listed can be deployed: nothing changes.
  const listed = await indexes(server, other, 'list');
  settled(listed);
  const again = JSON.parse(listed.output);
  assert.equal(again.indexes.length, 3);
  assert.deepEqual(again.fieldOverrides.map(o => `${o.collectionGroup} ${o.fieldPath} ${o.indexes.length}`).sort(), ['books isbn 0', 'stock price 4']);
  settled(await indexes(server, other, 'deploy', { file: again }));
  assert.deepEqual(await shown(), three);

  // Less than there is: refused without --force when nobody is there to be asked, and nothing is touched.
  const fewer = { indexes: file.indexes.slice(0, 1), fieldOverrides: [] };
  const refused = await indexes(server, other, 'deploy', { file: fewer });
  assert.notEqual(refused.code, 0, refused.output);
  assert.match(refused.output + refused.errors, /--force/);
  assert.deepEqual(await shown(), three);
  settled(await indexes(server, other, 'deploy', { file: fewer, args: ['--force'] }));
  assert.deepEqual(await shown(), ['COLLECTION (author ASC, year DESC, __name__ DESC)']);
  assert.deepEqual(JSON.parse((await indexes(server, other, 'list')).output).fieldOverrides, []);

  for (const [what, bad] of [
    ['an unknown member', { ...file, surprise: 1 }],
    ['a bad order', { indexes: [{ collectionGroup: 'a', queryScope: 'COLLECTION', fields: [{ fieldPath: 'a', order: 'SIDEWAYS' }, ascending('b')] }], fieldOverrides: [] }],
    ['a field twice', { indexes: [{ collectionGroup: 'a', queryScope: 'COLLECTION', fields: [ascending('a'), ascending('a')] }], fieldOverrides: [] }],
  ]) {
    const { code, output, errors } = await indexes(server, other, 'deploy', { file: bad, args: ['--force'] });
    assert.notEqual(code, 0, `${what}: ${output}`);
    assert.ok(errors.length > 0, what);
  }
  assert.deepEqual(await shown(), ['COLLECTION (author ASC, year DESC, __name__ DESC)']);
  const nowhere = await run(['indexes', 'list', '--server', '127.0.0.1:1', '--project', other]);
  assert.notEqual(nowhere.code, 0);
  assert.ok(nowhere.errors.length > 0);
});

const BUILT = 4_000;

test('an index is built while writes go on, across a kill -9', { skip, timeout: 120_000 }, async t => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  t.diagnostic(`seed ${seed}`);
  const next = random(seed);
  const some = () => ({ a: Math.floor(next() * 20), b: Math.floor(next() * 1000), tags: [`t${Math.floor(next() * 5)}`] });
  const collection = db.collection('built');
  const writer = db.bulkWriter({ throttling: false });
  for (let i = 0; i < BUILT; i += 1) writer.set(collection.doc(`d${i}`), some());
  await writer.close();

  const refused = collection.where('a', '==', 3).orderBy('b');
  await denied(refused);
  let running = true;
  let written = 0;
  const faults = [];
  const writers = Array.from({ length: 4 }, async () => {
    while (running) {
      const ref = collection.doc(`d${Math.floor(next() * (BUILT + 500))}`);
      try {
        if (next() < 0.2) await ref.delete();
        else await ref.set(some());
        written += 1;
      } catch (error) {
        // Cut off by the kill; may or may not be there.
        if (![1, 2, 4, 10, 13, 14].includes(error.code)) faults.push(`${error.code} ${error.message}`);
      }
    }
  });
  await until(() => written > 20, 'writes go on');
  const operation = await create('built', index(ascending('a'), ascending('b')));
  const second = await create('built', index(contains('tags'), descending('b')));
  const building = await refused.get().then(() => null, error => error.details);
  if (building !== null) assert.match(building, /^The query requires an index\. That index is currently building and cannot be used yet\. See its status here: https:\S+$/);
  await new Promise(resolve => setTimeout(resolve, next() * 150));
  const left = (await list('built').catch(() => [])).map(i => i.state);
  await server.kill();
  await server.launch();
  t.diagnostic(`killed when the indexes were ${left}`);
  const states = async () => (await list('built')).map(i => i.state);
  await until(async () => (await states()).join() === 'READY,READY', async () => `both are complete, not ${await states()}`, 60_000);
  const before = written;
  await until(() => written > before + 20, 'writes go on after it');
  running = false;
  await Promise.all(writers);
  assert.deepEqual(faults, []);
  for (const { name } of [operation, second]) {
    const [shown] = await admin.getOperation({ name });
    assert.equal(shown.done, true);
  }

  const documents = (await collection.get()).docs.map(d => ({ id: d.id, ...d.data() }));
  const byName = (x, y) => Buffer.compare(Buffer.from(x.id), Buffer.from(y.id));
  for (let a = 0; a < 20; a += 1) {
    const want = documents.filter(d => d.a === a).sort((x, y) => x.b - y.b || byName(x, y)).map(d => d.id);
    assert.deepEqual(ids(await collection.where('a', '==', a).orderBy('b').get()), want, `a = ${a}`);
    assert.equal((await collection.where('a', '==', a).orderBy('b').count().get()).data().count, want.length);
  }
  for (let n = 0; n < 5; n += 1) {
    const want = documents.filter(d => d.tags[0] === `t${n}`).sort((x, y) => y.b - x.b || byName(y, x)).map(d => d.id);
    assert.deepEqual(ids(await collection.where('tags', 'array-contains', `t${n}`).orderBy('b', 'desc').get()), want, `t${n}`);
  }
});

test('a build can be cancelled, and an index deleted while it is built', { skip, timeout: 60_000 }, async t => {
  const operation = await create('built', index(ascending('b'), descending('a')));
  await admin.cancelOperation({ name: operation.name });
  const shown = await until(async () => {
    const [now] = await admin.getOperation({ name: operation.name });
    return now.done && now;
  }, 'the operation ends');
  if (shown.error) {
    t.diagnostic('it was cancelled in time');
    assert.equal(shown.error.code, 1);
    await until(async () => (await list('built')).length === 2, 'the cancelled index is gone');
  } else {
    await admin.deleteIndex({ name: (await list('built')).find(i => properties(i).startsWith('(b ASC')).name });
  }
  const third = await create('built', index(descending('b'), ascending('tags')));
  const { name } = (await list('built')).find(i => properties(i).startsWith('(b DESC'));
  await admin.deleteIndex({ name });
  await until(async () => (await admin.getOperation({ name: third.name }))[0].done, 'the operation ends');
  assert.equal((await list('built')).length, 2);
  await denied(db.collection('built').where('b', '>', 3).orderBy('b', 'desc').orderBy('tags'));
});
