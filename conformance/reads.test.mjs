// Everything that reads and is more than a plain query: explanations, partitions, nearest vectors, aggregations, reads in
// the past, and results that are larger than what a server should hold.

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { AggregateField, FieldPath, FieldValue, Timestamp } from '@google-cloud/firestore';
import { node, random, web, webClient } from './support/clients.mjs';
import { fields, value } from './support/raw.mjs';
import { start } from './support/suite.mjs';

let suite;
let server;
let db;
let raw;
let projectId;
let database;
let root;

before(async () => {
  suite = await start('reads');
  ({ server, db, raw, projectId, database, root } = suite);
});

after(() => suite?.stop());

const doc = path => `${root}/${path}`;
const ids = snapshot => snapshot.docs.map(d => d.id);
const set = (path, data) => ({ update: { name: doc(path), fields: data } });
async function put(collection, documents) {
  const writes = Object.entries(documents).map(([id, data]) => set(`${collection}/${id}`, data));
  for (let i = 0; i < writes.length; i += 500) await raw.call('Commit', { database, writes: writes.slice(i, i + 500) });
}
const plain = documents => Object.fromEntries(Object.entries(documents).map(([id, data]) => [id, fields(data)]));
const number = n => Number(n ?? 0);
const entriesScanned = ({ executionStats: { debugStats } }) => number(debugStats.indexes_entries_scanned);

// Explanations.

const shelf = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`b${String(i).padStart(2, '0')}`, { kind: i % 3, rank: i }]));

test('explain: a plan without running it', async () => {
  await put('shelf', plain(shelf));
  const { metrics, snapshot } = await db.collection('shelf').where('kind', '==', 1).explain();
  assert.equal(snapshot, null);
  assert.equal(metrics.executionStats, null);
  assert.deepEqual(metrics.planSummary.indexesUsed, [{ query_scope: 'Collection', properties: '(kind ASC, __name__ ASC)' }]);
  const two = await db.collection('shelf').where('kind', '==', 1).where('rank', '==', 4).explain({ analyze: false });
  assert.deepEqual(new Set(two.metrics.planSummary.indexesUsed.map(i => i.properties)), new Set(['(kind ASC, __name__ ASC)', '(rank ASC, __name__ ASC)']));
  const sorted = await db.collection('shelf').orderBy('rank', 'desc').explain();
  assert.equal(sorted.metrics.planSummary.indexesUsed.length, 1);
  assert.match(sorted.metrics.planSummary.indexesUsed[0].properties, /^\(rank (ASC|DESC), __name__ (ASC|DESC)\)$/);
});

test('explain: a plan, the results, and what they cost', async () => {
  const query = db.collection('shelf').where('kind', '==', 1).limit(5);
  const { metrics, snapshot } = await query.explain({ analyze: true });
  assert.deepEqual(ids(snapshot), ids(await query.get()));
  assert.equal(metrics.planSummary.indexesUsed.length, 1);
  const stats = metrics.executionStats;
  assert.equal(stats.resultsReturned, 5);
  assert.equal(stats.readOperations, 5);
  assert.ok(number(stats.executionDuration.seconds) >= 0 && number(stats.executionDuration.nanoseconds) >= 0);
  const debug = stats.debugStats;
  assert.ok(entriesScanned(metrics) >= 5 && entriesScanned(metrics) <= 6, JSON.stringify(debug));
  assert.ok(number(debug.documents_scanned) >= 5 && number(debug.documents_scanned) <= 6, JSON.stringify(debug));
  assert.ok(debug.billing_details, JSON.stringify(debug));

  const empty = await db.collection('shelf').where('kind', '==', 77).explain({ analyze: true });
  assert.equal(empty.snapshot.size, 0);
  assert.equal(empty.metrics.executionStats.resultsReturned, 0);
});

test('explain: a stream of documents, and the metrics at its end', async () => {
  const seen = [];
  let metrics;
  await new Promise((resolve, reject) => db.collection('shelf').where('kind', '==', 2).explainStream({ analyze: true })
    .on('data', piece => {
      if (piece.document) {
        assert.equal(metrics, undefined, 'metrics come last');
        seen.push(piece.document.id);
      }
      if (piece.metrics) metrics = piece.metrics;
    })
    .on('error', reject).on('end', resolve));
  assert.equal(seen.length, 20);
  assert.equal(metrics.executionStats.resultsReturned, 20);
});

