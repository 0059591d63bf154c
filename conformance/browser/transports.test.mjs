// Twenty pages, each in a browser profile of its own, write and listen over every way that the web SDK has to a server:
// streaming, long polling, and what it finds out by itself behind a proxy that holds answers back and one that does not.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { backChannels, Browser } from '../support/browser.mjs';
import { node, random, uniqueProject, until } from '../support/clients.mjs';
import { load, store } from '../support/data.mjs';
import { Nginx } from '../support/nginx.mjs';
import { webQuestions } from '../support/questions.mjs';
import { Server } from '../support/server.mjs';

const PAGES = 20;
const MESSAGES_EACH = 10;
const TRANSFERS_EACH = 5;
const ACCOUNTS = 10;
const START = 1_000;
// Far longer than two pieces of an answer take, and shorter than a server keeps it open.
const PIECE_MS_MAX = 60_000;
const SETTLE_MS_MAX = 120_000;

let server;
let browser;
let pages;
let asked;
let data;
let stored;
const proxies = [];

before(async () => {
  [server, browser, data] = await Promise.all([Server.start(), Browser.start(), load()]);
  stored = node(server.host, uniqueProject('browser-data'));
  [pages] = await Promise.all([browser.pages(PAGES), store(stored, data)]);
  asked = pages.map(backChannels);
}, { timeout: 120_000 });

after(async () => {
  await browser?.stop();
  await stored?.terminate();
  for (const proxy of proxies) await proxy.stop();
  await server?.stop();
});

// Runs in every page at once; `each` gives the page's own argument.
const everywhere = (work, each = () => undefined) => Promise.all(pages.map((page, index) => page.evaluate(work, each(index))));

async function room(t, name, options) {
  const projectId = uniqueProject('browser-chat');
  await everywhere(([name, options, index]) => {
    suite.room = suite.chat(suite.open(name, options).db, index);
  }, index => [`${name}-chat`, { ...options, projectId }, index]);
  const states = () => everywhere(() => suite.room.seen);
  try {
    await until(async () => (await states()).every(s => s.counter >= 0), 'every page listens');
    const start = Date.now();
    await everywhere(count => suite.room.write(count), () => MESSAGES_EACH);
    const written = Date.now();
    const total = PAGES * MESSAGES_EACH;
    let seen;
    await until(
      async () => (seen = await states()).every(s => s.messages.length === total && s.counter === total),
      () => `every page sees all ${total}: ${JSON.stringify(seen.map(s => [s.messages.length, s.counter, s.faults]))}`,
      SETTLE_MS_MAX,
    );
    t.diagnostic(`${2 * total} writes acknowledged in ${written - start} ms, seen by all after ${Date.now() - start} ms, in ${seen.reduce((all, s) => all + s.snapshots, 0)} snapshots of the room`);
    const admin = node(server.host, projectId);
    const there = (await admin.collection('chat').orderBy('at').get()).docs;
    assert.equal((await admin.doc('state/counter').get()).get('n'), total);
    await admin.terminate();
    assert.deepEqual(there.map(d => `${d.get('from')}/${d.get('i')}`).sort(), pages.flatMap((_, from) => Array.from({ length: MESSAGES_EACH }, (_, i) => `${from}/${i}`)).sort());
    for (const [index, page] of seen.entries()) {
      assert.deepEqual(page.faults, [], `page ${index}`);
      assert.deepEqual(page.messages, there.map(d => d.id), `page ${index}`);
    }
  } finally {
    await everywhere(async name => (suite.room.stop(), await suite.client(name).close()), () => `${name}-chat`);
  }
}

async function answers(name, options) {
  const [page] = pages;
  await page.evaluate(([name, options]) => { suite.open(name, options); }, [`${name}-data`, { ...options, projectId: stored.projectId }]);
  const questions = webQuestions(data);
  assert.ok(questions.length >= 30);
  for (const { name: question, calls, expected } of questions) {
    const found = await page.evaluate(([name, calls]) => suite.ask(suite.db(name), calls), [`${name}-data`, calls]);
    assert.deepEqual(found, expected, question);
  }
  await page.evaluate(name => suite.client(name).close(), `${name}-data`);
}

async function bank(t, name, options) {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  const next = random(seed);
  const projectId = uniqueProject('browser-bank');
  const admin = node(server.host, projectId);
  const batch = admin.batch();
  for (let i = 0; i < ACCOUNTS; i += 1) batch.set(admin.doc(`accounts/a${i}`), { balance: START, moves: 0 });
  await batch.commit();
  await everywhere(([name, options]) => { suite.open(name, options); }, () => [`${name}-bank`, { ...options, projectId }]);
  try {
    const [watcher] = pages;
    await watcher.evaluate(async name => {
      suite.watched = suite.accounts.watch(suite.db(name));
      await suite.until(() => suite.watched.snapshots, 'the first snapshot of the accounts');
    }, `${name}-bank`);
    const start = Date.now();
    const done = await everywhere(([name, plan]) => suite.accounts.transfer(suite.db(name), plan), () => [`${name}-bank`, Array.from({ length: TRANSFERS_EACH }, () => {
      const from = Math.floor(next() * ACCOUNTS);
      return [from, (from + 1 + Math.floor(next() * (ACCOUNTS - 1))) % ACCOUNTS, 1 + Math.floor(next() * 10)];
    })]);
    const total = PAGES * TRANSFERS_EACH;
    assert.equal(done.reduce((a, b) => a + b), total);
    const seen = await watcher.evaluate(async moves => {
      await suite.until(() => suite.watched.moves === moves, () => `the watcher sees ${moves} moves: ${suite.watched.moves}`);
      suite.watched.stop();
      return suite.watched;
    }, 2 * total);
    t.diagnostic(`seed ${seed}: ${total} transfers in ${Date.now() - start} ms, watched in ${seen.snapshots} snapshots`);
    assert.deepEqual(seen.faults, []);
    assert.deepEqual(seen.sums, [ACCOUNTS * START], 'no page ever sees another sum');
    const there = (await admin.collection('accounts').get()).docs;
    assert.equal(there.reduce((all, d) => all + d.get('balance'), 0), ACCOUNTS * START);
    assert.equal(there.reduce((all, d) => all + d.get('moves'), 0), 2 * total);
  } finally {
    await everywhere(name => suite.client(name).close(), () => `${name}-bank`);
    await admin.terminate();
  }
}

