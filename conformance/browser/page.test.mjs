// What else an application does in a page: values of every type, aggregations, cursors, results of many megabytes, bundles,
// two databases, refusals, and a page from elsewhere.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { FieldValue, GeoPoint, Timestamp } from '@google-cloud/firestore';
import { Browser } from '../support/browser.mjs';
import { node, uniqueProject } from '../support/clients.mjs';
import { isNumber, load, of, ordered, store } from '../support/data.mjs';
import { Server } from '../support/server.mjs';

// Together more than ten megabytes, in letters of one to four bytes.
const LARGE = 60;
const LARGE_TEXT = 'aß火🔥'.repeat(20_000);
const WAYS = { streaming: { experimentalAutoDetectLongPolling: false }, 'long polling': { experimentalForceLongPolling: true } };

let server;
let browser;
let page;
let data;
let admin;

before(async () => {
  [server, browser, data] = await Promise.all([Server.start(), Browser.start(), load()]);
  admin = node(server.host, uniqueProject('browser-page'));
  await store(admin, data);
  page = await browser.page();
  for (const [name, settings] of Object.entries(WAYS)) {
    await page.evaluate(([name, options]) => { suite.open(name, options); }, [name, { host: server.host, projectId: admin.projectId, settings }]);
  }
}, { timeout: 120_000 });

after(async () => {
  await browser?.stop();
  await admin?.terminate();
  await server?.stop();
});

