// What a page of the suites holds: the published web SDK, whole and lite, and what the suites do with it. Tests call it
// as `suite` from functions that run in the page.

import { deleteApp, initializeApp } from 'firebase/app';
import * as fs from 'firebase/firestore';
import * as lite from 'firebase/firestore/lite';

import { accounts } from './accounts.mjs';
import { chat } from './chat.mjs';
import { ask } from './queries.mjs';

fs.setLogLevel('error');

const clients = new Map();

const caches = {
  memory: () => fs.memoryLocalCache(),
  singleTab: () => fs.persistentLocalCache({ tabManager: fs.persistentSingleTabManager({}) }),
  multipleTabs: () => fs.persistentLocalCache({ tabManager: fs.persistentMultipleTabManager() }),
};

// One client, by a name that is also that of its cache.
function open(name, { host, ssl = false, projectId, database = '(default)', cache = 'memory', settings = {} }) {
  const app = initializeApp({ projectId, apiKey: 'none' }, name);
  // What a TLS port is reached by is the host in the settings; plain HTTP is what the SDK calls an emulator.
  const db = fs.initializeFirestore(app, { localCache: caches[cache](), ...settings, ...(ssl ? { host, ssl } : {}) }, database);
  const [hostname, port] = host.split(':');
  if (!ssl) fs.connectFirestoreEmulator(db, hostname, Number(port));
  const client = { app, db, close: async () => (clients.delete(name), await fs.terminate(db), await deleteApp(app)) };
  clients.set(name, client);
  return client;
}

// One client of the lite SDK: requests only.
function openLite(name, { host, ssl = false, projectId, database = '(default)' }) {
  const app = initializeApp({ projectId, apiKey: 'none' }, name);
  const db = lite.initializeFirestore(app, ssl ? { host, ssl } : {}, database);
  const [hostname, port] = host.split(':');
  if (!ssl) lite.connectFirestoreEmulator(db, hostname, Number(port));
  clients.set(name, { app, db, close: async () => (clients.delete(name), await deleteApp(app)) });
  return clients.get(name);
}

async function until(condition, what, ms = 60_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`timed out after ${ms} ms in the page: ${typeof what === 'function' ? what() : what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

// `seen` is for what a test wants to find again in a later call.
window.suite = { fs, lite, open, openLite, until, chat, accounts, ask, clients, seen: {}, client: name => clients.get(name), db: name => clients.get(name).db };
