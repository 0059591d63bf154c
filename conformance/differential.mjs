// By hand: the same scripted requests to Watchfire and to the official emulator, answers compared field by field.
//
// EMULATOR_HOST names a running official emulator; or EMULATOR_JAR its jar, which is then started (Java needed).
// Times, tokens and generated ids are replaced by what they are. Prints a Markdown list of differences.

import { spawn } from 'node:child_process';
import { isDeepStrictEqual } from 'node:util';
import { Raw, fields, value } from './support/raw.mjs';
import { Server } from './support/server.mjs';

const JAR = process.env.EMULATOR_JAR ?? '/usr/lib/google-cloud-sdk/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar';
const MAIN = 'com.google.cloud.datastore.emulator.firestore.CloudFirestore';

async function emulator() {
  if (process.env.EMULATOR_HOST) return { host: process.env.EMULATOR_HOST, stop: () => {} };
  const port = 9193;
  const child = spawn('java', ['-cp', JAR, MAIN, '--host', '127.0.0.1', '--port', String(port)], { stdio: 'ignore' });
  const host = `127.0.0.1:${port}`;
  for (let i = 0; i < 300; i += 1) {
    try {
      if ((await fetch(`http://${host}/`)).ok) return { host, stop: () => child.kill() };
    } catch {
      await new Promise(resolve => setTimeout(resolve, 100));
    }
  }
  child.kill();
  throw new Error('the official emulator did not start');
}

const project = `diff-${process.pid}`;
const database = `projects/${project}/databases/(default)`;
const root = `${database}/documents`;
const doc = path => `${root}/${path}`;
const set = (path, data, more = {}) => ({ update: { name: doc(path), fields: fields(data) }, ...more });
const commit = (...writes) => ['Commit', { database, writes }];
const run = structuredQuery => ['RunQuery', { parent: root, structuredQuery }];
const from = [{ collectionId: 'q' }];
const where = (fieldPath, op, v) => ({ fieldFilter: { field: { fieldPath }, op, value: v } });
const order = (fieldPath, direction = 'ASCENDING') => ({ field: { fieldPath }, direction });
const get = path => ['GetDocument', { name: doc(path) }];
const NAN = { doubleValue: NaN };
const map = v => ({ mapValue: { fields: fields(v) } });
const vector = (...values) => ({ mapValue: { fields: { __type__: value('__vector__'), value: { arrayValue: { values: values.map(v => ({ doubleValue: v })) } } } } });

// Values of every type, and the edges of numbers.
const zoo = [
  value(null), value(false), value(true), NAN, { doubleValue: -Infinity }, value(-1), { doubleValue: -0 }, value(0), value(1), { doubleValue: 1 }, value(1.5),
  { integerValue: '9007199254740993' }, { doubleValue: 9007199254740992 }, { integerValue: '9223372036854775807' }, { doubleValue: 9223372036854775807 },
  { doubleValue: Infinity }, { timestampValue: { seconds: 1 } }, { timestampValue: { seconds: 1, nanos: 1000 } }, value(''), value('a'), value('b'), value('\uFFFF'), value('\u{1F525}'),
  { bytesValue: Buffer.from([]) }, { bytesValue: Buffer.from([1]) }, { referenceValue: doc('a/b') }, { referenceValue: doc('a/b/c/d') },
  { geoPointValue: { latitude: 1, longitude: 2 } }, value([]), value([1]), value([1, 'a']), vector(1), vector(1, 2), map({}), map({ a: 1 }), map({ a: 1, b: 0 }), map({ b: 0 }),
];

const operators = ['LESS_THAN', 'LESS_THAN_OR_EQUAL', 'GREATER_THAN', 'GREATER_THAN_OR_EQUAL', 'EQUAL', 'NOT_EQUAL', 'ARRAY_CONTAINS'];

