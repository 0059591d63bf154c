// Plain HTTP with JSON: every address, what is refused and how, and the published SDKs that speak it: `lite`, which has
// nothing else, and the Node SDK when it is asked to.

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import http from 'node:http';
import { after, before, test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { FieldValue, Filter, GeoPoint, Timestamp } from '@google-cloud/firestore';
import { deleteApp, initializeApp } from 'firebase/app';
import * as lite from 'firebase/firestore/lite';
import { node, random } from './support/clients.mjs';
import { start } from './support/suite.mjs';
import { documents } from './support/values.mjs';

const PIECES = 22;
const PIECE_LEN = 500_000;

lite.setLogLevel('silent');

let suite;
let db;
let rest;
let liteApp;
let liteDb;
let base;
let root;
let database;

before(async () => {
  suite = await start('rest');
  ({ db, root, database } = suite);
  base = `http://${suite.server.host}/v1/`;
  liteApp = initializeApp({ projectId: suite.projectId, apiKey: 'none' }, 'rest');
  liteDb = lite.initializeFirestore(liteApp, {});
  lite.connectFirestoreEmulator(liteDb, '127.0.0.1', Number(suite.server.host.split(':')[1]));
  // The SDK signs a token of its own with it, and asks nobody.
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const private_key = privateKey.export({ type: 'pkcs8', format: 'pem' });
  rest = node(suite.server.host, suite.projectId, { preferRest: true, credentials: { client_email: 'a@b.example', private_key } });
});

after(async () => {
  await rest?.terminate();
  if (liteApp) await deleteApp(liteApp);
  await suite?.stop();
});

// A request and its answer: the status, the text, and what the text says.
async function ask(method, path, body, { headers, ...options } = {}) {
  const answer = await fetch(base + path, {
    method,
    headers: { 'content-type': 'text/plain', ...headers },
    body: body === undefined || typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
    ...options,
  });
  const text = await answer.text();
  return { status: answer.status, headers: answer.headers, text, said: text ? JSON.parse(text) : undefined };
}

async function said(method, path, body) {
  const { status, text, said } = await ask(method, path, body);
  assert.equal(status, 200, text);
  return said;
}

async function refused(method, path, body, code, status, message) {
  const answer = await ask(method, path, body);
  assert.equal(answer.status, code, answer.text);
  const error = Array.isArray(answer.said) ? answer.said[0].error : answer.said.error;
  assert.equal(error.code, code);
  assert.equal(error.status, status);
  if (message instanceof RegExp) assert.match(error.message, message);
  else assert.equal(error.message, message);
  return answer.said;
}

const int = n => ({ integerValue: String(n) });
const text = s => ({ stringValue: s });
const STAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?Z$/;

test('a document is created, read, changed and deleted', async () => {
  const made = await said('POST', `${root}/single?documentId=a`, { fields: { n: int(1), t: text('é') } });
  assert.equal(made.name, `${root}/single/a`);
  assert.match(made.createTime, STAMP);
  assert.deepEqual(await said('GET', `${root}/single/a`), made);
  assert.deepEqual(await said('GET', `${root.replace('(default)', '%28default%29')}/single/%61`), made);
  assert.deepEqual((await said('GET', `${root}/single/a?mask.fieldPaths=n`)).fields, { n: int(1) });
  assert.deepEqual((await said('GET', `${root}/single/a?mask.field_paths=t&mask.fieldPaths=x`)).fields, { t: text('é') });
  const changed = await said('PATCH', `${root}/single/a?updateMask.fieldPaths=n&updateMask.fieldPaths=t&mask.fieldPaths=n&currentDocument.exists=true`, { fields: { n: int(2) } });
  assert.deepEqual(changed.fields, { n: int(2) });
  assert.deepEqual((await said('GET', `${root}/single/a`)).fields, { n: int(2) });
  assert.deepEqual((await said('GET', `${root}/single/a?readTime=${made.updateTime}`)).fields, made.fields);
  await refused('PATCH', `${root}/single/a?currentDocument.updateTime=${made.updateTime}`, { fields: {} }, 400, 'FAILED_PRECONDITION', /stored version/);
  await refused('POST', `${root}/single?documentId=a`, {}, 409, 'ALREADY_EXISTS', `Document already exists: ${root}/single/a`);
  const chosen = await said('POST', `${root}/single/a/below`, undefined);
  assert.match(chosen.name, /\/single\/a\/below\/[A-Za-z0-9]{20}$/);
  assert.deepEqual(await said('DELETE', `${root}/single/a?currentDocument.exists=true`), {});
  await refused('GET', `${root}/single/a`, undefined, 404, 'NOT_FOUND', `Document "${root}/single/a" not found.`);
  await refused('DELETE', `${root}/single/a?currentDocument.exists=true`, undefined, 404, 'NOT_FOUND', `No document to update: ${root}/single/a`);
  await refused('PATCH', `${root}/single/a?currentDocument.exists=true`, {}, 404, 'NOT_FOUND', `No document to update: ${root}/single/a`);
});

test('a collection is listed in pages, below a document too', async () => {
  for (const id of ['a', 'b', 'c']) await said('PATCH', `${root}/listed/${id}`, { fields: { n: int(id.charCodeAt(0)) } });
  await said('PATCH', `${root}/listed/gone/under/x`, {});
  const page = await said('GET', `${root}/listed?pageSize=2`);
  assert.deepEqual(page.documents.map(d => d.name), [`${root}/listed/a`, `${root}/listed/b`]);
  const next = await said('GET', `${root}/listed?pageSize=2&pageToken=${encodeURIComponent(page.nextPageToken)}`);
  assert.deepEqual([next.documents.map(d => d.name), next.nextPageToken], [[`${root}/listed/c`], undefined]);
  const sorted = await said('GET', `${root}/listed?orderBy=${encodeURIComponent('n desc')}&mask.fieldPaths=x`);
  assert.deepEqual(sorted.documents.map(d => [d.name.at(-1), d.fields]), [['c', undefined], ['b', undefined], ['a', undefined]]);
  const missing = await said('GET', `${root}/listed?showMissing=true`);
  assert.deepEqual(missing.documents.at(-1), { name: `${root}/listed/gone` });
  assert.deepEqual((await said('GET', `${root}/listed/gone/under`)).documents.length, 1);
  assert.deepEqual(await said('GET', `${root}/nothing`), {});
  assert.deepEqual(await said('POST', `${root}/listed/gone:listCollectionIds`, {}), { collectionIds: ['under'] });
  assert.ok((await said('POST', `${root}:listCollectionIds`, { pageSize: 1 })).nextPageToken);
});

test('commits, transactions and batches', async () => {
  const name = id => `${root}/written/${id}`;
  const set = (id, n) => ({ update: { name: name(id), fields: { n: int(n) } } });
  const done = await said('POST', `${root}:commit`, { writes: [set('a', 1), { ...set('b', 2), currentDocument: { exists: false } }, { transform: undefined, delete: name('c') }] });
  assert.equal(done.writeResults.length, 3);
  assert.match(done.commitTime, STAMP);
  // As pages end what they call a transaction.
  await said('POST', `${root}:commit`, { writes: [{ verify: name('a'), currentDocument: { updateTime: done.commitTime } }] });
  const { transaction } = await said('POST', `${root}:beginTransaction`, { options: { readWrite: {} } });
  const read = await said('POST', `${root}:batchGet`, { documents: [name('a'), name('z'), name('a')], transaction });
  assert.deepEqual(read.map(r => r.found?.fields.n ?? r.missing).sort(), [name('z'), int(1)].sort());
  assert.equal((await said('GET', `${name('b')}?transaction=${encodeURIComponent(transaction)}`)).fields.n.integerValue, '2');
  await said('POST', `${root}:commit`, { transaction, writes: [set('a', 3)] });
  const begun = await said('POST', `${root}:batchGet`, { documents: [name('a')], newTransaction: { readWrite: {} } });
  assert.ok(begun[0].transaction);
  assert.deepEqual(await said('POST', `${root}:rollback`, { transaction: begun[0].transaction }), {});
  const batch = await said('POST', `${root}:batchWrite`, { writes: [set('d', 1), { ...set('a', 1), currentDocument: { exists: false } }] });
  assert.deepEqual(batch.status.map(s => s.code ?? 0), [0, 6]);
  assert.equal(batch.writeResults.length, 2);
  await refused('POST', `${root}:commit`, { writes: [{ ...set('a', 1), currentDocument: { exists: false } }] }, 409, 'ALREADY_EXISTS', `Document already exists: ${name('a')}`);
  await refused('POST', `${root}:commit`, { transaction: 'AAAA', writes: [] }, 400, 'INVALID_ARGUMENT', /transaction/);
  // Two that want the same.
  const first = (await said('POST', `${root}:beginTransaction`, { options: { readWrite: { concurrencyMode: 'OPTIMISTIC' } } })).transaction;
  await said('POST', `${root}:batchGet`, { documents: [name('a')], transaction: first });
  await said('POST', `${root}:commit`, { writes: [set('a', 9)] });
  await refused('POST', `${root}:commit`, { transaction: first, writes: [set('a', 4)] }, 409, 'ABORTED', /contention/);
});

test('queries, aggregations and partitions', async () => {
  const writes = Array.from({ length: 300 }, (_, i) => ({ update: { name: `${root}/asked/d${String(i).padStart(3, '0')}`, fields: { n: int(i), g: int(i % 3) } } }));
  await said('POST', `${root}:commit`, { writes });
  const query = more => ({ structuredQuery: { from: [{ collectionId: 'asked' }], ...more } });
  const numbers = found => found.filter(r => r.document).map(r => Number(r.document.fields.n.integerValue));
  const all = await ask('POST', `${root}:runQuery`, query({ orderBy: [{ field: { fieldPath: 'n' }, direction: 'DESCENDING' }] }));
  assert.deepEqual(numbers(all.said), writes.map((_, i) => 299 - i));
  assert.match(all.headers.get('content-type'), /^application\/json/);
  const where = { fieldFilter: { field: { fieldPath: 'g' }, op: 'EQUAL', value: int(1) } };
  assert.deepEqual(numbers(await said('POST', `${root}:runQuery`, query({ where, limit: 2, offset: 1 }))), [4, 7]);
  // One element in place of a list, a number in place of a text, the other spelling, and numbers of enumerations.
  const odd = { structured_query: { from: { collection_id: 'asked' }, order_by: { field: { field_path: 'n' }, direction: 2 }, start_at: { before: true, values: { integerValue: 5 } }, limit: '2' } };
  assert.deepEqual(numbers(await said('POST', `${root}:runQuery`, odd)), [5, 4]);
  const empty = await said('POST', `${root}/asked/d000:runQuery`, query({}));
  assert.deepEqual(Object.keys(empty[0]), ['readTime']);
  const under = await said('POST', `${root}:runQuery`, { ...query({ limit: 1 }), newTransaction: {} });
  assert.ok(under[0].transaction && !under[0].document && under[1].document);
  const counted = await said('POST', `${root}:runAggregationQuery`, {
    structuredAggregationQuery: { ...query({ where }), aggregations: [{ alias: 'c', count: {} }, { alias: 's', sum: { field: { fieldPath: 'n' } } }, { alias: 'u', count: { upTo: '7' } }] },
  });
  assert.deepEqual(counted[0].result.aggregateFields, { c: int(100), s: int(14950), u: int(7) });
  const explained = await said('POST', `${root}:runQuery`, { ...query({ where }), explainOptions: { analyze: true } });
  const metrics = explained.at(-1).explainMetrics;
  assert.equal(metrics.planSummary.indexesUsed[0].query_scope, 'Collection');
  assert.equal(metrics.executionStats.resultsReturned, '100');
  assert.match(metrics.executionStats.executionDuration, /^[\d.]+s$/);
  const cut = await said('POST', `${root}:partitionQuery`, {
    structuredQuery: { from: [{ collectionId: 'asked', allDescendants: true }], orderBy: [{ field: { fieldPath: '__name__' }, direction: 'ASCENDING' }] },
    partitionCount: '3',
  });
  for (const { values, before } of cut.partitions ?? []) assert.ok(before && values[0].referenceValue.startsWith(`${root}/asked/`));
  await refused('POST', `${root}:runQuery`, query({ where: { fieldFilter: { ...where.fieldFilter, op: 'IN', value: { arrayValue: {} } } } }), 400, 'INVALID_ARGUMENT', /IN/);
});

test('indexes, fields and operations', async () => {
  const group = `${database}/collectionGroups/indexed`;
  const index = { queryScope: 'COLLECTION', fields: [{ fieldPath: 'a', order: 'ASCENDING' }, { fieldPath: 'b', order: 'DESCENDING' }] };
  const started = await said('POST', `${group}/indexes`, index);
  assert.match(started.name, /\/operations\//);
  assert.equal(started.metadata['@type'], 'type.googleapis.com/google.firestore.admin.v1.IndexOperationMetadata');
  const ended = await said('POST', `${started.name}:wait`, { timeout: '10s' });
  assert.equal(ended.done, true);
  assert.equal(ended.response['@type'], 'type.googleapis.com/google.firestore.admin.v1.Index');
  const { indexes } = await said('GET', `${group}/indexes?pageSize=10`);
  assert.equal(indexes.length, 1);
  assert.deepEqual([indexes[0].state, indexes[0].queryScope, indexes[0].fields[1]], ['READY', 'COLLECTION', { fieldPath: 'b', order: 'DESCENDING' }]);
  assert.deepEqual(await said('GET', indexes[0].name), indexes[0]);
  const numbered = await said('GET', `${indexes[0].name}?%24alt=json%3Benum-encoding=int`);
  assert.deepEqual([numbered.state, numbered.queryScope, numbered.fields[1]], [2, 1, { fieldPath: 'b', order: 2 }]);
  await refused('POST', `${group}/indexes`, index, 409, 'ALREADY_EXISTS', /index already exists/);
  assert.ok((await said('GET', `${database}/operations`)).operations.some(o => o.name === started.name));
  assert.equal((await said('GET', started.name)).done, true);
  assert.deepEqual(await said('DELETE', indexes[0].name), {});
  await refused('GET', indexes[0].name, undefined, 404, 'NOT_FOUND', /./);
  const field = await said('GET', `${group}/fields/a`);
  assert.equal(field.indexConfig.usesAncestorConfig, true);
  const changed = await said('PATCH', `${group}/fields/a?updateMask=indexConfig`, { indexConfig: { indexes: [] } });
  assert.match(changed.metadata['@type'], /FieldOperationMetadata$/);
  await said('POST', `${changed.name}:wait`, {});
  const listed = await said('GET', `${group}/fields?filter=${encodeURIComponent('indexConfig.usesAncestorConfig:false')}`);
  assert.deepEqual(listed.fields.map(f => f.name), [`${group}/fields/a`]);
  await said('DELETE', started.name);
  await refused('POST', `${started.name}:cancel`, undefined, 404, 'NOT_FOUND', /./);
});

test('what is wrong is said with its place', async () => {
  const wrong = await refused('POST', `${root}:runQuery`, { structuredQuery: { from: [{ collectionId: 'c', foo: 1 }], limit: 'abc' } }, 400, 'INVALID_ARGUMENT',
    `Invalid JSON payload received. Unknown name "foo" at 'structured_query.from[0]': Cannot find field.\nInvalid value at 'structured_query.limit' (TYPE_INT32), "abc"`);
  assert.ok(Array.isArray(wrong));
  const [{ '@type': type, fieldViolations }] = wrong[0].error.details;
  assert.equal(type, 'type.googleapis.com/google.rpc.BadRequest');
  assert.deepEqual(fieldViolations.map(v => v.field), ['structured_query.from[0]', 'structured_query.limit']);
  await refused('PATCH', `${root}/c/d`, { fields: { a: 'ds' } }, 400, 'INVALID_ARGUMENT', `Invalid value at 'document.fields[0].value' (type.googleapis.com/google.firestore.v1.Value), "ds"`);
  await refused('GET', `${root}/c/d?foo.bar=1`, undefined, 400, 'INVALID_ARGUMENT',
    `Invalid JSON payload received. Unknown name "foo": Cannot bind query parameter. Field 'foo' could not be found in request message.`);
  await refused('POST', `${root}:commit`, '{"writes":', 400, 'INVALID_ARGUMENT', /^Invalid JSON payload received\. /);
  await refused('POST', `${root}:executePipeline`, {}, 400, 'FAILED_PRECONDITION', /^Pipeline Operations are only available/);
  await refused('POST', `${root}:listen`, {}, 501, 'UNIMPLEMENTED', /Listen/);
  await refused('POST', `${database}:exportDocuments`, {}, 501, 'UNIMPLEMENTED', /ExportDocuments/);
  await refused('GET', `projects/${suite.projectId}/nothing`, undefined, 404, 'NOT_FOUND', `Nothing is found at /v1/projects/${suite.projectId}/nothing.`);
  const put = await ask('PUT', `${root}/c/d`, {});
  assert.deepEqual([put.status, put.headers.get('allow')], [405, 'GET, PATCH, DELETE']);
  assert.match(put.said.error.message, /^PUT is not known at /);
  assert.equal((await ask('HEAD', `${root}/c/d`)).status, 405);
  await refused('GET', `${root}/c/%ff`, undefined, 400, 'INVALID_ARGUMENT', /UTF-8/);
  await refused('GET', `${root}/c/__x__`, undefined, 400, 'INVALID_ARGUMENT', /__x__/);
  const deep = `${'{"arrayValue":{"values":['.repeat(60)}${']}}'.repeat(60)}`;
  await refused('PATCH', `${root}/c/d`, `{"fields":{"a":${deep}}}`, 400, 'INVALID_ARGUMENT', /recursion limit/);
  const large = `{"fields":{"a":{"stringValue":"${'x'.repeat(12_000_000)}"}}}`;
  await refused('PATCH', `${root}/c/d`, large, 400, 'INVALID_ARGUMENT', 'Request payload size exceeds the limit: 11534336 bytes.');
  const packed = await ask('PATCH', `${root}/c/d`, gzipSync(large), { headers: { 'content-encoding': 'gzip' } });
  assert.match(packed.said.error.message, /^Request payload size exceeds/);
  const broken = await ask('PATCH', `${root}/c/d`, 'not packed', { headers: { 'content-encoding': 'gzip' } });
  assert.match(broken.said.error.message, /not packed by gzip/);
});

test('who waits no longer is told so', async () => {
  const name = `${root}/waited/a`;
  await said('PATCH', name, {});
  const { transaction } = await said('POST', `${root}:beginTransaction`, { options: { readWrite: { concurrencyMode: 'PESSIMISTIC' } } });
  await said('POST', `${root}:batchGet`, { documents: [name], transaction });
  const late = await ask('POST', `${root}:commit`, { writes: [{ delete: name }] }, { headers: { 'x-server-timeout': '0.05' } });
  assert.deepEqual([late.status, late.said.error.status], [504, 'DEADLINE_EXCEEDED']);
  await said('POST', `${root}:rollback`, { transaction });
});

test('parameters of every method have no effect', async () => {
  await said('PATCH', `${root}/system/a?key=k&%24prettyPrint=0&prettyPrint=false&alt=json&%24httpHeaders=x&%24.xgafv=1&fields=name&access_token=t&quotaUser=q`, {});
  assert.equal((await said('GET', `${root}/system/a?%24fields=name&%24alt=json;enum-encoding=int`)).name, `${root}/system/a`);
});

test('packed both ways', async () => {
  const filler = { stringValue: 'y'.repeat(5_000) };
  const body = gzipSync(JSON.stringify({ fields: { a: filler } }));
  assert.equal((await ask('PATCH', `${root}/packed/a`, body, { headers: { 'content-encoding': 'gzip' } })).status, 200);
  const raw = path => new Promise((resolve, reject) => {
    http.get(base + path, { headers: { 'accept-encoding': 'gzip' } }, answer => {
      const pieces = [];
      answer.on('data', piece => pieces.push(piece)).on('end', () => resolve({ answer, bytes: Buffer.concat(pieces) }));
    }).on('error', reject);
  });
  const { answer, bytes } = await raw(`${root}/packed/a`);
  assert.equal(answer.headers['content-encoding'], 'gzip');
  assert.ok(bytes.length < 1_000);
  assert.deepEqual(JSON.parse(gunzipSync(bytes)).fields, { a: filler });
  const short = await raw(`${root}/packed`);
  assert.ok(short.bytes.length > 0);
});

test('results beyond ten megabytes', async () => {
  const next = random(7);
  const piece = Array.from({ length: PIECE_LEN }, () => 'abcdefghijklmnopqrstuvwxyz234567'[Math.floor(next() * 32)]).join('');
  for (let i = 0; i < PIECES; i += 1) await said('PATCH', `${root}/large/d${String(i).padStart(2, '0')}`, { fields: { t: text(piece), n: int(i) } });
  // Pages are bounded by their bytes too.
  const listed = [];
  let token = '';
  do {
    const page = await said('GET', `${root}/large?pageSize=${PIECES}&pageToken=${encodeURIComponent(token)}`);
    listed.push(...page.documents.map(d => d.name));
    token = page.nextPageToken;
  } while (token);
  assert.equal(new Set(listed).size, PIECES);
  const query = { structuredQuery: { from: [{ collectionId: 'large' }] } };
  // A few of them packed: what a build for tests takes to pack them all is no news.
  for (const [encoding, limit] of [['identity', PIECES], ['gzip', 3]]) {
    query.structuredQuery.limit = limit;
    const { said, headers } = await ask('POST', `${root}:runQuery`, query, { headers: { 'accept-encoding': encoding } });
    assert.equal(headers.get('content-encoding'), encoding === 'gzip' ? 'gzip' : null);
    assert.deepEqual(said.map(r => Number(r.document.fields.n.integerValue)), Array.from({ length: limit }, (_, i) => i));
    assert.ok(said.every(r => r.document.fields.t.stringValue === piece));
  }
  assert.equal((await lite.getDocs(lite.collection(liteDb, 'large'))).size, PIECES);
});

test('lite: documents, queries, counts, batches and transactions', async () => {
  const things = lite.collection(liteDb, 'lite');
  const a = lite.doc(things, 'a');
  await lite.setDoc(a, { n: 1, t: 'é', when: new lite.Timestamp(1, 123456000), nan: NaN, zero: -0, inf: -Infinity, none: null, bytes: lite.Bytes.fromUint8Array(new Uint8Array([251, 255])), point: new lite.GeoPoint(0, -1.5), list: [1, [].length, { m: {} }], ref: a, v: lite.vector([1, 2]) });
  const back = (await lite.getDoc(a)).data();
  assert.ok(Object.is(back.zero, -0) && Number.isNaN(back.nan) && back.inf === -Infinity && back.none === null);
  assert.deepEqual([...back.bytes.toUint8Array()], [251, 255]);
  assert.ok(back.point.isEqual(new lite.GeoPoint(0, -1.5)) && back.when.isEqual(new lite.Timestamp(1, 123456000)));
  assert.deepEqual([back.list, back.ref.path, back.v.toArray()], [[1, 0, { m: {} }], 'lite/a', [1, 2]]);
  await lite.updateDoc(a, { n: lite.increment(4), 'sub.x': 1, t: lite.deleteField(), tags: lite.arrayUnion('x'), at: lite.serverTimestamp() });
  const changed = (await lite.getDoc(a)).data();
  assert.deepEqual([changed.n, changed.sub, changed.t, changed.tags], [5, { x: 1 }, undefined, ['x']]);
  const batch = lite.writeBatch(liteDb);
  for (let n = 0; n < 20; n += 1) batch.set(lite.doc(things, `b${String(n).padStart(2, '0')}`), { n: 100 + n, even: n % 2 === 0 });
  await batch.commit();
  const ids = async (...q) => (await lite.getDocs(lite.query(things, ...q))).docs.map(d => d.id);
  assert.deepEqual(await ids(lite.where('even', '==', true), lite.orderBy('n', 'desc'), lite.limit(2)), ['b18', 'b16']);
  assert.deepEqual(await ids(lite.orderBy('n'), lite.startAfter(117)), ['b18', 'b19']);
  assert.deepEqual(await ids(lite.or(lite.where('n', '==', 100), lite.where('n', '==', 5))), ['a', 'b00']);
  assert.deepEqual(await ids(lite.orderBy('n', 'desc'), lite.endAt(119)), ['b19']);
  assert.equal((await lite.getCount(lite.query(things, lite.where('even', '==', true)))).data().count, 10);
  const sums = await lite.getAggregate(things, { sum: lite.sum('n'), mean: lite.average('n') });
  assert.deepEqual(sums.data(), { sum: 2195, mean: 2195 / 21 });
  await assert.rejects(lite.updateDoc(lite.doc(things, 'nobody'), { n: 1 }), { code: 'not-found' });
  const counter = lite.doc(things, 'counter');
  await lite.setDoc(counter, { n: 0 });
  await Promise.all(Array.from({ length: 4 }, () => lite.runTransaction(liteDb, async t => {
    const seen = await t.get(counter);
    t.update(counter, { n: seen.data().n + 1 });
  }, { maxAttempts: 20 })));
  assert.equal((await lite.getDoc(counter)).data().n, 4);
  const added = await lite.addDoc(things, { n: 1 });
  await lite.deleteDoc(added);
  assert.equal((await lite.getDoc(added)).exists(), false);
});

test('Node over REST: everything that a value can be', async () => {
  const writer = rest.batch();
  const wanted = documents(rest);
  for (const [path, data] of Object.entries(wanted)) writer.set(rest.doc(path), data);
  await writer.commit();
  for (const path of Object.keys(wanted)) {
    const [overGrpc, overRest] = await Promise.all([db.doc(path).get(), rest.doc(path).get()]);
    assert.ok(overRest.exists, path);
    assert.deepEqual(plain(overRest), plain(overGrpc), path);
  }
});

// What a document holds, however the protocol spelled it.
function plain(snapshot) {
  const seen = value => {
    if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
    if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
    if (value?.path !== undefined && value.firestore) return value.path;
    if (Array.isArray(value)) return value.map(seen);
    if (value && Object.getPrototypeOf(value) === Object.prototype) return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, seen(v)]));
    if (value instanceof Timestamp || value instanceof GeoPoint) return value.toString() + JSON.stringify(value);
    return JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? String(v) : v));
  };
  return [seen(snapshot.data()), snapshot.createTime.toString(), snapshot.updateTime.toString()];
}

