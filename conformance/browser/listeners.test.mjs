// Many listeners in one page, and many clients in one browser: over HTTP/1.1, where a browser has six connections for a
// host, and over HTTP/2 with TLS, where it has one that carries all. None stalls, and each hears its own change.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import grpc from '@grpc/grpc-js';
import { Browser } from '../support/browser.mjs';
import { node, uniqueProject } from '../support/clients.mjs';
import { Server } from '../support/server.mjs';
import { certificate } from '../support/tls.mjs';

const LISTENERS = 300;
const ROUNDS = 3;
const ROUND_MS_MAX = 60_000;
// Each client has a stream that listens and one that writes; HTTP/1.1 in a browser carries six at once.
const CLIENTS = 30;
// Divides the listeners.
const TABS = 10;

let server;
let browser;
let files;

before(async () => {
  [server, browser, files] = await Promise.all([Server.start(), Browser.start('--ignore-certificate-errors'), certificate()]);
}, { timeout: 120_000 });

after(async () => {
  await browser?.stop();
  await server?.stop();
  await files?.remove();
});

// Every second one listens to a document, the others to a query that only one document can be in.
const listenInPage = ([names, count, from]) => {
  const { fs } = suite;
  suite.seen = Array.from({ length: count }, () => ({ value: null, snapshots: 0, faults: [] }));
  for (let i = 0; i < count; i += 1) {
    const db = suite.db(names[i % names.length]);
    const seen = suite.seen[i];
    const k = from + i;
    const heard = (data, { fromCache, hasPendingWrites }) => {
      if (fromCache || hasPendingWrites) return;
      seen.snapshots += 1;
      seen.value = data?.value ?? 'nothing';
    };
    const fault = error => seen.faults.push(error.message);
    const options = { includeMetadataChanges: true };
    if (k % 2) fs.onSnapshot(fs.doc(db, `things/t${k}`), options, s => heard(s.data(), s.metadata), fault);
    else fs.onSnapshot(fs.query(fs.collection(db, 'things'), fs.where('k', '==', k), fs.where('value', '>', -1)), options, s => heard(s.docs[0]?.data(), s.metadata), fault);
  }
};

const heardInPage = ([value, ms]) => suite.until(
  () => suite.seen.every(s => s.value === value || s.faults.length),
  () => `every listener sees ${value}; ${suite.seen.filter(s => s.value !== value).length} do not, the first of them ${JSON.stringify(suite.seen.map((s, i) => [i, s]).find(([, s]) => s.value !== value))}`,
  ms,
).then(() => suite.seen.flatMap(s => s.faults));

async function change(admin, value) {
  const batch = admin.batch();
  for (let k = 0; k < LISTENERS; k += 1) batch.set(admin.doc(`things/t${k}`), { k, value });
  await batch.commit();
}

// Rounds of changes from outside, then one by the pages themselves, each with its part of the listeners.
async function rounds(t, admin, pages, names) {
  const took = [];
  const all = (work, argument) => Promise.all(pages.map((page, index) => page.evaluate(work, argument(index))));
  const heard = async (value, start) => {
    assert.deepEqual(await all(heardInPage, () => [value, ROUND_MS_MAX]), pages.map(() => []));
    took.push(Date.now() - start);
  };
  await heard('nothing', Date.now());
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = Date.now();
    await change(admin, round);
    await heard(round, start);
  }
  const start = Date.now();
  const share = LISTENERS / pages.length;
  await all(
    ([names, from, count, value]) => Promise.all(Array.from({ length: count }, (_, i) => suite.fs.updateDoc(suite.fs.doc(suite.db(names[i % names.length]), `things/t${from + i}`), { value }))),
    index => [names, index * share, share, ROUNDS],
  );
  await heard(ROUNDS, start);
  t.diagnostic(`${LISTENERS} listeners began after ${took[0]} ms, heard their changes after ${took.slice(1, -1).join(', ')} ms, and those that the pages wrote themselves after ${took.at(-1)} ms`);
}

// The protocols of the answers that a page has got from the server.
async function protocols(page, host) {
  const found = new Set();
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  session.on('Network.responseReceived', ({ response }) => new URL(response.url).host === host && found.add(response.protocol));
  return found;
}

test('HTTP/1.1: 300 listeners of one client', { timeout: 300_000 }, async t => {
  const projectId = uniqueProject('browser-many');
  const admin = node(server.host, projectId);
  const page = await browser.page();
  const spoken = await protocols(page, server.host);
  await page.evaluate(options => { suite.open('one', options); }, { host: server.host, projectId });
  await page.evaluate(listenInPage, [['one'], LISTENERS, 0]);
  await rounds(t, admin, [page], ['one']);
  assert.deepEqual([...spoken], ['http/1.1']);
  await page.close();
  await admin.terminate();
  assert.deepEqual(browser.faults, []);
});

test('HTTP/2 with TLS', { skip: process.env.WATCHFIRE_TARGET_HOST ? 'needs a server with the certificate of the test' : false, timeout: 600_000 }, async t => {
  const secure = await Server.start('--tls-cert', files.cert, '--tls-key', files.key);
  const sslCreds = grpc.credentials.createSsl(await readFile(files.cert));
  const names = Array.from({ length: CLIENTS }, (_, i) => `client-${i}`);
  try {
    for (const [what, tabs, clients] of [
      ['300 listeners of thirty clients in one page', 1, names],
      ['300 listeners of one client', 1, names.slice(0, 1)],
      [`${TABS} tabs of one browser, two clients in each`, TABS, names.slice(0, 2)],
    ]) {
      await t.test(what, async t => {
        const projectId = uniqueProject('browser-h2');
        const admin = node(secure.host, projectId, { ssl: true, sslCreds });
        const context = await browser.context();
        const spoken = [];
        const pages = [];
        for (let index = 0; index < tabs; index += 1) {
          const page = await browser.page(context);
          spoken.push(await protocols(page, secure.host));
          await page.evaluate(([names, options]) => names.forEach(name => suite.open(name, options)), [clients, { host: secure.host, ssl: true, projectId, settings: { experimentalAutoDetectLongPolling: false } }]);
          await page.evaluate(listenInPage, [clients, LISTENERS / tabs, index * LISTENERS / tabs]);
          pages.push(page);
        }
        await rounds(t, admin, pages, clients);
        for (const one of spoken) assert.deepEqual([...one], ['h2']);
        await context.close();
        await admin.terminate();
      });
    }
  } finally {
    await secure.stop();
  }
  assert.deepEqual(browser.faults, []);
});