const script = [
  ['a first set', ...commit(set('a/b', { n: 1, s: 'x' }))],
  ['get', ...get('a/b')],
  ['get what is missing', ...get('a/none')],
  ['create what exists', ...commit({ ...set('a/b', {}), currentDocument: { exists: false } })],
  ['update what is missing', ...commit({ ...set('a/none', {}), currentDocument: { exists: true } })],
  ['delete what is missing', ...commit({ delete: doc('a/none') })],
  ['delete what is missing, but must exist', ...commit({ delete: doc('a/none'), currentDocument: { exists: true } })],
  ['an old update time', ...commit({ ...set('a/b', {}), currentDocument: { updateTime: { seconds: 1 } } })],
  ['patch with an absent field', ...commit({ ...set('a/b', { n: 2 }), updateMask: { fieldPaths: ['n', 's'] } })],
  ['get after the patch', ...get('a/b')],
  ['patch a nested path over a scalar', ...commit({ update: { name: doc('a/b'), fields: { n: map({ x: 1 }) } }, updateMask: { fieldPaths: ['n.x'] } })],
  ['get after the nested patch', ...get('a/b')],
  ...['increment', 'maximum', 'minimum'].flatMap(kind => [value(3), value(2.5), NAN, { integerValue: '9223372036854775807' }, { doubleValue: -0 }].flatMap((operand, i) => [
    [`${kind} ${i}`, ...commit({ ...set('t/x', { keep: 1 }), updateMask: { fieldPaths: ['keep'] }, updateTransforms: [{ fieldPath: `f.${kind}`, [kind]: operand }] })],
  ])),
  ['array union', ...commit({ ...set('t/y', { list: [1, 'a'] }), updateTransforms: [{ fieldPath: 'list', appendMissingElements: { values: [{ doubleValue: 1 }, value('b'), value('b')] } }] })],
  ['array remove', ...commit({ ...set('t/y', {}), updateMask: { fieldPaths: [] }, updateTransforms: [{ fieldPath: 'list', removeAllFromArray: { values: [value(1)] } }] })],
  ['get after transforms', ...get('t/x')],
  ['get after array transforms', ...get('t/y')],
  ['the zoo', 'Commit', { database, writes: zoo.map((v, i) => ({ update: { name: doc(`q/z${String(i).padStart(2, '0')}`), fields: { v, n: value(i % 5) } } })) }],
  ['the zoo in order', ...run({ from, orderBy: [order('v')] })],
  ['the zoo backwards', ...run({ from, orderBy: [order('v', 'DESCENDING')] })],
  ...operators.flatMap(op => zoo.map((v, i) => [`${op} zoo ${i}`, ...run({ from, where: where('v', op, v), select: { fields: [{ fieldPath: '__name__' }] } })])),
  ...['IS_NULL', 'IS_NAN', 'IS_NOT_NULL', 'IS_NOT_NAN'].map(op => [op, ...run({ from, where: { unaryFilter: { op, field: { fieldPath: 'v' } } } })]),
  ['in', ...run({ from, where: where('v', 'IN', value([1, 'a', 7])) })],
  ['in with null', ...run({ from, where: where('v', 'IN', value([null, 'a'])) })],
  ['not-in', ...run({ from, where: where('n', 'NOT_IN', value([1, 2])) })],
  ['not-in with null', ...run({ from, where: where('n', 'NOT_IN', value([1, null])) })],
  ['array-contains-any', ...run({ from, where: where('v', 'ARRAY_CONTAINS_ANY', value([1, 'a'])) })],
  ['two orders', ...run({ from, orderBy: [order('n', 'DESCENDING'), order('v')] })],
  ['cursor', ...run({ from, orderBy: [order('n'), order('__name__')], startAt: { values: [value(2), { referenceValue: doc('q/z07') }] } })],
  ['end', ...run({ from, orderBy: [order('n')], endAt: { values: [value(2)], before: true } })],
  ['offset and limit', ...run({ from, orderBy: [order('n')], offset: 3, limit: { value: 4 } })],
  ['limit 0', ...run({ from, limit: { value: 0 } })],
  ['kindless', ...run({ from: [{ allDescendants: true }] })],
  ['too many cursor values', ...run({ from, orderBy: [order('n')], startAt: { values: [value(1), value(2)] } })],
  ['one order twice', ...run({ from, orderBy: [order('n'), order('n')] })],
  ['a kindless filter', ...run({ from: [{ allDescendants: true }], where: where('n', 'EQUAL', value(1)) })],
  ['a name that is text', ...run({ from, where: where('__name__', 'EQUAL', value('x')) })],
  ['a bad path', ...run({ from, orderBy: [order('a..b')] })],
  ['aggregations', 'RunAggregationQuery', { parent: root, structuredAggregationQuery: { structuredQuery: { from }, aggregations: [{ count: {} }, { alias: 's', sum: { field: { fieldPath: 'n' } } }, { alias: 'm', avg: { field: { fieldPath: 'n' } } }] } }],
  ['sum over the zoo', 'RunAggregationQuery', { parent: root, structuredAggregationQuery: { structuredQuery: { from }, aggregations: [{ alias: 's', sum: { field: { fieldPath: 'v' } } }] } }],
  ['no aggregation', 'RunAggregationQuery', { parent: root, structuredAggregationQuery: { structuredQuery: { from }, aggregations: [] } }],
  ['six aggregations', 'RunAggregationQuery', { parent: root, structuredAggregationQuery: { structuredQuery: { from }, aggregations: Array.from({ length: 6 }, (_, i) => ({ alias: `a${i}`, count: {} })) } }],
  ['a deep document', ...commit(set('deep/a/b/c', { n: 1 }))],
  ['collection ids', 'ListCollectionIds', { parent: root }],
  ['collection ids below a missing document', 'ListCollectionIds', { parent: doc('deep/a') }],
  ['list with missing', 'ListDocuments', { parent: root, collectionId: 'deep', showMissing: true, mask: { fieldPaths: [] } }],
  ['list in order', 'ListDocuments', { parent: root, collectionId: 'q', orderBy: 'n desc', pageSize: 3 }],
  ['batch get', 'BatchGetDocuments', { database, documents: [doc('a/b'), doc('a/none')] }],
  ['batch write', 'BatchWrite', { database, writes: [set('bw/a', { n: 1 }), { ...set('bw/b', {}), currentDocument: { exists: true } }] }],
  ['a reserved id', ...commit(set('bad/__x__', {}))],
  ['a reserved field', ...commit(set('bad/x', { __x__: 1 }))],
  ['nested arrays', ...commit(set('bad/x', { a: [[1]] }))],
  ['too large', ...commit(set('bad/x', { a: 'x'.repeat(1_100_000) }))],
  ['an unknown transaction', 'Commit', { database, writes: [], transaction: Buffer.from('nonsense') }],
  ['rollback of nonsense', 'Rollback', { database, transaction: Buffer.from('nonsense') }],
];