for (const way of Object.keys(WAYS)) {
  test(`${way}: values of every type arrive as they were written, from and to a page`, async () => {
    const place = `values/${way.replace(' ', '-')}`;
    const shown = await page.evaluate(async ([way, place]) => {
      const { fs } = suite;
      const db = suite.db(way);
      await fs.setDoc(fs.doc(db, place), {
        null: null, yes: true, no: false, zero: 0, negzero: -0, int: 42, intmax: Number.MAX_SAFE_INTEGER, double: 1.5, nan: NaN, inf: -Infinity, tiny: 5e-324,
        text: 'héllo 🔥 \u0000 \u2028 "end"\\', half: 'a\u{1F525}', empty: '', time: new fs.Timestamp(1700000000, 123456000), early: new fs.Timestamp(-62135596800, 0),
        bytes: fs.Bytes.fromUint8Array(new Uint8Array([0, 1, 254, 255])), ref: fs.doc(db, 'ü/a b/c.d/100%'), point: new fs.GeoPoint(12.5, -170.25),
        array: [1, 'two', null, [].length, { deep: [true] }], map: { 'a.b': { c: {} } }, vector: fs.vector([1, 2.5, -3]), 'field.with dots': 1, '`tick`': 2,
      });
      const back = (await fs.getDocFromServer(fs.doc(db, place))).data();
      return { nan: Number.isNaN(back.nan), negzero: Object.is(back.negzero, -0), text: back.text, bytes: [...back.bytes.toUint8Array()], ref: back.ref.path, time: [back.time.seconds, back.time.nanoseconds], vector: back.vector.toArray(), point: [back.point.latitude, back.point.longitude], tick: back['`tick`'], map: back.map };
    }, [way, place]);
    const text = 'héllo 🔥 \u0000 \u2028 "end"\\';
    assert.deepEqual(shown, { nan: true, negzero: true, text, bytes: [0, 1, 254, 255], ref: 'ü/a b/c.d/100%', time: [1700000000, 123456000], vector: [1, 2.5, -3], point: [12.5, -170.25], tick: 2, map: { 'a.b': { c: {} } } });
    const stored = (await admin.doc(place).get()).data();
    assert.deepEqual({ ...stored, ref: stored.ref.path }, {
      null: null, yes: true, no: false, zero: 0, negzero: -0, int: 42, intmax: Number.MAX_SAFE_INTEGER, double: 1.5, nan: NaN, inf: -Infinity, tiny: 5e-324,
      text, half: 'a🔥', empty: '', time: new Timestamp(1700000000, 123456000), early: new Timestamp(-62135596800, 0),
      bytes: Buffer.from([0, 1, 254, 255]), ref: 'ü/a b/c.d/100%', point: new GeoPoint(12.5, -170.25),
      array: [1, 'two', null, 0, { deep: [true] }], map: { 'a.b': { c: {} } }, vector: FieldValue.vector([1, 2.5, -3]), 'field.with dots': 1, '`tick`': 2,
    });
  });

  test(`${way}: a limited query keeps its window as others write`, async () => {
    const place = `window-${way.replace(' ', '-')}`;
    for (let n = 0; n < 6; n += 1) await admin.doc(`${place}/d${n}`).set({ n: n * 10 });
    await page.evaluate(async ([way, place]) => {
      const { fs } = suite;
      suite.seen = { first: [], last: [], faults: [] };
      const listen = (name, ...constraints) => fs.onSnapshot(fs.query(fs.collection(suite.db(way), place), fs.orderBy('n'), ...constraints), s => { if (!s.metadata.fromCache) suite.seen[name].push(s.docs.map(d => d.get('n')).join()); }, error => suite.seen.faults.push(error.message));
      suite.seen.stops = [listen('first', fs.limit(3)), listen('last', fs.limitToLast(2))];
      await suite.until(() => suite.seen.first.length && suite.seen.last.length, 'both windows');
    }, [way, place]);
    const expect = async (first, last) => page.evaluate(([first, last]) => suite.until(() => suite.seen.first.at(-1) === first && suite.seen.last.at(-1) === last, () => `windows ${first} and ${last}: ${JSON.stringify(suite.seen)}`), [first, last]);
    await expect('0,10,20', '40,50');
    await admin.doc(`${place}/d1`).delete();
    await expect('0,20,30', '40,50');
    await admin.doc(`${place}/new`).set({ n: 5 });
    await expect('0,5,20', '40,50');
    await admin.doc(`${place}/d0`).set({ n: 60 });
    await expect('5,20,30', '50,60');
    await admin.doc(`${place}/d5`).update({ other: true, n: FieldValue.delete() });
    await expect('5,20,30', '40,60');
    const seen = await page.evaluate(() => (suite.seen.stops.forEach(stop => stop()), { ...suite.seen, stops: undefined }));
    assert.deepEqual(seen.faults, []);
    // No window was ever shown that none of the five moments had.
    const once = { first: ['0,10,20', '0,20,30', '0,5,20', '5,20,30'], last: ['40,50', '50,60', '40,60'] };
    for (const name of ['first', 'last']) for (const shown of seen[name]) assert.ok(once[name].includes(shown), `${name}: ${shown}`);
  });

  test(`${way}: a result of more than ten megabytes, and the changes after it`, { timeout: 240_000 }, async t => {
    const place = `large-${way.replace(' ', '-')}`;
    for (let n = 0; n < LARGE; n += 20) {
      const batch = admin.batch();
      for (let k = n; k < n + 20; k += 1) batch.set(admin.doc(`${place}/d${String(k).padStart(3, '0')}`), { n: k, text: `${LARGE_TEXT}${k}` });
      await batch.commit();
    }
    const start = Date.now();
    const sizes = await page.evaluate(async ([way, place, count, text]) => {
      const { fs } = suite;
      suite.seen = {};
      await new Promise((resolve, reject) => {
        suite.seen.stop = fs.onSnapshot(fs.collection(suite.db(way), place), s => {
          suite.seen.snapshot = s;
          if (s.size === count && !s.metadata.fromCache) resolve();
        }, reject);
      });
      const { docs } = suite.seen.snapshot;
      return { right: docs.filter((d, k) => d.get('text') === `${text}${k}`).length, bytes: docs.reduce((all, d) => all + new Blob([d.get('text')]).size, 0) };
    }, [way, place, LARGE, LARGE_TEXT]);
    t.diagnostic(`${sizes.bytes} bytes after ${Date.now() - start} ms`);
    assert.equal(sizes.right, LARGE);
    assert.ok(sizes.bytes > 10 * 1024 * 1024);
    await admin.doc(`${place}/d007`).update({ text: 'short' });
    await page.evaluate(() => suite.until(() => suite.seen.snapshot.docs[7].get('text') === 'short', 'the change after the large result'));
    await page.evaluate(() => suite.seen.stop());
  });

  test(`${way}: refusals come to whoever asked, and the client goes on`, async () => {
    const found = await page.evaluate(async way => {
      const { fs } = suite;
      const db = suite.db(way);
      const code = promise => promise.then(() => 'no error', error => error.code);
      const codes = {
        missing: await code(fs.updateDoc(fs.doc(db, 'none/such'), { n: 1 })),
        large: await code(fs.setDoc(fs.doc(db, 'none/large'), { text: 'x'.repeat(1_100_000) })),
        reserved: await code(fs.setDoc(fs.doc(db, '__reserved__/d'), { n: 1 })),
        listener: await code(new Promise((resolve, reject) => fs.onSnapshot(fs.collection(db, '__reserved__'), resolve, reject))),
      };
      await fs.setDoc(fs.doc(db, 'after/refusals'), { way });
      return { ...codes, after: (await fs.getDocFromServer(fs.doc(db, 'after/refusals'))).get('way') };
    }, way);
    assert.deepEqual(found, { missing: 'not-found', large: 'invalid-argument', reserved: 'invalid-argument', listener: 'invalid-argument', after: way });
    assert.equal((await admin.doc('none/such').get()).exists, false);
    assert.equal((await admin.doc('after/refusals').get()).get('way'), way);
  });
}

