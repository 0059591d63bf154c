// Bad input: a clear error that names what was wrong, with its code, and nothing left behind.

import assert from 'node:assert/strict';
import net from 'node:net';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { node } from './support/clients.mjs';
import { fields, value } from './support/raw.mjs';
import { start } from './support/suite.mjs';

let suite;
let server;
let db;
let raw;
let database;
let root;

before(async () => {
  suite = await start('errors');
  ({ server, db, raw, database, root } = suite);
});

after(() => suite?.stop());

const doc = path => `${root}/${path}`;
const set = (path, data) => ({ update: { name: doc(path), fields: data } });
const nested = depth => (depth === 0 ? value(1) : { mapValue: { fields: { a: nested(depth - 1) } } });
const filter = (fieldPath, op, v) => ({ fieldFilter: { field: { fieldPath }, op, value: v } });
const order = fieldPath => ({ field: { fieldPath } });
const long = 'x'.repeat(1501);

// Name, writes of one commit, code, text.
const commits = [
  ['a document over 1 MiB', () => [set('bad/big', { a: value('x'.repeat(600_000)), b: value('y'.repeat(500_000)) })], 3, /exceeds the maximum allowed size of 1,048,576 bytes/],
  ['a value over its limit', () => [set('bad/value', { a: value('x'.repeat(1_048_500)) })], 3, /longer than 1048487 bytes|exceeds the maximum allowed size/],
  ['21 levels of nesting', () => [set('bad/deep', { a: nested(21) })], 3, /nest|depth|deep|levels/i],
  ['30 levels of nesting', () => [set('bad/deep', { a: nested(30) })], 3, /nest|depth|deep|levels|decode/i],
  ['an array in an array', () => [set('bad/array', { a: value([[1]]) })], 3, /Cannot convert an array value in an array value/],
  ['a reserved field name', () => [set('bad/field', { __x__: value(1) })], 3, /__x__.*reserved|reserved.*__x__/i],
  ['an empty field name', () => [set('bad/field', { '': value(1) })], 3, /empty/i],
  ['a long field name', () => [set('bad/field', { [long]: value(1) })], 3, /longer than 1500 bytes|1500/],
  ['a reserved document id', () => [set('bad/__doc__', {})], 3, /Resource id "__doc__" is invalid because it is reserved/],
  ['a reserved collection id', () => [set('__bad__/x', {})], 3, /"__bad__" is invalid because it is reserved/],
  ['the id ..', () => [set('bad/..', {})], 3, /\.\./],
  ['an id over 1500 bytes', () => [set(`bad/${long}`, {})], 3, /1500/],
  ['a name that is a collection', () => [set('bad/a/b', {})], 3, /bad\/a\/b/],
  ['a document of another database', () => [{ update: { name: doc('bad/a').replace('(default)', 'other'), fields: {} } }], 3, /other/],
  ['two conditions on one field', () => [{ ...set('bad/t', {}), updateTransforms: [{ fieldPath: 'a', increment: value(1) }, { fieldPath: 'a', increment: value(1) }] }], 3, /a/],
  ['an increment by text', () => [{ ...set('bad/t', {}), updateTransforms: [{ fieldPath: 'a', increment: value('x') }] }], 3, /./],
  ['501 transforms', () => [{ ...set('bad/t', {}), updateTransforms: Array.from({ length: 501 }, (_, i) => ({ fieldPath: `f${i}`, increment: value(1) })) }], 3, /500/],
  ['a bad field path in a mask', () => [{ ...set('bad/m', {}), updateMask: { fieldPaths: ['a..b'] } }], 3, /Invalid property path "a\.\.b"/],
  ['a write without operation', () => [{}], 3, /operation/],
  ['a latitude of 91', () => [set('bad/geo', { a: { geoPointValue: { latitude: 91, longitude: 0 } } })], 3, /latitude/i],
  ['a timestamp in the year 10000', () => [set('bad/time', { a: { timestampValue: { seconds: 253402300800 } } })], 3, /./],
  ['an unknown transaction', () => [set('bad/a', {})], 3, /Invalid transaction|no longer valid/, { transaction: Buffer.from('nonsense') }],
  ['too many index entries', () => [set('bad/many', { a: { arrayValue: { values: Array.from({ length: 41_000 }, (_, i) => value(i)) } } })], 3, /too many index entries/],
];