test('explain: an aggregation', async () => {
  const count = db.collection('shelf').where('kind', '==', 1).count();
  const planned = await count.explain();
  assert.equal(planned.snapshot, null);
  assert.deepEqual(planned.metrics.planSummary.indexesUsed.map(i => i.properties), ['(kind ASC, __name__ ASC)']);
  const { metrics, snapshot } = await count.explain({ analyze: true });
  assert.equal(snapshot.data().count, 20);
  assert.equal(metrics.executionStats.resultsReturned, 1);
  assert.equal(metrics.executionStats.readOperations, 1);
  assert.equal(number(metrics.executionStats.debugStats.documents_scanned), 0, 'counted from the index alone');
  assert.ok(entriesScanned(metrics) >= 20);
});

// Partitions.

test('partitions cut a collection group into parts that hold everything once', async () => {
  const documents = {};
  for (let i = 0; i < 600; i += 1) documents[`p${i % 7}/parts/d${String(i).padStart(3, '0')}`] = fields({ i });
  await put('owners', documents);
  const group = db.collectionGroup('parts');
  const whole = (await group.orderBy(FieldPath.documentId()).get()).docs.map(d => d.ref.path);
  assert.equal(whole.length, 600);
  for (const wanted of [2, 5]) {
    const partitions = [];
    for await (const partition of group.getPartitions(wanted)) partitions.push(partition);
    assert.ok(partitions.length >= 1 && partitions.length <= wanted, `${partitions.length} of ${wanted}`);
    const parts = await Promise.all(partitions.map(async p => (await p.toQuery().get()).docs.map(d => d.ref.path)));
    assert.deepEqual(parts.flat(), whole);
    assert.ok(partitions.length === wanted && parts.every(part => part.length > 0), `${parts.map(p => p.length)}`);
  }
  const { value: only } = await db.collectionGroup('nothing').getPartitions(3).next();
  assert.equal(only.startAt, undefined);
});

test('partitions, page by page', async () => {
  const request = { parent: root, structuredQuery: { from: [{ collectionId: 'parts', allDescendants: true }], orderBy: [{ field: { fieldPath: '__name__' }, direction: 'ASCENDING' }] }, partitionCount: 6 };
  const all = await raw.call('PartitionQuery', request);
  assert.ok(all.partitions.length >= 1 && all.partitions.length <= 6);
  const paged = [];
  let pageToken = '';
  do {
    const page = await raw.call('PartitionQuery', { ...request, pageSize: 2, pageToken });
    assert.ok((page.partitions ?? []).length <= 2);
    paged.push(...(page.partitions ?? []));
    pageToken = page.nextPageToken ?? '';
  } while (pageToken);
  const keys = partitions => partitions.map(p => p.values[0].referenceValue).sort();
  assert.deepEqual(keys(paged), keys(all.partitions));
  for (const [what, more] of [
    ['a filter', { structuredQuery: { ...request.structuredQuery, where: { fieldFilter: { field: { fieldPath: 'i' }, op: 'EQUAL', value: value(1) } } } }],
    ['a single collection', { structuredQuery: { ...request.structuredQuery, from: [{ collectionId: 'parts' }] } }],
    ['a limit', { structuredQuery: { ...request.structuredQuery, limit: { value: 3 } } }],
    ['no partitions', { partitionCount: -1 }],
    ['a foreign token', { pageToken: 'rubbish' }],
  ]) {
    await assert.rejects(raw.call('PartitionQuery', { ...request, ...more }), error => error.code === 3 && error.message.length > 0, what);
  }
});

// Nearest vectors.