const TIMES = new Set(['createTime', 'updateTime', 'readTime', 'commitTime']);
function normal(answer) {
  if (Array.isArray(answer)) return answer.map(normal);
  if (answer && typeof answer === 'object') {
    // The emulator marks the last answer of a query, the real service does not.
    const { done, ...rest } = answer;
    return Object.fromEntries(Object.entries(rest).map(([k, v]) => [k, TIMES.has(k) ? '<time>' : k === 'nextPageToken' || k === 'transaction' ? '<token>' : normal(v)]));
  }
  return answer;
}

// Of a query only the ids, so that a line shows what is different.
function brief(answer) {
  if (!Array.isArray(answer)) return answer;
  return answer.map(part => part.document?.name.split('/').pop() ?? part);
}

function short(answer) {
  const text = JSON.stringify(brief(answer));
  return text.length > 400 ? `${text.slice(0, 400)}…` : text;
}

const ours = await Server.start();
const theirs = await emulator();
const clients = [new Raw(ours.host), new Raw(theirs.host)];
const differences = [];
try {
  for (const [name, method, request] of script) {
    const answers = await Promise.all(clients.map(c => c.call(method, request).then(normal, e => ({ code: e.code, message: e.message }))));
    if (method === 'BatchGetDocuments') answers.forEach(list => Array.isArray(list) && list.sort((x, y) => (x.missing ? 1 : 0) - (y.missing ? 1 : 0)));
    if (!isDeepStrictEqual(...answers)) differences.push([name, ...answers]);
  }
} finally {
  clients.forEach(c => c.close());
  theirs.stop();
  await ours.stop();
}
console.log(`${script.length} requests, ${differences.length} different answers\n`);
for (const [name, mine, other] of differences) console.log(`- **${name}**\n  - Watchfire: \`${short(mine)}\`\n  - official emulator: \`${short(other)}\``);
