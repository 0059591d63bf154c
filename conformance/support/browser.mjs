// Headless Chromium, with pages that hold the published web SDK as it is; the pages come from this process, on loopback.

import { once } from 'node:events';
import { existsSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

// The names that `cargo xtask conformance` knows too, each looked for on the PATH.
const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
const LOAD_MS_MAX = 30_000;
// What the SDK throws when a server has broken the protocol; it goes on as a client that is dead.
const ASSERTION = /INTERNAL ASSERTION FAILED|INTERNAL UNHANDLED ERROR/;

function executable() {
  const folders = (process.env.PATH ?? '').split(path.delimiter).filter(Boolean);
  const places = NAMES.flatMap(name => folders.map(folder => path.join(folder, name)));
  const found = process.env.CHROMIUM_BIN || places.find(place => existsSync(place));
  if (!found) throw new Error('no Chromium here; CHROMIUM_BIN may name one, and `cargo xtask conformance` installs one on Debian');
  return found;
}

async function bundled() {
  const { outputFiles: [file] } = await build({
    entryPoints: [path.join(import.meta.dirname, '..', 'browser', 'page', 'page.mjs')],
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'browser',
    target: 'es2022',
    logLevel: 'error',
  });
  return Buffer.from(file.contents);
}

const HTML = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>Conformance</title><script src="/page.js"></script>';

export class Browser {
  // What went wrong in any page that no test has asked about: exceptions that nobody caught, assertions of the SDK.
  faults = [];
  #contexts = [];

  static async start(...args) {
    const browser = new Browser();
    browser.script = await bundled();
    browser.server = http.createServer((request, response) => {
      const { body, contentType } = browser.file(request.url);
      response.writeHead(200, { 'content-type': contentType }).end(body);
    });
    browser.server.listen(0, '127.0.0.1');
    await once(browser.server, 'listening');
    browser.origin = `http://localhost:${browser.server.address().port}`;
    browser.chromium = await chromium.launch({
      executablePath: executable(),
      args: [
        // As root, Chromium has no sandbox to offer.
        ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
        '--disable-dev-shm-usage',
        // A page that comes from no address counts as one from the internet, which may not reach loopback.
        '--disable-features=LocalNetworkAccessChecks',
        ...args,
      ],
    });
    return browser;
  }

  file(url) {
    return new URL(url, 'http://localhost').pathname === '/page.js'
      ? { contentType: 'text/javascript; charset=utf-8', body: this.script }
      : { contentType: 'text/html; charset=utf-8', body: HTML };
  }

  // A profile of its own: its own caches, storage and connections.
  async context(options) {
    const context = await this.chromium.newContext(options);
    this.#contexts.push(context);
    return context;
  }

  // A context whose pages can be loaded while it has no network, as an installed application can.
  async installed(options) {
    const context = await this.context(options);
    await context.route(`${this.origin}/**`, route => route.fulfill({ status: 200, ...this.file(route.request().url()) }));
    return context;
  }

  // A page in a context of its own, or one more tab of the given one.
  async page(context, origin = this.origin) {
    const page = await (context ?? await this.context()).newPage();
    const fault = text => this.faults.push(text);
    page.on('pageerror', error => fault(`${error.message}`));
    page.on('crash', () => fault('a page crashed'));
    page.on('console', message => ASSERTION.test(message.text()) && fault(message.text()));
    page.setDefaultTimeout(LOAD_MS_MAX);
    await page.goto(`${origin}/`);
    return page;
  }

  async pages(count) {
    const pages = [];
    for (let i = 0; i < count; i += 1) pages.push(await this.page());
    return pages;
  }

  async stop() {
    await this.chromium.close();
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

// As a user closes it: its handlers run.
export async function closeTab(page) {
  const closed = page.waitForEvent('close');
  await page.close({ runBeforeUnload: true });
  await closed;
}

// What the back channels of a page ask for: `streaming` or `polling`, one for each GET.
export function backChannels(page) {
  const asked = [];
  page.on('request', request => {
    if (request.method() !== 'GET') return;
    const { pathname, searchParams } = new URL(request.url());
    if (!pathname.endsWith('/channel') || searchParams.get('TYPE') !== 'xmlhttp') return;
    asked.push(searchParams.get('CI') === '1' ? 'polling' : 'streaming');
  });
  return asked;
}
