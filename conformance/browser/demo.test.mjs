// The page /demo as the server gives it out, in windows beside each other: what one does the other sees, offline or not,
// and nobody is asked for anything but the server.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Browser, closeTab } from '../support/browser.mjs';
import { node, until } from '../support/clients.mjs';
import { Server } from '../support/server.mjs';

const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
// Bytes that come over the wire before the page can be used, with headers.
const TRANSFER_BYTES_MAX = 250 * 1024;
// No measure of speed: a page that takes as long waits for something that does not come.
const USABLE_MS_MAX = 10_000;
const LOADS = 5;
const MOVES_PER_SECOND_MAX = 20;
// How far apart two windows may draw the same note, in pixels.
const APART_PX_MAX = 3;
// Who closes a window says so; without that they would be listed until sixteen seconds after they were last heard, which
// they are every four.
const GOODBYE_MS_MAX = 11_000;
const TEST_MS_MAX = 300_000;
// The SDK's channel looks for this picture when a server is gone, to tell a lost server from a lost network.
const NETWORK_PROBE = 'https://www.google.com/images/cleardot.gif';

let server;
let browser;
let origin;
// Where pictures of the page go; they are kept where somebody has asked for them.
let artefacts;
const faults = [];
// Requests to anybody but the server.
const asked = new Set();

before(async () => {
  [server, browser] = await Promise.all([Server.start(), Browser.start()]);
  origin = `http://${server.host}`;
  artefacts = process.env.WATCHFIRE_ARTEFACTS;
  if (artefacts) await mkdir(artefacts, { recursive: true });
  else artefacts = await mkdtemp(path.join(os.tmpdir(), 'watchfire-demo-'));
}, { timeout: TEST_MS_MAX });

after(async () => {
  await browser?.stop();
  await server?.stop();
  if (artefacts && !process.env.WATCHFIRE_ARTEFACTS) await rm(artefacts, { recursive: true, force: true });
});

// The server, also by the name of its own that a further window of a profile asks it by.
function isServer(address) {
  const { protocol, hostname, port } = new URL(address);
  return protocol === 'data:' || port === new URL(origin).port && (hostname === '127.0.0.1' || hostname.endsWith('.localhost'));
}

let boards = 0;
const newBoard = () => `t${process.pid}-${(boards += 1)}`;

