// The persistent cache: a page that is reloaded without a network reads and edits what it has, its tab is closed, and a
// later tab of the same profile brings the edits home and asks only for what has changed.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { FieldValue } from '@google-cloud/firestore';
import { Browser, closeTab } from '../support/browser.mjs';
import { node, uniqueProject, until } from '../support/clients.mjs';
import { Proxy } from '../support/proxy.mjs';
import { Server } from '../support/server.mjs';

const NOTES = 300;
const STEPS = 8;
// Every note has it once, so that it counts the notes on their way.
const MARKER = 'the-body-of-a-note';
// What comes again, of what came at first: names, tokens and the changed notes, and by far not everything.
const RESUMED_SHARE_MAX = 0.1;

let server;
let browser;
let proxy;
let admin;

before(async () => {
  [server, browser] = await Promise.all([Server.start(), Browser.start()]);
}, { timeout: 120_000 });

beforeEach(async () => {
  await proxy?.close();
  await admin?.terminate();
  proxy = await Proxy.start(server.port, MARKER);
  admin = node(server.host, uniqueProject('browser-cache'));
  const batch = admin.batch();
  for (let n = 0; n < NOTES; n += 1) batch.set(note(n), { n, body: `${MARKER} ${'x'.repeat(200)}`, count: 0, log: [] });
  await batch.commit();
});

after(async () => {
  await browser?.stop();
  await proxy?.close();
  await admin?.terminate();
  await server?.stop();
});

const note = n => admin.doc(`notes/n${String(n).padStart(4, '0')}`);

// In the page: a client with a listener on the notes, of which `suite.seen` tells.
async function listen(page, options) {
  await page.evaluate(async ({ offline, ...options }) => {
    const { db } = suite.open('cached', options);
    if (offline) await suite.fs.disableNetwork(db);
    suite.seen = { faults: [] };
    suite.seen.stop = suite.fs.onSnapshot(suite.fs.collection(db, 'notes'), { includeMetadataChanges: true }, s => {
      const { fromCache, hasPendingWrites } = s.metadata;
      Object.assign(suite.seen, { size: s.size, fromCache, hasPendingWrites, notes: Object.fromEntries(s.docs.map(d => [d.id, d.data()])) });
    }, error => suite.seen.faults.push(error.message));
  }, options);
}

const seen = (page, size, fromCache, hasPendingWrites) => page.evaluate(wanted => suite.until(
  () => ['size', 'fromCache', 'hasPendingWrites'].every(name => suite.seen[name] === wanted[name]) && suite.seen,
  () => `the listener sees ${JSON.stringify(wanted)}: ${JSON.stringify({ ...suite.seen, notes: undefined })}`,
), { size, fromCache, hasPendingWrites });

const OFFLINE = {
  'its network disabled': {
    leave: (_context, page) => page.evaluate(() => suite.fs.disableNetwork(suite.db('cached'))),
    open: { offline: true },
    comeBack: () => {},
  },
  'the browser offline': {
    leave: context => context.setOffline(true),
    open: {},
    comeBack: context => context.setOffline(false),
  },
};