for (const [name, writes, code, text, more] of commits) {
  test(`commit: ${name}`, async () => {
    const good = set('good/companion', { n: value(1) });
    await assert.rejects(raw.call('Commit', { database, writes: [good, ...writes()], ...more }), error => {
      assert.equal(error.code, code, error.message);
      assert.match(error.message, text);
      return true;
    });
    const got = await raw.call('BatchGetDocuments', { database, documents: [doc('good/companion')] });
    assert.ok(got[0].missing, 'the refused commit left nothing behind');
  });
}

// Name, query, text.
const Q = 'bad-query';
const queries = [
  ['too many cursor values', { orderBy: [order('a')], startAt: { values: [value(1), value(2)] } }, /Cursor has too many values\./],
  ['a name cursor that is no reference', { orderBy: [order('__name__')], startAt: { values: [value(1)] } }, /Cursor __key__ value is not a document reference\./],
  ['an order twice', { orderBy: [order('a'), order('a')] }, /order by clause cannot contain duplicate fields a/],
  ['a kindless filter', { from: [{ allDescendants: true }], where: filter('n', 'EQUAL', value(1)) }, /kind is required for filter: n/],
  ['a kindless order', { from: [{ allDescendants: true }], orderBy: [order('n')] }, /kind is required for all orders except __key__ ascending/],
  ['an empty composite', { where: { compositeFilter: { op: 'AND', filters: [] } } }, /Composite filter must have at least one sub-filter\./],
  ['a name compared to text', { where: filter('__name__', 'EQUAL', value('x')) }, /__key__ filter value must be a Key/],
  ['not-in with 11 values', { where: filter('a', 'NOT_IN', value(Array.from({ length: 11 }, (_, i) => i))) }, /'NOT_IN' supports up to 10 comparison values\./],
  ['11 inequality fields', { where: { compositeFilter: { op: 'AND', filters: Array.from({ length: 11 }, (_, i) => filter(`f${i}`, 'GREATER_THAN', value(1))) } } }, /The query contains 11 distinct inequality fields: .*A query may not have more than 10 distinct inequality fields\./],
  ['31 disjunctions', { where: filter('a', 'IN', value(Array.from({ length: 31 }, (_, i) => i))) }, /30/],
  ['an empty field path', { orderBy: [order('')] }, /Invalid empty property path string\./],
  ['a bad field path', { orderBy: [order('a..b')] }, /Invalid property path "a\.\.b"\. Unquoted property paths must match regex/],
  ['a reserved field', { orderBy: [order('__x__')] }, /Invalid reserved name in field path __x__/],
  ['a long field path', { orderBy: [order(long)] }, /property path is longer than 1500 bytes\./],
  ['a reserved collection id', { from: [{ collectionId: '__x__' }] }, /Collection id "__x__" is invalid because it is reserved\./],
  ['a collection id with a slash', { from: [{ collectionId: 'a/b' }] }, /Collection id "a\/b".*contains "\/"/],
  ['a long collection id', { from: [{ collectionId: long }] }, /The query kind is longer than 1500 bytes\./],
  ['a negative limit', { limit: { value: -1 } }, /limit/i],
  ['a negative offset', { offset: -1 }, /offset/i],
  ['an unset operator', { where: filter('a', 'OPERATOR_UNSPECIFIED', value(1)) }, /op/i],
];

for (const [name, structuredQuery, text] of queries) {
  test(`query: ${name}`, async () => {
    await assert.rejects(raw.call('RunQuery', { parent: root, structuredQuery: { from: [{ collectionId: Q }], ...structuredQuery } }), error => {
      assert.equal(error.code, 3, error.message);
      assert.match(error.message, text);
      return true;
    });
  });
}

test('aggregations: too many, none, one alias twice', async () => {
  const ask = aggregations => raw.call('RunAggregationQuery', { parent: root, structuredAggregationQuery: { structuredQuery: { from: [{ collectionId: Q }] }, aggregations } });
  const count = alias => ({ alias, count: {} });
  await assert.rejects(ask(['a', 'b', 'c', 'd', 'e', 'f'].map(count)), e => e.code === 3 && /The maximum number of aggregations allowed in an aggregation query is 5\. Received: 6/.test(e.message));
  await assert.rejects(ask([]), e => e.code === 3 && /Aggregations can not be empty/.test(e.message));
  await assert.rejects(ask([count('a'), count('a')]), e => e.code === 3 && /Aggregation aliases contain duplicate alias/.test(e.message));
});