test('Node over REST: queries, cursors, aggregations, transactions, bulk writes', async () => {
  const things = rest.collection('node');
  const bulk = rest.bulkWriter();
  for (let n = 0; n < 50; n += 1) bulk.set(things.doc(`d${String(n).padStart(2, '0')}`), { n, g: n % 5, at: FieldValue.serverTimestamp() });
  await bulk.close();
  const ids = async query => (await query.get()).docs.map(d => d.id);
  assert.deepEqual(await ids(things.where('g', '==', 2).orderBy('n', 'desc').limit(2)), ['d47', 'd42']);
  assert.deepEqual(await ids(things.orderBy('n').startAt(10).endBefore(12)), ['d10', 'd11']);
  assert.deepEqual(await ids(things.orderBy('n').limitToLast(2)), ['d48', 'd49']);
  assert.deepEqual(await ids(things.where(Filter.or(Filter.where('n', '==', 1), Filter.where('n', '>', 48)))), ['d01', 'd49']);
  assert.deepEqual((await things.where('g', '==', 1).count().get()).data(), { count: 10 });
  assert.equal((await rest.getAll(things.doc('d01'), things.doc('nobody'))).filter(d => d.exists).length, 1);
  assert.deepEqual((await things.listDocuments()).length, 50);
  assert.ok((await rest.listCollections()).some(c => c.id === 'node'));
  const streamed = [];
  for await (const document of things.stream()) streamed.push(document.id);
  assert.equal(streamed.length, 50);
  await Promise.all(Array.from({ length: 4 }, () => rest.runTransaction(async t => {
    const seen = await t.get(things.doc('d00'));
    t.update(things.doc('d00'), { n: seen.get('n') + 1 });
  })));
  assert.equal((await things.doc('d00').get()).get('n'), 4);
  await assert.rejects(things.doc('d00').create({}), { code: 6 });
  await assert.rejects(things.doc('nobody').update({ n: 1 }), { code: 5 });
  const [first] = await rest.collectionGroup('node').getPartitions(3)[Symbol.asyncIterator]().next().then(r => [r.value]);
  assert.ok(first);
});
