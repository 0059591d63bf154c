// A page from elsewhere, as any page that a user opens is: it reads nothing and changes nothing, by no way that a browser
// offers it; once the server is told to allow it, all of it works.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Browser } from '../support/browser.mjs';
import { node, uniqueProject } from '../support/clients.mjs';
import { Server } from '../support/server.mjs';

const FOREIGN = 'foreign.test';
// How long a page that gets nothing waits for it, and one that gets everything.
const QUIET_MS = 3_000;
const ANSWER_MS_MAX = 60_000;

const skip = process.env.WATCHFIRE_TARGET_HOST ? 'needs a server with settings of its own' : false;

let server;
let browser;
let admin;
let foreign;

before(async () => {
  if (skip) return;
  [server, browser] = await Promise.all([Server.start(), Browser.start(`--host-resolver-rules=MAP ${FOREIGN} 127.0.0.1`)]);
  admin = node(server.host, uniqueProject('browser-origins'));
  await admin.doc('secrets/one').set({ text: 'nobody else reads this' });
  foreign = browser.origin.replace('localhost', FOREIGN);
}, { timeout: 180_000 });

after(async () => {
  await browser?.stop();
  await admin?.terminate();
  await server?.stop();
});

// Everything that a page may try; says what came of it.
const attempts = ([options, quietMs]) => {
  const { fs, lite } = suite;
  const { db } = suite.open('full', options);
  const light = suite.openLite('light', options).db;
  const inTime = promise => Promise.race([promise, new Promise(resolve => setTimeout(() => resolve('nothing'), quietMs))]);
  const outcome = promise => inTime(promise.then(value => value ?? 'done', error => error.code ?? error.name));
  const { projectId, host } = options;
  // A browser sends such a request without asking first, and gives its page no answer.
  const blind = fetch(`http://${host}/v1/projects/${projectId}/databases/(default)/documents:commit`, {
    method: 'POST', mode: 'no-cors', headers: { 'content-type': 'text/plain' },
    body: JSON.stringify({ writes: [{ update: { name: `projects/${projectId}/databases/(default)/documents/forged/blind`, fields: {} } }] }),
  });
  return Promise.all([
    outcome(fs.getDocFromServer(fs.doc(db, 'secrets/one')).then(d => d.get('text'))),
    outcome(fs.setDoc(fs.doc(db, 'forged/full'), { n: 1 })),
    outcome(lite.getDoc(lite.doc(light, 'secrets/one')).then(d => d.get('text'))),
    outcome(lite.setDoc(lite.doc(light, 'forged/light'), { n: 1 })),
    outcome(blind.then(answer => answer.type)),
    outcome(fetch(`http://${host}/v1/projects/${projectId}/databases/(default)/documents/secrets/one`).then(answer => answer.text())),
  ]);
};

const forged = async () => (await admin.collection('forged').get()).docs.map(d => d.id);

test('a page from a foreign origin reads nothing and changes nothing', { skip, timeout: 180_000 }, async () => {
  const page = await browser.page(null, foreign);
  const found = await page.evaluate(attempts, [{ host: server.host, projectId: admin.projectId }, QUIET_MS]);
  for (const outcome of found) assert.doesNotMatch(outcome, /nobody|done/);
  assert.deepEqual(await forged(), []);
  await page.close();
  // The same page, from this machine.
  const home = await browser.page();
  const allowed = await home.evaluate(attempts, [{ host: server.host, projectId: admin.projectId }, ANSWER_MS_MAX]);
  assert.deepEqual(allowed.slice(0, 5), ['nobody else reads this', 'done', 'nobody else reads this', 'done', 'opaque']);
  assert.match(allowed[5], /nobody else reads this/);
  assert.deepEqual(await forged(), ['blind', 'full', 'light']);
  await home.close();
});

test('a foreign origin that the server is told to allow can do everything', { skip, timeout: 180_000 }, async () => {
  await admin.recursiveDelete(admin.collection('forged'));
  await server.restart('--allow-origin', foreign);
  const page = await browser.page(null, foreign);
  const found = await page.evaluate(attempts, [{ host: server.host, projectId: admin.projectId }, ANSWER_MS_MAX]);
  assert.deepEqual(found.slice(0, 5), ['nobody else reads this', 'done', 'nobody else reads this', 'done', 'opaque']);
  assert.deepEqual(await forged(), ['blind', 'full', 'light']);
  await page.close();
  assert.deepEqual(browser.faults, []);
});