test('what cannot be asked for is refused by name', async () => {
  const reject = (method, request, text) => assert.rejects(raw.call(method, request), e => {
    assert.equal(e.code, 3, e.message);
    assert.match(e.message, text);
    return true;
  });
  const structuredQuery = { from: [{ collectionId: Q }] };
  const findNearest = { vectorField: { fieldPath: 'v' }, queryVector: value([1]), distanceMeasure: 'COSINE', limit: { value: 1 } };
  await reject('RunQuery', { parent: root, structuredQuery: { ...structuredQuery, findNearest } }, /query_vector/);
  await reject('RunAggregationQuery', { parent: root, structuredAggregationQuery: { structuredQuery: { ...structuredQuery, findNearest: { ...findNearest, queryVector: value([1.5]) } }, aggregations: [{ alias: 'n', count: {} }] } }, /find_nearest/);
  await reject('PartitionQuery', { parent: root, structuredQuery, partitionCount: 2 }, /all_descendants/);
});

test('names that are no names', async () => {
  await assert.rejects(raw.call('GetDocument', { name: 'nonsense' }), { code: 3 });
  await assert.rejects(raw.call('Commit', { database: 'projects/p', writes: [] }), { code: 3 });
  await assert.rejects(raw.call('BatchGetDocuments', { database, documents: [doc('a/b').replace('(default)', 'other')] }), { code: 3 });
  await assert.rejects(raw.call('ListDocuments', { parent: root, collectionId: 'c', pageToken: 'nonsense' }), { code: 3 });
});

test('a request over 10 MiB is refused in words', async () => {
  const writes = Array.from({ length: 13 }, (_, i) => set(`huge/d${i}`, { a: value('x'.repeat(1_000_000)) }));
  await assert.rejects(raw.call('Commit', { database, writes }), e => e.code === 3 && /Request payload size exceeds the limit: 11534336 bytes\./.test(e.message));
  assert.equal((await db.collection('huge').get()).size, 0);
});

test('a stream that sends rubbish ends with a clear error', async () => {
  for (const method of ['Listen', 'Write']) {
    const stream = raw.stream(method);
    stream.send(Buffer.from([0xff, 0xff, 0xff, 0xff, 0x01]));
    const end = await stream.next();
    assert.equal(end.error?.code, 3, `${method}: ${JSON.stringify(end)}`);
  }
  const listen = raw.stream('Listen');
  listen.send({ database, addTarget: { documents: { documents: [doc('a/b')] }, targetId: -1 } });
  let end;
  do end = await listen.next(); while (!end.error);
  assert.equal(end.error.code, 3);
  const mixed = raw.stream('Listen');
  mixed.send({ database: 'nonsense', addTarget: { documents: { documents: [doc('a/b')] }, targetId: 1 } });
  assert.equal((await mixed.next()).error.code, 3);
});

test('ten thousand connections that say nothing do not keep others from working', { timeout: 120_000 }, async t => {
  // Two descriptors of this machine for each; fewer where the limit is lower.
  const wanted = Number(process.env.SILENT_CONNECTIONS ?? 10_000);
  const sockets = [];
  let refused = 0;
  for (let i = 0; i < wanted; i += 500) {
    await Promise.all(Array.from({ length: Math.min(500, wanted - i) }, async () => {
      const socket = net.connect(server.port, '127.0.0.1');
      socket.on('error', () => { refused += 1; });
      sockets.push(socket);
      await Promise.race([once(socket, 'connect').catch(() => {}), once(socket, 'close').catch(() => {})]);
    }));
  }
  t.diagnostic(`${sockets.length - refused} connections open`);
  const fresh = node(server.host, 'silent');
  await fresh.doc('still/works').set({ ok: true });
  assert.equal((await fresh.doc('still/works').get()).get('ok'), true);
  await fresh.terminate();
  sockets.forEach(socket => socket.destroy());
  assert.ok(refused < wanted / 2, `${refused} of ${wanted} were refused`);
});