test('aggregations', async () => {
  const found = await page.evaluate(async () => {
    const { fs } = suite;
    const db = suite.db('streaming');
    const rated = fs.query(fs.collection(db, 'movies'), fs.where('MPAA_Rating', '==', 'PG'));
    const all = (await fs.getAggregateFromServer(rated, { n: fs.count(), gross: fs.sum('US_Gross'), mean: fs.average('US_Gross') })).data();
    return { ...all, few: (await fs.getCountFromServer(fs.query(fs.collection(db, 'airports'), fs.where('state', '==', 'TX'), fs.limit(10)))).data().count };
  });
  const rows = data.movies.filter(m => m.data.MPAA_Rating === 'PG');
  const gross = rows.map(m => m.data.US_Gross).filter(isNumber);
  const sum = gross.reduce((a, b) => a + b, 0);
  assert.deepEqual({ ...found, mean: undefined }, { n: rows.length, gross: sum, few: 10, mean: undefined });
  assert.ok(Math.abs(found.mean - sum / gross.length) < 1e-6 * found.mean);
});

test('cursors walk a whole collection, page by page', { timeout: 120_000 }, async () => {
  const found = await page.evaluate(async () => {
    const { fs } = suite;
    const ids = [];
    for (let last; ;) {
      const query = fs.query(fs.collection(suite.db('streaming'), 'airports'), fs.orderBy('state'), fs.limit(700), ...(last ? [fs.startAfter(last)] : []));
      const { docs } = await fs.getDocsFromServer(query);
      if (!docs.length) return ids;
      ids.push(...docs.map(d => d.id));
      last = docs.at(-1);
    }
  });
  assert.deepEqual(found, of(ordered(data.airports, 'state')));
});

test('a bundle is loaded, and its named query goes on from there', async () => {
  for (let n = 0; n < 5; n += 1) await admin.doc(`bundled/d${n}`).set({ n });
  const bundle = admin.bundle('conformance').add('some', await admin.collection('bundled').where('n', '<', 4).get()).build();
  const loaded = await page.evaluate(async text => {
    const { fs } = suite;
    const db = suite.db('streaming');
    await fs.disableNetwork(db);
    const progress = await fs.loadBundle(db, text);
    const query = await fs.namedQuery(db, 'some');
    suite.seen = { shown: [] };
    suite.seen.stop = fs.onSnapshot(query, s => suite.seen.shown.push([s.metadata.fromCache, s.docs.map(d => d.get('n')).join()]));
    await suite.until(() => suite.seen.shown.length, 'the bundled documents');
    await fs.enableNetwork(db);
    return { documents: progress.documentsLoaded, state: progress.taskState, first: suite.seen.shown[0] };
  }, bundle.toString());
  assert.deepEqual(loaded, { documents: 4, state: 'Success', first: [true, '0,1,2,3'] });
  await admin.doc('bundled/d1').update({ n: 9 });
  await page.evaluate(() => suite.until(() => suite.seen.shown.at(-1).join() === 'false,0,2,3', () => JSON.stringify(suite.seen.shown)));
  await page.evaluate(() => suite.seen.stop());
});

test('two databases from one page do not see each other', async () => {
  const options = { host: server.host, projectId: admin.projectId };
  // Four clients of one page would need more than the six connections of a browser.
  const own = await browser.page();
  const found = await own.evaluate(async options => {
    const { fs } = suite;
    const dbs = { left: suite.open('left', { ...options, database: 'left' }).db, right: suite.open('right', { ...options, database: 'right' }).db };
    suite.seen = { left: [], right: [] };
    const stops = Object.entries(dbs).map(([name, db]) => fs.onSnapshot(fs.collection(db, 'rooms'), s => !s.metadata.fromCache && suite.seen[name].push(s.docs.map(d => `${d.id}=${d.get('n')}`).join())));
    await suite.until(() => suite.seen.left.length && suite.seen.right.length, 'both listen');
    await Promise.all(Object.values(dbs).map((db, n) => fs.setDoc(fs.doc(db, 'rooms/same'), { n })));
    await fs.setDoc(fs.doc(dbs.right, 'rooms/only-right'), { n: 2 });
    await suite.until(() => suite.seen.left.at(-1) === 'same=0' && suite.seen.right.at(-1) === 'only-right=2,same=1', () => JSON.stringify(suite.seen));
    stops.forEach(stop => stop());
    return suite.seen;
  }, options);
  assert.ok(!found.left.some(shown => shown.includes('only-right')));
  const left = node(server.host, admin.projectId, { databaseId: 'left' });
  assert.deepEqual((await left.collection('rooms').get()).docs.map(d => [d.id, d.get('n')]), [['same', 0]]);
  assert.equal((await admin.collection('rooms').get()).size, 0);
  await left.terminate();
  assert.deepEqual(browser.faults, []);
});