for (const cache of ['singleTab', 'multipleTabs']) {
  for (const [way, { leave, open, comeBack }] of Object.entries(OFFLINE)) {
    test(`${cache} cache, with ${way}: edits of a reloaded page arrive once and in order, and only changes are sent`, { timeout: 300_000 }, async t => {
      const options = { host: proxy.host, projectId: admin.projectId, cache };
      const context = await browser.installed();
      const page = await browser.page(context);
      await listen(page, options);
      await seen(page, NOTES, false, false);
      const first = { bytes: proxy.bytes, marks: proxy.marks };
      assert.ok(first.marks >= NOTES, `${first.marks} notes came`);

      await leave(context, page);
      await page.reload();
      await listen(page, { ...options, ...open });
      const cached = await seen(page, NOTES, true, false);
      assert.equal(cached.notes.n0002.body, `${MARKER} ${'x'.repeat(200)}`);
      await page.evaluate(steps => {
        const { fs } = suite;
        const db = suite.db('cached');
        fs.updateDoc(fs.doc(db, 'notes/n0000'), { count: fs.increment(1), log: fs.arrayUnion('first') });
        fs.updateDoc(fs.doc(db, 'notes/n0000'), { count: fs.increment(2), log: fs.arrayUnion('second') });
        fs.setDoc(fs.doc(db, 'notes/made-offline'), { n: -1, at: fs.serverTimestamp() });
        fs.deleteDoc(fs.doc(db, 'notes/n0001'));
        for (let n = 0; n < steps; n += 1) fs.setDoc(fs.doc(db, `steps/s${n}`), { n });
      }, STEPS);
      // Edits show one after the other; the last of them is in the cache when the tab is closed.
      await page.evaluate(steps => suite.until(async () => {
        const { fs } = suite;
        return !suite.seen.notes.n0001 && (await fs.getDocsFromCache(fs.collection(suite.db('cached'), 'steps'))).size === steps;
      }, 'the page sees its own edits'), STEPS);
      const edited = await seen(page, NOTES, true, true);
      assert.deepEqual([edited.notes.n0000.count, edited.notes.n0000.log], [3, ['first', 'second']]);
      assert.ok(!edited.notes.n0001 && edited.notes['made-offline']);
      // Read once more through the cache, by a query.
      const few = await page.evaluate(async () => {
        const { fs } = suite;
        const found = await fs.getDocsFromCache(fs.query(fs.collection(suite.db('cached'), 'notes'), fs.where('n', '<', 3), fs.orderBy('n')));
        return found.docs.map(d => d.id);
      });
      assert.deepEqual(few, ['made-offline', 'n0000', 'n0002']);
      await closeTab(page);
      assert.equal((await admin.collection('steps').get()).size, 0, 'nothing has arrived yet');

      // Meanwhile, elsewhere.
      await admin.batch().update(note(0), { count: FieldValue.increment(10), log: FieldValue.arrayUnion('elsewhere') }).update(note(5), { count: 5 }).delete(note(6)).set(admin.doc('notes/made-elsewhere'), { n: -2, body: MARKER }).commit();
      const history = [];
      const stop = admin.collection('steps').orderBy('n').onSnapshot(s => history.push(s.docs.map(d => d.get('n'))));
      await until(() => history.length, 'the steps are listened to');

      const before = { bytes: proxy.bytes, marks: proxy.marks };
      await comeBack(context);
      const again = await browser.page(context);
      await listen(again, options);
      await again.evaluate(() => suite.fs.waitForPendingWrites(suite.db('cached')));
      // Two notes gone, two more.
      const settled = await seen(again, NOTES, false, false);
      assert.deepEqual(settled.faults, []);
      const there = new Map((await admin.collection('notes').get()).docs.map(d => [d.id, d.data()]));
      assert.deepEqual([...there.keys()], Object.keys(settled.notes));
      assert.deepEqual([there.get('n0000').count, there.get('n0000').log], [13, ['elsewhere', 'first', 'second']], 'each edit counts once');
      for (const [id, { count, log, n, body }] of there) {
        const { count: c, log: l, n: m, body: b } = settled.notes[id];
        assert.deepEqual({ count: c, log: l, n: m, body: b }, { count, log, n, body }, id);
      }
      const steps = (await admin.collection('steps').orderBy('n').get()).docs;
      assert.deepEqual(steps.map(d => d.get('n')), Array.from({ length: STEPS }, (_, n) => n));
      const times = steps.map(d => d.createTime.valueOf());
      assert.deepEqual(times, times.toSorted(), 'the writes were committed in the order in which they were made');
      assert.deepEqual(steps.map(d => d.updateTime.valueOf()), times, 'and each of them once');
      await until(() => history.at(-1).length === STEPS, 'the listener saw all steps');
      for (const shown of history) assert.deepEqual(shown, shown.map((_, n) => n), 'every snapshot is a prefix');
      stop();

      const resumed = { bytes: proxy.bytes - before.bytes, marks: proxy.marks - before.marks };
      t.diagnostic(`first ${first.bytes} bytes with ${first.marks} notes, then ${resumed.bytes} bytes with ${resumed.marks} notes`);
      assert.ok(resumed.bytes < first.bytes * RESUMED_SHARE_MAX, `${resumed.bytes} bytes came again, after ${first.bytes} at first`);
      // The three that others changed or made; those of this page may come a second time, after its edit.
      assert.ok(resumed.marks >= 3 && resumed.marks <= 6, `${resumed.marks} notes came again`);
      await again.evaluate(() => (suite.seen.stop(), suite.client('cached').close()));
      await context.close();
      assert.deepEqual(browser.faults, []);
    });
  }
}

test('tabs of one profile share a cache and a stream; another takes over when the first is closed', { timeout: 300_000 }, async () => {
  const options = { host: proxy.host, projectId: admin.projectId, cache: 'multipleTabs' };
  const context = await browser.installed();
  const tabs = [];
  for (let i = 0; i < 3; i += 1) {
    const tab = await browser.page(context);
    await listen(tab, options);
    await seen(tab, NOTES, false, false);
    tabs.push(tab);
  }
  // A tab that comes to the front may listen anew; three tabs without a common cache would be sent all notes three times.
  assert.ok(proxy.marks < tabs.length * NOTES, `three tabs were sent ${proxy.marks} notes, of which there are ${NOTES}`);

  // Offline, an edit in one tab shows in the others.
  await context.setOffline(true);
  await tabs[1].evaluate(() => { suite.fs.updateDoc(suite.fs.doc(suite.db('cached'), 'notes/n0007'), { count: suite.fs.increment(7) }); });
  for (const tab of tabs) {
    await tab.evaluate(() => suite.until(() => suite.seen.notes.n0007.count === 7 && suite.seen.hasPendingWrites, 'the edit of another tab'));
  }
  assert.equal((await note(7).get()).get('count'), 0);

  await closeTab(tabs[0]);
  await context.setOffline(false);
  await until(async () => (await note(7).get()).get('count') === 7, 'the edit arrives without the first tab');
  await note(8).update({ count: 8 });
  for (const tab of tabs.slice(1)) {
    await tab.evaluate(() => suite.until(() => suite.seen.notes.n0008.count === 8 && !suite.seen.hasPendingWrites && !suite.seen.fromCache, () => `the change from elsewhere: ${JSON.stringify(suite.seen.notes.n0008)}`));
  }
  assert.equal((await note(7).get()).get('count'), 7, 'once');
  await context.close();
  assert.deepEqual(browser.faults, []);
});