const DIMENSIONS = 8;
const vectors = {};
const target = Array.from({ length: DIMENSIONS }, (_, i) => Math.sin(i + 1));
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const length = a => Math.sqrt(dot(a, a));
const MEASURES = {
  EUCLIDEAN: v => Math.sqrt(v.reduce((sum, x, i) => sum + (x - target[i]) ** 2, 0)),
  COSINE: v => 1 - dot(v, target) / (length(v) * length(target)),
  DOT_PRODUCT: v => dot(v, target),
};
// Ids and distances, the nearest first.
const nearest = (measure, accepts = () => true) =>
  Object.entries(vectors).filter(([, d]) => accepts(d)).map(([id, d]) => [id, MEASURES[measure](d.at)])
    .sort((x, y) => (measure === 'DOT_PRODUCT' ? y[1] - x[1] : x[1] - y[1]));

test('findNearest: three measures, with thresholds, distances, filters and limits', async () => {
  const next = random(7);
  const writer = db.bulkWriter({ throttling: false });
  for (let i = 0; i < 300; i += 1) {
    vectors[`v${String(i).padStart(3, '0')}`] = { at: Array.from({ length: DIMENSIONS }, () => next() * 2 - 1), color: i % 3 === 0 ? 'red' : 'blue', i };
  }
  for (const [id, { at, ...rest }] of Object.entries(vectors)) writer.set(db.doc(`vectors/${id}`), { ...rest, at: FieldValue.vector(at) });
  // None of these has a place: another number of dimensions, no vector, no field.
  writer.set(db.doc('vectors/x-short'), { at: FieldValue.vector(target.slice(1)), color: 'red' });
  writer.set(db.doc('vectors/x-array'), { at: target, color: 'red' });
  writer.set(db.doc('vectors/x-none'), { color: 'red' });
  await writer.close();

  const close = (got, want, what) => {
    assert.deepEqual(got.map(([id]) => id), want.map(([id]) => id), what);
    got.forEach(([, d], i) => assert.ok(Math.abs(d - want[i][1]) < 1e-9, `${what}: ${d} is not ${want[i][1]}`));
  };
  for (const distanceMeasure of Object.keys(MEASURES)) {
    const ask = async (query, more, field = 'distance') => {
      const got = await query.findNearest({ vectorField: 'at', queryVector: target, distanceMeasure, limit: 10, distanceResultField: field, ...more }).get();
      return got.docs.map(d => [d.id, d.get(field)]);
    };
    const all = db.collection('vectors');
    const want = nearest(distanceMeasure);
    close(await ask(all), want.slice(0, 10), distanceMeasure);
    close(await ask(all, { limit: 1000 }), want, `${distanceMeasure}, all`);
    const distanceThreshold = (want[6][1] + want[7][1]) / 2;
    close(await ask(all, { distanceThreshold }), want.slice(0, 7), `${distanceMeasure} with a threshold`);
    close(await ask(all.where('color', '==', 'red')), nearest(distanceMeasure, d => d.color === 'red').slice(0, 10), `${distanceMeasure} of the red ones`);
    close(await ask(all.where('i', '<', 100), { limit: 5 }), nearest(distanceMeasure, d => d.i < 100).slice(0, 5), `${distanceMeasure} of the first hundred`);
    const some = await all.select('color', 'distance').findNearest({ vectorField: 'at', queryVector: target, distanceMeasure, limit: 3, distanceResultField: 'distance' }).get();
    close(some.docs.map(d => [d.id, d.get('distance')]), want.slice(0, 3), `${distanceMeasure}, projected`);
    assert.deepEqual(Object.keys(some.docs[0].data()).sort(), ['color', 'distance']);
  }
  const plainly = await db.collection('vectors').findNearest({ vectorField: 'at', queryVector: FieldValue.vector(target), distanceMeasure: 'EUCLIDEAN', limit: 2 }).get();
  assert.deepEqual(ids(plainly), nearest('EUCLIDEAN').slice(0, 2).map(([id]) => id));
  assert.deepEqual(Object.keys(plainly.docs[0].data()).sort(), ['at', 'color', 'i']);
  const explained = await db.collection('vectors').findNearest({ vectorField: 'at', queryVector: target, distanceMeasure: 'EUCLIDEAN', limit: 2 }).explain({ analyze: true });
  assert.deepEqual(ids(explained.snapshot), ids(plainly));
  assert.equal(explained.metrics.executionStats.resultsReturned, 2);
});

