// Documents with every type of value, the edges of each, and names with odd characters: what must survive every way out of
// a database and back in. The export in `fixtures/` holds just these.

import { FieldValue, GeoPoint, Timestamp } from '@google-cloud/firestore';

// Paths and fields, for a client that reads integers as BigInt.
export function documents(db) {
  const values = {
    null: null, yes: true, no: false,
    zero: 0n, int: 42n, negative: -7n, intmax: 9223372036854775807n, intmin: -9223372036854775808n,
    double: 1.5, negzero: -0, nan: NaN, inf: Infinity, neginf: -Infinity, tiny: 5e-324, big: 1.7976931348623157e308,
    time: new Timestamp(1700000000, 123456000), time0: new Timestamp(0, 0), timeneg: new Timestamp(-1, 999999000),
    timefirst: new Timestamp(-62135596800, 0), timelast: new Timestamp(253402300799, 999999000),
    text: 'héllo 🔥 \u0000 end', empty: '', long: '火'.repeat(600),
    bytes: Buffer.from([0, 1, 254, 255]), nobytes: Buffer.alloc(0), longbytes: Buffer.alloc(1600, 7),
    ref: db.doc('c/d'), refdeep: db.doc('c/d/e/f'), refodd: db.doc('ü/a b/c.d/100%'), refnumber: db.doc('n/__id7__/s/__id-8__'),
    point: new GeoPoint(12.5, -170.25), point0: new GeoPoint(0, 0), pointpole: new GeoPoint(-90, 180),
    array: [1n, 'two', null, true, 2.5, new Timestamp(1, 0), new GeoPoint(1, 2), Buffer.from('b'), db.doc('c/d')],
    emptyarray: [], arrayone: [1n], arraynull: [null], arraynan: [NaN, -0, Infinity],
    arraymaps: [{ a: [1n] }, {}, { b: { c: [] } }],
    map: { a: 1n, b: { c: 'x', d: [] } }, emptymap: {}, mapofempty: { e: {}, f: [] },
    vector: FieldValue.vector([1, 2.5, -3]), vectorone: FieldValue.vector([0]), mapvector: { v: FieldValue.vector([1]) },
  };
  let deep = 1n;
  for (let level = 0; level < 19; level++) deep = { [`m${level}`]: deep };
  const all = { 'types/all': values, 'types/none': {}, 'types/deep': { deep } };
  for (const [name, value] of Object.entries(values)) all[`one/${name}`] = { v: value };
  return Object.assign(all, {
    'names/ä ö/sub/日本': { n: 1n },
    'names/a%2Fb': { 'field.with dots': 1n, '`tick`': 2n, 'ünï': 4n, __x: 5n, 'a b': { 'c.d': 6n } },
    'names/__id7__': {},
    'names/__id-9223372036854775808__/sub/__id9223372036854775807__': { n: 1n },
    'names/123': { n: 'a number in name only' },
    'a~b/..x': { n: 1n },
    'missing/parent/deep/er': { x: 1n },
  });
}

// Every document of a database as the protocol says it, by path, with `projectId` left out of references.
export async function everything(db, projectId) {
  const found = {};
  const walk = async parent => {
    for (const collection of await parent.listCollections()) {
      for (const document of await collection.listDocuments()) {
        const snapshot = await document.get();
        if (snapshot.exists) found[document.path] = plain(snapshot._fieldsProto, projectId);
        await walk(document);
      }
    }
  };
  await walk(db);
  return found;
}

// JSON has no words for some doubles, and strict comparison tells 0 from -0 only outside of it.
function plain(fields, projectId) {
  const text = JSON.stringify(fields, (name, value) => {
    if (name === 'doubleValue') return Object.is(value, -0) ? '-0' : String(value);
    return value;
  });
  return JSON.parse(text.replaceAll(`projects/${projectId}/databases/`, 'projects/PROJECT/databases/'));
}
