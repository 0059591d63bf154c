// Instances of the published SDKs, each with its own connection.

import { Firestore } from '@google-cloud/firestore';
import { deleteApp, initializeApp } from 'firebase/app';
import * as web from 'firebase/firestore';

let count = 0;

web.setLogLevel('silent');

export function uniqueProject(name) {
  count += 1;
  return `${name}-${process.pid}-${count}`;
}

export function node(host, projectId, settings = {}) {
  return new Firestore({ projectId, host, ssl: false, ...settings });
}

// A web SDK instance (its Node build speaks gRPC); `close` releases it.
export function webClient(host, projectId) {
  count += 1;
  const app = initializeApp({ projectId, apiKey: 'none' }, `app-${count}`);
  const db = web.initializeFirestore(app, {});
  const [name, port] = host.split(':');
  web.connectFirestoreEmulator(db, name, Number(port));
  return { app, db, close: () => deleteApp(app) };
}

export async function until(condition, what, ms = 60_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`timed out after ${ms} ms: ${typeof what === 'function' ? what() : what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

// A small seeded generator; the seed is printed so that a failure can be repeated.
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export { web };