test('findNearest: what makes no sense is refused by name', async () => {
  const vector = values => ({ mapValue: { fields: { __type__: { stringValue: '__vector__' }, value: { arrayValue: { values: values.map(doubleValue => ({ doubleValue })) } } } } });
  const good = { vectorField: { fieldPath: 'at' }, queryVector: vector(target), distanceMeasure: 'EUCLIDEAN', limit: { value: 3 } };
  const ask = (more, rest = {}) => raw.call('RunQuery', { parent: root, structuredQuery: { from: [{ collectionId: 'vectors' }], ...rest, findNearest: { ...good, ...more } } });
  assert.equal((await ask({})).filter(a => a.document).length, 3);
  for (const [what, more, rest] of [
    ['no limit', { limit: undefined }],
    ['limit 0', { limit: { value: 0 } }],
    ['limit 1001', { limit: { value: 1001 } }],
    ['no measure', { distanceMeasure: 0 }],
    ['no vector', { queryVector: value([1, 2]) }],
    ['2049 dimensions', { queryVector: vector(Array(2049).fill(1)) }],
    ['a zero vector by cosine', { queryVector: vector(Array(DIMENSIONS).fill(0)), distanceMeasure: 'COSINE' }],
    ['a bad result field', { distanceResultField: '__bad__' }],
    ['no field', { vectorField: { fieldPath: '' } }],
  ]) {
    await assert.rejects(ask(more, rest), error => error.code === 3 && error.message.length > 0, what);
  }
});

// Aggregations.

const aggregate = async (structuredQuery, aggregations, more = {}) => {
  const answers = await raw.call('RunAggregationQuery', { parent: root, structuredAggregationQuery: { structuredQuery, aggregations }, ...more });
  return answers.find(a => a.result)?.result.aggregateFields;
};

test('aggregations: up to, types, overflow', async () => {
  await put('sums', plain({ a: { n: 1, only: 1 }, b: { n: 2 }, c: { n: 'text' }, d: { n: null }, e: { m: 5 }, f: { n: 4 } }));
  await put('large', { a: { n: { integerValue: '9223372036854775807' } }, b: { n: { integerValue: '1' } } });
  await put('mixed', plain({ a: { n: 1 }, b: { n: 0.5 } }));
  await put('nan', { a: { n: { doubleValue: NaN } }, b: { n: { doubleValue: 1 } } });
  const from = collectionId => ({ from: [{ collectionId }] });
  const field = { field: { fieldPath: 'n' } };
  assert.deepEqual(await aggregate(from('sums'), [{ alias: 'c', count: {} }]), { c: { integerValue: '6' } });
  assert.deepEqual(await aggregate(from('sums'), [{ alias: 'c', count: { upTo: { value: 3 } } }]), { c: { integerValue: '3' } });
  assert.deepEqual(await aggregate(from('sums'), [{ alias: 'c', count: { upTo: { value: 100 } } }]), { c: { integerValue: '6' } });
  assert.deepEqual(await aggregate({ ...from('sums'), limit: { value: 2 } }, [{ alias: 'c', count: { upTo: { value: 3 } } }]), { c: { integerValue: '2' } });
  assert.deepEqual(await aggregate(from('sums'), [{ alias: 's', sum: field }, { alias: 'a', avg: field }]), { s: { integerValue: '7' }, a: { doubleValue: 7 / 3 } });
  assert.deepEqual(await aggregate(from('large'), [{ alias: 's', sum: field }]), { s: { doubleValue: 9223372036854775808 } });
  assert.deepEqual(await aggregate(from('mixed'), [{ alias: 's', sum: field }, { alias: 'a', avg: field }]), { s: { doubleValue: 1.5 }, a: { doubleValue: 0.75 } });
  const nan = await aggregate(from('nan'), [{ alias: 's', sum: field }, { alias: 'a', avg: field }]);
  assert.ok(Number.isNaN(nan.s.doubleValue) && Number.isNaN(nan.a.doubleValue));
  assert.deepEqual(await aggregate(from('none'), [{ alias: 's', sum: field }, { alias: 'a', avg: field }, { alias: 'c', count: {} }]), { s: { integerValue: '0' }, a: { nullValue: 'NULL_VALUE' }, c: { integerValue: '0' } });
  // Several fields: only documents that have all of them count, also for the count beside them.
  assert.deepEqual(
    await aggregate(from('sums'), [{ alias: 'c', count: {} }, { alias: 's', sum: field }, { alias: 'o', sum: { field: { fieldPath: 'only' } } }]),
    { c: { integerValue: '1' }, s: { integerValue: '1' }, o: { integerValue: '1' } },
  );
  for (const [what, aggregations] of [
    ['none', []],
    ['six', Array.from({ length: 6 }, (_, i) => ({ alias: `c${i}`, count: {} }))],
    ['one alias twice', [{ alias: 'c', count: {} }, { alias: 'c', sum: field }]],
    ['up to 0', [{ alias: 'c', count: { upTo: { value: 0 } } }]],
    ['up to -1', [{ alias: 'c', count: { upTo: { value: -1 } } }]],
    ['a bad field', [{ alias: 's', sum: { field: { fieldPath: 'a..b' } } }]],
    ['nothing', [{ alias: 's' }]],
  ]) {
    await assert.rejects(aggregate(from('sums'), aggregations), error => error.code === 3 && error.message.length > 0, what);
  }
});