async function behind(...settings) {
  const proxy = await Nginx.start(server.port, ...settings);
  proxies.push(proxy);
  return proxy.host;
}

const STREAMING = ['streaming'];
const POLLING = ['polling'];
// What compresses cannot tell what has come so far, unless it is told to pass each piece on.
const COMPRESSES = ['proxy_buffering on;', 'gzip on;', 'gzip_types text/plain;', 'gzip_min_length 0;'];

// Whether what all the back channels of all pages asked for is right. Where answers pass, the SDK may still poll: it goes
// by how long the first bytes take, which on a busy machine is long. That they pass is asked without it.
const all = kinds => lists => lists.every(list => list.length && list.every(kind => kinds.includes(kind)));
const foundOut = lists => lists.every(list => list.includes('polling'));

// Whether an answer that streams comes in pieces by this host: what is written after some of it has come is in it too.
async function comesInPieces(host) {
  const projectId = uniqueProject('browser-pieces');
  const database = `projects/${projectId}/databases/(default)`;
  const admin = node(server.host, projectId);
  const ask = (parameters, options) => fetch(`http://${host}/google.firestore.v1.Firestore/Listen/channel?${new URLSearchParams({ VER: 8, database, ...parameters })}`, options);
  const target = { database, addTarget: { targetId: 2, documents: { documents: [`${database}/documents/a/b`] } } };
  const opened = await ask({ RID: 1, CVER: 22, 'X-HTTP-Session-Id': 'gsessionid' }, {
    method: 'POST', body: new URLSearchParams({ count: 1, ofs: 0, req0___data__: JSON.stringify(target) }),
  });
  const text = await opened.text();
  const [[, [, SID]]] = JSON.parse(text.slice(text.indexOf('\n')));
  const session = { SID, gsessionid: opened.headers.get('x-http-session-id') };
  const signal = AbortSignal.timeout(PIECE_MS_MAX);
  try {
    // Browsers accept compression, and the proxy goes by that.
    const answer = await ask({ ...session, RID: 'rpc', AID: 0, CI: 0, TYPE: 'xmlhttp' }, { headers: { 'accept-encoding': 'gzip' }, signal });
    const decoder = new TextDecoder();
    let come = '';
    for await (const bytes of answer.body) {
      if (!come) await admin.doc('a/b').set({ text: 'written meanwhile' });
      come += decoder.decode(bytes, { stream: true });
      if (come.includes('written meanwhile')) return true;
    }
    return false;
  } catch (error) {
    if (signal.aborted) return false;
    throw error;
  } finally {
    await ask({ ...session, RID: 2, AID: 0, TYPE: 'terminate' }, { method: 'POST' });
    await admin.terminate();
  }
}

const WAYS = [
  { name: 'streaming', host: () => server.host, settings: { experimentalAutoDetectLongPolling: false }, right: all(STREAMING) },
  { name: 'forced long polling', host: () => server.host, settings: { experimentalForceLongPolling: true }, right: all(POLLING) },
  { name: 'behind nginx that passes answers on', host: () => behind('proxy_buffering off;'), settings: {}, right: all([...STREAMING, ...POLLING]), passes: true },
  // The server asks it to pass these answers on, and it does.
  { name: 'behind nginx that compresses', host: () => behind(...COMPRESSES), settings: {}, right: all([...STREAMING, ...POLLING]), few: true, passes: true },
  // Such a proxy lets nothing through before an answer ends; the SDK finds out and polls.
  { name: 'behind nginx that holds answers back', host: () => behind(...COMPRESSES, 'proxy_ignore_headers X-Accel-Buffering;'), settings: {}, right: foundOut },
];

for (const { name, host, settings, right, few, passes } of WAYS) {
  test(name, { timeout: 600_000 }, async t => {
    const options = { host: await host(), settings };
    asked.forEach(list => list.splice(0));
    if (passes) await t.test('an answer that streams comes in pieces', async () => assert.ok(await comesInPieces(options.host)));
    await t.test('twenty pages write and listen: same messages, same order, exact counter', t => room(t, name, options));
    if (!few) await t.test('every question has its answer', () => answers(name, options));
    if (!few) await t.test('the sum of all accounts never changes, and no transfer is lost', t => bank(t, name, options));
    const only = kind => asked.filter(list => list.every(one => one === kind)).length;
    t.diagnostic(`${only('streaming')} pages only streamed, ${only('polling')} only polled`);
    assert.ok(right(asked), `the back channels were of the kind that the test is about: ${JSON.stringify(asked)}`);
    assert.deepEqual(browser.faults, []);
  });
}