// A window of its own visitor, once it can be used; in a browser profile of its own unless one is given.
async function open(board, { viewport = DESKTOP, profile, ...options } = {}) {
  const context = profile ?? await browser.context({ viewport, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.on('pageerror', error => faults.push(error.stack ?? error.message));
  page.on('console', message => {
    const text = message.text();
    if (/Content.Security|ASSERTION/i.test(text) && !text.includes(NETWORK_PROBE)) faults.push(text);
  });
  page.on('request', request => isServer(request.url()) || asked.add(request));
  // What the page's policy forbids has not left the browser.
  page.on('requestfailed', request => request.failure().errorText === 'csp' && request.url().includes(NETWORK_PROBE)
    && asked.delete(request));
  page.usable = async () => {
    await page.waitForFunction(() => performance.getEntriesByName('usable').length > 0);
    return page.evaluate(() => performance.getEntriesByName('usable')[0].startTime);
  };
  await page.goto(`${origin}/demo/#board=${board}`);
  page.usableMs = await page.usable();
  return page;
}

const two = async (options = {}) => {
  const board = newBoard();
  const pages = [await open(board, options), await open(board, options)];
  for (const page of pages) await page.getByRole('button', { name: 'Add note' }).waitFor();
  return pages;
};

// Adds a note at a place of the board and writes on it.
async function note(page, x, y, text) {
  const box = await page.locator('#board').boundingBox();
  await page.mouse.dblclick(box.x + x * box.width, box.y + y * box.height);
  await page.getByRole('textbox', { name: 'Text of the note' }).waitFor();
  await page.keyboard.type(text);
  await page.keyboard.press('Escape');
}

const noteOf = (page, text) => page.locator('article.note').filter({ hasText: text });
const shown = (page, text) => noteOf(page, text).waitFor();
const place = (page, text) => noteOf(page, text).boundingBox();
const count = page => page.locator('#count').textContent();
const pendingCount = async page => Number(await page.locator('#pending').textContent());
const state = page => page.locator('#state').textContent();
const goOffline = page => page.getByRole('switch', { name: 'Work offline' }).click();
const picture = (page, name) => page.screenshot({ path: path.join(artefacts, `${name}.png`) });

async function samePlace(pages, text) {
  await until(async () => {
    const [a, b] = await Promise.all(pages.map(page => place(page, text)));
    return Math.abs(a.x - b.x) <= APART_PX_MAX && Math.abs(a.y - b.y) <= APART_PX_MAX;
  }, `both windows have ${text} in the same place`);
}

test('the page is small, can be used soon, and asks nobody else', { timeout: TEST_MS_MAX }, async t => {
  const times = [];
  let bytes;
  for (let load = 0; load < LOADS; load += 1) {
    const page = await open(newBoard());
    times.push(page.usableMs);
    bytes = await page.evaluate(() => performance.getEntries()
      .filter(entry => ['navigation', 'resource'].includes(entry.entryType) && new URL(entry.name).pathname.startsWith('/demo'))
      .reduce((sum, entry) => sum + entry.transferSize, 0));
    await page.context().close();
  }
  times.sort((a, b) => a - b);
  t.diagnostic(`transferred: ${(bytes / 1024).toFixed(1)} KiB; usable after ${times.map(ms => ms.toFixed(0)).join(', ')} ms`);
  assert.ok(bytes > 0 && bytes <= TRANSFER_BYTES_MAX, `${bytes} bytes`);
  assert.ok(times[0] <= USABLE_MS_MAX, `usable after ${times[0]} ms at best`);
  const again = await fetch(`${origin}/demo/assets/none.js`);
  assert.equal(again.status, 404);
});

test('what one window does the other sees: notes, their places and texts, the counter', { timeout: TEST_MS_MAX }, async () => {
  const [a, b] = await two();
  await note(a, 0.3, 0.3, 'Lanterns to the jetty');
  await shown(b, 'Lanterns to the jetty');
  await samePlace([a, b], 'Lanterns to the jetty');

  const from = await place(b, 'Lanterns to the jetty');
  await b.mouse.move(from.x + 40, from.y + 20);
  await b.mouse.down();
  await b.mouse.move(from.x + 340, from.y + 220, { steps: 12 });
  await b.mouse.up();
  const to = await place(b, 'Lanterns to the jetty');
  assert.ok(Math.abs(to.x - from.x - 300) <= APART_PX_MAX && Math.abs(to.y - from.y - 200) <= APART_PX_MAX);
  await samePlace([a, b], 'Lanterns to the jetty');

  await noteOf(b, 'Lanterns').dblclick();
  await b.keyboard.press('End');
  await b.keyboard.type(' before dusk');
  // It is seen as it is typed.
  await shown(a, 'Lanterns to the jetty before dusk');
  await b.keyboard.press('Escape');

  const add = page => page.getByRole('button', { name: 'Add one to the counter' }).click();
  await Promise.all([a, b].flatMap(page => [add(page), add(page), add(page)]));
  await until(async () => (await count(a)) === '6' && (await count(b)) === '6', 'both windows count 6');

  await noteOf(a, 'Lanterns').hover();
  await noteOf(a, 'Lanterns').getByRole('button', { name: 'Delete note' }).click();
  await noteOf(b, 'Lanterns').waitFor({ state: 'detached' });
  await a.getByRole('button', { name: 'Put it back' }).click();
  await shown(b, 'Lanterns to the jetty before dusk');
  await until(async () => (await pendingCount(a)) === 0 && (await pendingCount(b)) === 0, 'nothing waits');
});

test('what is done offline waits with a mark, and arrives when the window is online again', { timeout: TEST_MS_MAX }, async () => {
  const [a, b] = await two();
  await note(a, 0.3, 0.3, 'Written before');
  await shown(b, 'Written before');
  await goOffline(a);
  assert.equal(await state(a), 'Offline');
  await note(a, 0.6, 0.5, 'Written offline');
  await noteOf(a, 'Written before').focus();
  await a.keyboard.press('Shift+ArrowRight');
  await a.getByRole('button', { name: 'Add one to the counter' }).click();
  for (const text of ['Written offline', 'Written before']) {
    await noteOf(a, text).getByText('waiting').waitFor();
    assert.match(await noteOf(a, text).getAttribute('aria-label'), /waiting to be sent/);
  }
  assert.ok(await a.locator('#counter[data-waiting]').isVisible());
  // A note, its text, a move, and the counter: typing and moving do not pile up.
  const waiting = await pendingCount(a);
  assert.ok(waiting >= 4 && waiting <= 6, `${waiting} writes wait`);
  assert.equal(await noteOf(b, 'Written offline').count(), 0);
  assert.equal(await count(b), '0');
  await picture(a, 'offline');

  await b.getByRole('button', { name: 'Add one to the counter' }).click();
  await until(async () => (await count(b)) === '1', 'the other window counts on');
  await goOffline(a);
  await shown(b, 'Written offline');
  await samePlace([a, b], 'Written before');
  await until(async () => (await count(a)) === '2' && (await count(b)) === '2', 'both windows count both');
  await until(async () => (await pendingCount(a)) === 0 && (await state(a)) === 'Live', 'nothing waits, and the state is Live');
  assert.doesNotMatch(await noteOf(a, 'Written offline').getAttribute('aria-label'), /waiting/);
});

test('who is here is listed with a cursor, and who falls silent fades and goes', { timeout: TEST_MS_MAX }, async t => {
  const [a, b] = await two();
  const c = await open(new URL(a.url()).hash.split('=')[1]);
  const people = page => page.getByRole('list').getByRole('listitem');
  for (const page of [a, b, c]) await until(async () => (await people(page).count()) === 3, 'three are here');
  const name = await c.getByRole('textbox', { name: 'Your name' }).inputValue();
  const colours = await people(a).evaluateAll(rows => rows.map(row => row.dataset.colour));
  assert.equal(new Set(colours).size, 3, `each has a colour: ${colours}`);

  const [boxA, boxC] = [await a.locator('#board').boundingBox(), await c.locator('#board').boundingBox()];
  await c.mouse.move(boxC.x + 300, boxC.y + 250, { steps: 4 });
  const cursor = a.locator('.cursor').filter({ hasText: name });
  await until(async () => {
    const moved = await cursor.evaluate(shown => new DOMMatrix(getComputedStyle(shown).transform));
    return Math.abs(moved.e - 300) <= APART_PX_MAX && Math.abs(moved.f - 250) <= APART_PX_MAX;
  }, 'the cursor is where the other visitor points');
  assert.ok(boxA.width === boxC.width);

  await b.getByRole('textbox', { name: 'Your name' }).fill('Ines');
  await b.keyboard.press('Enter');
  await people(a).filter({ hasText: 'Ines' }).waitFor();

  // One goes offline without a word, one closes the window.
  await goOffline(c);
  await closeTab(b);
  const start = Date.now();
  const gone = people(a).filter({ hasText: 'Ines' }).waitFor({ state: 'detached', timeout: GOODBYE_MS_MAX })
    .then(() => t.diagnostic(`who closed the window was gone after ${Date.now() - start} ms`));
  await people(a).filter({ hasText: name }).getByText('silent').waitFor();
  await people(a).filter({ hasText: name }).waitFor({ state: 'detached' });
  await gone;
  await goOffline(c);
  await people(a).filter({ hasText: name }).waitFor();
});

test('a pointer that moves costs at most twenty writes a second, and none while offline', { timeout: TEST_MS_MAX }, async t => {
  // Asked by another way, which a server in front of the page may not have.
  if (process.env.WATCHFIRE_TARGET_HOST) return t.skip('counts the writes over gRPC');
  const board = newBoard();
  const page = await open(board);
  const db = node(server.host, 'demo');
  let written = 0;
  const stop = db.collection(`boards/${board}/people`).onSnapshot(snapshot => {
    written += snapshot.docChanges().filter(change => change.type !== 'removed').length;
  });
  try {
    await until(() => written > 0, 'the visitor says that they are here');
    const box = await page.locator('#board').boundingBox();
    const move = async () => {
      const start = Date.now();
      const before = written;
      for (let step = 0; Date.now() - start < 2_000; step += 1) {
        await page.mouse.move(box.x + 100 + (step % 400), box.y + 100 + (step % 300));
      }
      const seconds = (Date.now() - start) / 1_000;
      return (written - before) / seconds;
    };
    const before = written;
    const online = await move();
    t.diagnostic(`${online.toFixed(1)} writes a second while the pointer moves`);
    assert.ok(online <= MOVES_PER_SECOND_MAX + 1.5, `${online} writes a second`);
    await until(() => written > before + 1, 'where the pointer is has been written');
    await goOffline(page);
    await until(async () => (await state(page)) === 'Offline', 'offline');
    await move();
    assert.equal(await pendingCount(page), 0);
  } finally {
    stop();
    await db.terminate();
  }
});

test('six windows of one browser see each other, though it has but six connections for a name', { timeout: TEST_MS_MAX }, async () => {
  const board = newBoard();
  const profile = await browser.context({ viewport: DESKTOP });
  const pages = [];
  for (let window = 0; window < 6; window += 1) pages.push(await open(board, { profile }));
  // A window that writes keeps a second connection.
  for (const page of pages) await page.getByRole('button', { name: 'Add one to the counter' }).click();
  for (const page of pages) await until(async () => (await count(page)) === '6', 'every window counts all six');
  for (const page of pages) {
    await until(async () => (await page.getByRole('list').getByRole('listitem').count()) === 6, 'all six are here');
    assert.equal(await state(page), 'Live');
  }
});

test('everything can be done by the keyboard', { timeout: TEST_MS_MAX }, async () => {
  const [a, b] = await two();
  await a.keyboard.press('n');
  await a.getByRole('textbox', { name: 'Text of the note' }).waitFor();
  await a.keyboard.type('By keys');
  await a.keyboard.press('Escape');
  await shown(b, 'By keys');
  const from = await place(b, 'By keys');
  await a.keyboard.press('Shift+ArrowLeft');
  await until(async () => (await place(b, 'By keys')).x < from.x - 20, 'it moves to the left');
  // Faster than they are sent: none is lost.
  // Where it glides to, and not where it is on its way.
  const goal = page => noteOf(page, 'By keys').evaluate(note => new DOMMatrix(note.style.transform).e);
  const left = await goal(a);
  for (let press = 0; press < 5; press += 1) await a.keyboard.press('ArrowRight');
  const { width } = await a.locator('#board').boundingBox();
  await until(async () => Math.abs((await goal(b)) - left - 0.1 * width) <= APART_PX_MAX, 'five steps to the right');
  await a.keyboard.press('Enter');
  await a.keyboard.type(' alone');
  await a.keyboard.press('Control+Enter');
  await shown(b, 'By keys alone');
  await a.keyboard.press('+');
  await until(async () => (await count(b)) === '1', 'the counter counts');
  await a.keyboard.press('o');
  assert.equal(await a.getByRole('switch', { name: 'Work offline' }).getAttribute('aria-checked'), 'true');
  await a.keyboard.press('o');
  await noteOf(a, 'By keys').focus();
  await a.keyboard.press('Delete');
  await noteOf(b, 'By keys').waitFor({ state: 'detached' });
  const board = a.getByRole('textbox', { name: 'Board' });
  await board.fill('Another Place!');
  await board.press('Enter');
  await until(() => a.url().endsWith('#board=another-place'), 'the address names the other board');
  await until(async () => (await a.title()) === 'another-place · Watchfire', 'the other board is open');
});

test('a server that goes away is said in words, and what was done meanwhile arrives', { timeout: TEST_MS_MAX }, async t => {
  if (process.env.WATCHFIRE_TARGET_HOST) return t.skip('needs a server that may be killed');
  const [a, b] = await two();
  await server.kill();
  const killed = Date.now();
  for (const page of [a, b]) await until(async () => (await state(page)) === 'Reconnecting', 'both say that they reconnect');
  t.diagnostic(`said after ${Date.now() - killed} ms`);
  await note(a, 0.4, 0.4, 'Written without a server');
  await noteOf(a, 'Written without').getByText('waiting').waitFor();
  assert.equal(await state(a), 'Reconnecting');
  await picture(a, 'reconnecting');
  await server.launch();
  const start = Date.now();
  await noteOf(b, 'Written without a server').waitFor();
  for (const page of [a, b]) await until(async () => (await state(page)) === 'Live', 'both are live again');
  t.diagnostic(`together again ${Date.now() - start} ms after the server was back`);
});

test('it can be looked at: wide, narrow, light and dark', { timeout: TEST_MS_MAX }, async () => {
  const board = newBoard();
  const light = await open(board, { colorScheme: 'light' });
  const dark = await open(board, { colorScheme: 'dark' });
  await picture(light, 'empty');
  await note(light, 0.2, 0.25, 'Bring the lanterns down to the jetty before dusk');
  await note(dark, 0.5, 0.3, 'Who has the key to the boathouse?');
  await note(light, 0.72, 0.55, 'Tea at four.\nEverybody welcome, bring a cup. The long table by the window is ours until six.');
  await note(dark, 0.3, 0.65, 'Ask Ines about the map');
  const box = await light.locator('#board').boundingBox();
  await light.mouse.move(box.x + 420, box.y + 400);
  await dark.mouse.move(box.x + 640, box.y + 520);
  const phone = await open(board, { viewport: PHONE, hasTouch: true, isMobile: true, deviceScaleFactor: 2, colorScheme: 'dark' });
  for (const page of [light, dark, phone]) {
    await shown(page, 'Ask Ines');
    await until(async () => (await page.getByRole('list').getByRole('listitem').count()) === 3, 'three are here');
    const outside = await page.evaluate(() => document.scrollingElement.scrollWidth > innerWidth
      || document.scrollingElement.scrollHeight > innerHeight);
    assert.equal(outside, false, 'nothing is cut off by the window');
  }
  await picture(light, 'light');
  await picture(dark, 'dark');
  await picture(phone, 'phone');
  // A tap chooses a note, a second one lets type.
  await noteOf(phone, 'Ask Ines').tap();
  await noteOf(phone, 'Ask Ines').tap();
  await phone.getByRole('textbox', { name: 'Text of the note' }).waitFor();
  await picture(phone, 'phone-typing');
});

test('no page has failed, and none has asked anybody but the server', () => {
  assert.deepEqual(faults, []);
  assert.deepEqual([...asked].map(request => request.url()), []);
});