test('aggregations honour filters, cursors, offsets and limits, from both SDKs', async () => {
  const query = db.collection('shelf').orderBy('rank').startAt(10).offset(2).limit(20);
  const result = (await query.aggregate({ n: AggregateField.count(), s: AggregateField.sum('rank'), m: AggregateField.average('rank') }).get()).data();
  const ranks = Array.from({ length: 20 }, (_, i) => 12 + i);
  const sum = ranks.reduce((a, b) => a + b, 0);
  assert.deepEqual(result, { n: 20, s: sum, m: sum / 20 });
  const browser = webClient(server.host, projectId);
  const fromWeb = await web.getAggregateFromServer(
    web.query(web.collection(browser.db, 'shelf'), web.where('kind', '==', 1), web.where('rank', '<', 30)),
    { n: web.count(), s: web.sum('rank'), m: web.average('rank') },
  );
  const some = Object.values(shelf).filter(d => d.kind === 1 && d.rank < 30).map(d => d.rank);
  assert.deepEqual(fromWeb.data(), { n: some.length, s: some.reduce((a, b) => a + b, 0), m: some.reduce((a, b) => a + b, 0) / some.length });
  await browser.close();
});

// The past.

test('read time: documents, queries and counts as they were', async () => {
  const ref = db.collection('past');
  await ref.doc('a').set({ n: 1 });
  const { writeTime } = await ref.doc('b').set({ n: 2 });
  await ref.doc('a').set({ n: 10 });
  await ref.doc('b').delete();
  await ref.doc('c').set({ n: 3 });
  const seen = await db.runTransaction(async tx => {
    const one = await tx.get(ref.doc('a'));
    const many = await tx.get(ref.orderBy('n'));
    const filtered = await tx.get(ref.where('n', '>', 1));
    const count = await tx.get(ref.count());
    const none = await tx.get(ref.doc('c'));
    return [one.data(), many.docs.map(d => [d.id, d.get('n')]), ids(filtered), count.data().count, none.exists];
  }, { readOnly: true, readTime: writeTime });
  assert.deepEqual(seen, [{ n: 1 }, [['a', 1], ['b', 2]], ['b'], 2, false]);
  assert.deepEqual((await ref.orderBy('n').get()).docs.map(d => [d.id, d.get('n')]), [['c', 3], ['a', 10]]);

  const readTime = { seconds: writeTime.seconds, nanos: writeTime.nanoseconds };
  const got = await raw.call('BatchGetDocuments', { database, documents: [doc('past/a')], readTime });
  assert.deepEqual(got[0].found.fields, { n: { integerValue: '1' } });
  assert.deepEqual((await raw.call('GetDocument', { name: doc('past/b'), readTime })).fields, { n: { integerValue: '2' } });
  const listed = await raw.call('ListDocuments', { parent: root, collectionId: 'past', readTime });
  assert.deepEqual(listed.documents.map(d => d.name.split('/').pop()), ['a', 'b']);
  const queried = await raw.call('RunQuery', { parent: root, structuredQuery: { from: [{ collectionId: 'past' }], where: { fieldFilter: { field: { fieldPath: 'n' }, op: 'LESS_THAN', value: value(5) } } }, readTime });
  assert.deepEqual(queried.filter(a => a.document).map(a => a.document.name.split('/').pop()), ['a', 'b']);
  const counted = await aggregate({ from: [{ collectionId: 'past' }] }, [{ alias: 'c', count: {} }, { alias: 's', sum: { field: { fieldPath: 'n' } } }], { readTime });
  assert.deepEqual(counted, { c: { integerValue: '2' }, s: { integerValue: '3' } });

  const ahead = Timestamp.fromMillis(Date.now() + 3_600_000);
  await assert.rejects(raw.call('GetDocument', { name: doc('past/a'), readTime: { seconds: ahead.seconds } }), { code: 3 });
  await assert.rejects(raw.call('GetDocument', { name: doc('past/a'), readTime: { seconds: 1_000_000_000 } }), error => [3, 9].includes(error.code) && error.message.length > 0);
});

