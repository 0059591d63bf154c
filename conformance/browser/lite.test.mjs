// The lite SDK in a page: every call is a request of its own (REST).

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Browser } from '../support/browser.mjs';
import { node, uniqueProject } from '../support/clients.mjs';
import { isNumber, load, of, ordered, store } from '../support/data.mjs';
import { webQuestions } from '../support/questions.mjs';
import { Server } from '../support/server.mjs';

const PAGE = 700;
const CLIENTS = 6;
const EACH = 5;

let server;
let browser;
let page;
let data;
let admin;

before(async () => {
  [server, browser, data] = await Promise.all([Server.start(), Browser.start(), load()]);
  admin = node(server.host, uniqueProject('browser-lite'));
  await store(admin, data);
  page = await browser.page();
  await page.evaluate(options => { suite.openLite('lite', options); }, { host: server.host, projectId: admin.projectId });
}, { timeout: 120_000 });

after(async () => {
  await browser?.stop();
  await admin?.terminate();
  await server?.stop();
});

test('lite: every question has its answer', { timeout: 120_000 }, async () => {
  const questions = webQuestions(data);
  assert.ok(questions.length >= 30);
  for (const { name, calls, expected } of questions) {
    assert.deepEqual(await page.evaluate(calls => suite.ask(suite.db('lite'), calls, { light: true }), calls), expected, name);
  }
});

test('lite: cursors walk a whole collection, page by page', async () => {
  const found = await page.evaluate(async size => {
    const { lite } = suite;
    const ids = [];
    for (let last; ;) {
      const query = lite.query(lite.collection(suite.db('lite'), 'airports'), lite.orderBy('state'), lite.limit(size), ...(last ? [lite.startAfter(last)] : []));
      const { docs } = await lite.getDocs(query);
      if (!docs.length) return ids;
      ids.push(...docs.map(d => d.id));
      last = docs.at(-1);
    }
  }, PAGE);
  assert.deepEqual(found, of(ordered(data.airports, 'state')));
});

test('lite: aggregations', async () => {
  const found = await page.evaluate(async () => {
    const { lite } = suite;
    const rated = lite.query(lite.collection(suite.db('lite'), 'movies'), lite.where('MPAA_Rating', '==', 'PG'));
    const all = (await lite.getAggregate(rated, { n: lite.count(), gross: lite.sum('US_Gross'), mean: lite.average('US_Gross') })).data();
    return { ...all, airports: (await lite.getCount(lite.collection(suite.db('lite'), 'airports'))).data().count };
  });
  const rows = data.movies.filter(m => m.data.MPAA_Rating === 'PG');
  const gross = rows.map(m => m.data.US_Gross).filter(isNumber);
  const sum = gross.reduce((a, b) => a + b, 0);
  assert.deepEqual({ ...found, mean: undefined }, { n: rows.length, gross: sum, airports: data.airports.length, mean: undefined });
  assert.ok(Math.abs(found.mean - sum / gross.length) < 1e-6 * found.mean);
});

test('lite: writes, batches, transforms and errors', async () => {
  const errors = await page.evaluate(async () => {
    const { lite } = suite;
    const db = suite.db('lite');
    const plain = lite.doc(db, 'lite/plain');
    await lite.setDoc(plain, { n: 1, log: ['a'], map: { x: 1, y: 2 } });
    await lite.updateDoc(plain, { n: lite.increment(4), log: lite.arrayUnion('a', 'b'), 'map.x': lite.deleteField(), at: lite.serverTimestamp() });
    await lite.setDoc(plain, { map: { z: 3 } }, { merge: true });
    await lite.writeBatch(db).set(lite.doc(db, 'lite/one'), { n: 1 }).set(lite.doc(db, 'lite/two'), { n: 2 }).commit();
    await lite.deleteDoc(lite.doc(db, 'lite/one'));
    const added = await lite.addDoc(lite.collection(db, 'lite'), { added: true });
    const code = promise => promise.then(() => 'no error', error => error.code);
    return {
      missing: await code(lite.updateDoc(lite.doc(db, 'lite/none'), { n: 1 })),
      // All or nothing: the second of these cannot be.
      batch: await code(lite.writeBatch(db).set(lite.doc(db, 'lite/three'), { n: 3 }).update(lite.doc(db, 'lite/none'), { n: 1 }).commit()),
      none: (await lite.getDoc(lite.doc(db, 'lite/none'))).exists(),
      added: (await lite.getDoc(added)).data(),
    };
  });
  assert.deepEqual(errors, { missing: 'not-found', batch: 'not-found', none: false, added: { added: true } });
  const plain = await admin.doc('lite/plain').get();
  const { at, ...rest } = plain.data();
  assert.deepEqual(rest, { n: 5, log: ['a', 'b'], map: { y: 2, z: 3 } });
  assert.ok(Math.abs(at.toMillis() - Date.now()) < 60_000);
  assert.deepEqual((await admin.collection('lite').get()).docs.map(d => d.id).filter(id => id.length < 20), ['plain', 'two']);
});

test('lite: transactions of several clients on one counter all count', { timeout: 120_000 }, async () => {
  await page.evaluate(async ([options, clients, each]) => {
    const { lite } = suite;
    await Promise.all(Array.from({ length: clients }, async (_, c) => {
      const { db } = suite.openLite(`counter-${c}`, options);
      const counter = lite.doc(db, 'counters/shared');
      for (let i = 0; i < each; i += 1) {
        for (let done = false; !done;) {
          done = await lite.runTransaction(db, async tx => {
            const now = await tx.get(counter);
            tx.set(counter, { n: (now.get('n') ?? 0) + 1 });
            return true;
          }).catch(error => {
            if (error.code !== 'aborted' && error.code !== 'failed-precondition') throw error;
            return false;
          });
        }
      }
    }));
  }, [{ host: server.host, projectId: admin.projectId }, CLIENTS, EACH]);
  assert.equal((await admin.doc('counters/shared').get()).get('n'), CLIENTS * EACH);
  assert.deepEqual(browser.faults, []);
});
