// The server is killed and started again under open pages, several times: they recover by themselves, nothing that was
// acknowledged is lost, nothing is there twice, and what each page sees grows in the order in which it was written.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Browser } from '../support/browser.mjs';
import { node, uniqueProject, until } from '../support/clients.mjs';
import { Server } from '../support/server.mjs';

const KINDS = [
  { settings: { experimentalAutoDetectLongPolling: false } },
  { settings: { experimentalForceLongPolling: true } },
  { settings: {} },
  { settings: {}, cache: 'multipleTabs' },
];
const PAGES = 2 * KINDS.length;
const KILLS = 4;
const BETWEEN_KILLS_MS = 1_500;
const DOWN_MS = 300;
const PAUSE_MS_MAX = 60;
const RECOVER_MS_MAX = 120_000;

const skip = process.env.WATCHFIRE_TARGET_HOST ? 'needs a server of its own' : false;

let server;
let browser;

before(async () => {
  if (!skip) [server, browser] = await Promise.all([Server.start(), Browser.start()]);
}, { timeout: 120_000 });

after(async () => {
  await browser?.stop();
  await server?.stop();
});

test('pages go on by themselves after the server was killed; nothing is lost, and nothing comes twice', { skip, timeout: 420_000 }, async t => {
  const projectId = uniqueProject('browser-kills');
  const admin = node(server.host, projectId);
  const pages = await browser.pages(PAGES);
  const everywhere = (work, each = () => undefined) => Promise.all(pages.map((page, index) => page.evaluate(work, each(index))));
  await everywhere(([options, index, pauseMs]) => {
    const { fs } = suite;
    const { db } = suite.open('killed', options);
    const seen = { acknowledged: 0, attempts: 0, moved: 0, counted: 0, faults: [], messages: [], running: true };
    suite.seen = seen;
    fs.onSnapshot(fs.query(fs.collection(db, 'chat'), fs.orderBy('at')), { includeMetadataChanges: true }, snapshot => {
      seen.settled = !snapshot.metadata.hasPendingWrites && !snapshot.metadata.fromCache;
      if (!seen.settled) return;
      const messages = snapshot.docs.map(d => d.id);
      if (messages.length < seen.messages.length) seen.faults.push(`${seen.messages.length - messages.length} messages vanished`);
      seen.messages = messages;
      // Of every author the first so many, in the order of writing: a batch that was sent again has no second place.
      const next = new Map();
      for (const d of snapshot.docs) {
        const { from, n } = d.data();
        if (n !== (next.get(from) ?? 0)) seen.faults.push(`of ${from} number ${n} comes after ${next.get(from) ?? 0} others`);
        next.set(from, n + 1);
      }
    }, error => seen.faults.push(`listener: ${error.message}`));
    // Writes that the SDK queues and sends again, one after the other.
    const write = async () => {
      for (let n = 0; seen.running; n += 1) {
        seen.attempts = n + 1;
        await fs.setDoc(fs.doc(db, `chat/p${index}-${n}`), { from: index, n, at: fs.serverTimestamp() });
        seen.acknowledged = n + 1;
        await new Promise(resolve => setTimeout(resolve, Math.random() * pauseMs));
      }
    };
    // Transactions, which are requests of their own; what has been done once is not done again.
    const count = async () => {
      for (let n = 0; seen.running; n += 1) {
        for (;;) {
          try {
            await fs.runTransaction(db, async tx => {
              const entry = fs.doc(db, `journal/p${index}-${n}`);
              const counter = fs.doc(db, `counters/p${index}`);
              if ((await tx.get(entry)).exists()) return;
              const now = await tx.get(counter);
              tx.set(entry, { n });
              tx.set(counter, { n: (now.get('n') ?? 0) + 1 });
            });
            break;
          } catch (error) {
            // The server is away, or was when it had to answer.
            if (!['unavailable', 'aborted', 'failed-precondition', 'unknown', 'deadline-exceeded', 'internal'].includes(error.code)) throw error;
            await new Promise(resolve => setTimeout(resolve, 100));
          }
        }
        seen.counted = n + 1;
        await new Promise(resolve => setTimeout(resolve, Math.random() * pauseMs));
      }
    };
    seen.work = Promise.all([write(), count()]).catch(error => seen.faults.push(`writer: ${error.message}`));
  }, index => [{ host: server.host, projectId, ...KINDS[index % KINDS.length] }, index, PAUSE_MS_MAX]);
  const states = () => everywhere(() => ({ ...suite.seen, work: undefined }));
  await until(async () => (await states()).every(s => s.acknowledged > 2 && s.messages.length), 'every page writes and listens');

  const acknowledgedBefore = (await states()).map(s => s.acknowledged);
  for (let kill = 0; kill < KILLS; kill += 1) {
    await new Promise(resolve => setTimeout(resolve, BETWEEN_KILLS_MS));
    await server.kill();
    await new Promise(resolve => setTimeout(resolve, DOWN_MS));
    await server.launch();
  }
  const up = Date.now();
  // Each page gets through again before it is told to stop.
  const last = (await states()).map(s => s.attempts);
  await until(async () => (await states()).every((s, i) => s.faults.length || s.acknowledged > last[i]), () => 'every page writes again', RECOVER_MS_MAX);
  const writing = Date.now() - up;
  await everywhere(async () => {
    suite.seen.running = false;
    await suite.seen.work;
  });
  const there = (await admin.collection('chat').orderBy('at').get()).docs;
  let seen;
  await until(
    async () => (seen = await states()).every(s => s.faults.length || s.settled && s.messages.length === there.length),
    () => `every page sees all ${there.length}: ${JSON.stringify(seen.map(s => [s.settled, s.messages.length, s.faults]))}`,
    RECOVER_MS_MAX,
  );
  t.diagnostic(`${KILLS} kills, ${there.length} messages, ${seen.reduce((all, s) => all + s.counted, 0)} transactions; all write ${writing} ms and see ${Date.now() - up} ms after the last start`);
  for (const [index, page] of seen.entries()) {
    assert.deepEqual(page.faults, [], `page ${index}`);
    assert.deepEqual(page.messages, there.map(d => d.id), `page ${index}`);
    assert.ok(page.acknowledged > acknowledgedBefore[index]);
    // Each was told of all that it wrote, which are as many as are there.
    assert.equal(there.filter(d => d.get('from') === index).length, page.acknowledged);
    assert.equal((await admin.doc(`counters/p${index}`).get()).get('n'), page.counted, 'each transaction counts once');
  }
  const twice = there.filter(d => d.updateTime.valueOf() !== d.createTime.valueOf());
  t.diagnostic(`${twice.length} messages were sent again and written a second time`);
  await admin.terminate();
  assert.deepEqual(browser.faults, []);
});