// Large results.

const MANY = 20_000;
const WIDE = 2_000;
const padded = i => `d${String(i).padStart(5, '0')}`;

const memoryKib = async (field, pid) => Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(await readFile(`/proc/${pid}/status`, 'utf8'))[1]);

test('a large result streams, and the server does not hold it', { timeout: 120_000 }, async t => {
  const text = 'x'.repeat(WIDE);
  let busy = [];
  for (let i = 0; i < MANY; i += 400) {
    const writes = Array.from({ length: 400 }, (_, k) => set(`many/${padded(i + k)}`, { n: { integerValue: i + k }, blob: { bytesValue: Buffer.from(text) } }));
    busy.push(raw.call('Commit', { database, writes }));
    if (busy.length === 4) busy = (await Promise.all(busy), []);
  }
  await Promise.all(busy);
  const pid = server.child?.pid;
  const measured = pid !== undefined && process.platform === 'linux';
  let before = 0;
  const read = async (query, slow) => {
    let count = 0;
    for await (const document of query.stream()) {
      assert.equal(document.get('n'), count);
      count += 1;
      // A reader that stops for a while is not a reason to read ahead without end.
      if (slow && count % 5_000 === 0) await new Promise(resolve => setTimeout(resolve, 200));
    }
    assert.equal(count, MANY);
  };
  const many = db.collection('many');
  // Once to warm the caches that are bounded by themselves.
  await read(many.orderBy('n'), false);
  if (measured) {
    await writeFile(`/proc/${pid}/clear_refs`, '5');
    before = await memoryKib('VmRSS', pid);
  }
  await Promise.all([read(many.orderBy('n'), true), read(many, true)]);
  if (measured) {
    const grown = (await memoryKib('VmHWM', pid)) - before;
    t.diagnostic(`two results of ${Math.round(MANY * WIDE / 1024 / 1024)} MiB each: the server grew by ${Math.round(grown / 1024)} MiB`);
    assert.ok(grown * 1024 < MANY * WIDE / 2, `grew by ${grown} KiB`);
  }
});

test('a large offset, and a large count', async () => {
  const many = db.collection('many');
  const far = await many.orderBy('n').offset(15_000).limit(3).get();
  assert.deepEqual(ids(far), [15_000, 15_001, 15_002].map(padded));
  const end = await many.orderBy('n', 'desc').offset(MANY - 2).get();
  assert.deepEqual(ids(end), [padded(1), padded(0)]);
  assert.equal((await many.offset(MANY + 5).get()).size, 0);
  assert.equal((await many.count().get()).data().count, MANY);
  assert.equal((await many.where('n', '>=', 5_000).where('n', '<', 12_345).count().get()).data().count, 7_345);
  const { s } = (await many.aggregate({ s: AggregateField.sum('n') }).get()).data();
  assert.equal(s, MANY * (MANY - 1) / 2);
});
