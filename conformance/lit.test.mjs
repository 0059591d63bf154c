// Fifty clients on one chat room and one counter see each other's edits at once, in one order.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FieldValue } from '@google-cloud/firestore';
import { node, until, uniqueProject, web, webClient } from './support/clients.mjs';
import { Server } from './support/server.mjs';

const CLIENTS = Number(process.env.LIT_CLIENTS ?? 50);
const EACH = 20;

// What a client has seen: the newest list of messages and counter, and whether time ever went back.
class Seen {
  constructor() {
    this.messages = [];
    this.counter = -1;
    this.faults = [];
    this.newest = 0n;
  }
  snapshot(ids, readMicros) {
    const now = new Set(ids);
    for (const id of this.messages) {
      if (!now.has(id)) this.faults.push(`message ${id} vanished`);
    }
    if (readMicros !== undefined) {
      if (readMicros < this.newest) this.faults.push('a snapshot went back in time');
      this.newest = readMicros;
    }
    this.messages = ids;
  }
  count(value) {
    if (value < this.counter) this.faults.push(`counter went from ${this.counter} to ${value}`);
    this.counter = value;
  }
}

function nodeClient(host, projectId, index) {
  const db = node(host, projectId);
  const seen = new Seen();
  const stops = [
    db.collection('chat').orderBy('at').onSnapshot(
      snapshot => seen.snapshot(snapshot.docs.map(d => d.id), BigInt(snapshot.readTime.seconds) * 1_000_000n + BigInt(Math.floor(snapshot.readTime.nanoseconds / 1000))),
      error => seen.faults.push(error.message),
    ),
    db.doc('state/counter').onSnapshot(
      snapshot => seen.count(snapshot.get('n') ?? 0),
      error => seen.faults.push(error.message),
    ),
  ];
  return {
    seen,
    async write() {
      const work = [];
      for (let i = 0; i < EACH; i += 1) {
        work.push(db.collection('chat').add({ from: index, i, at: FieldValue.serverTimestamp() }));
        work.push(db.doc('state/counter').set({ n: FieldValue.increment(1) }, { merge: true }));
      }
      await Promise.all(work);
    },
    async close() {
      stops.forEach(stop => stop());
      await db.terminate();
    },
  };
}

function browserClient(host, projectId, index) {
  const { db, close } = webClient(host, projectId);
  const seen = new Seen();
  const chat = web.query(web.collection(db, 'chat'), web.orderBy('at'));
  const stops = [
    web.onSnapshot(
      chat,
      // Only what the server has confirmed: local writes carry an estimated time.
      snapshot => {
        if (!snapshot.metadata.hasPendingWrites && !snapshot.metadata.fromCache) seen.snapshot(snapshot.docs.map(d => d.id));
      },
      error => seen.faults.push(error.message),
    ),
    web.onSnapshot(
      web.doc(db, 'state/counter'),
      { includeMetadataChanges: true },
      snapshot => {
        if (!snapshot.metadata.hasPendingWrites && !snapshot.metadata.fromCache) seen.count(snapshot.get('n') ?? 0);
      },
      error => seen.faults.push(error.message),
    ),
  ];
  return {
    seen,
    async write() {
      const work = [];
      for (let i = 0; i < EACH; i += 1) {
        work.push(web.addDoc(web.collection(db, 'chat'), { from: index, i, at: web.serverTimestamp() }));
        work.push(web.setDoc(web.doc(db, 'state/counter'), { n: web.increment(1) }, { merge: true }));
      }
      await Promise.all(work);
    },
    async close() {
      stops.forEach(stop => stop());
      await close();
    },
  };
}

test('fifty clients write and listen: same messages, same order, exact counter', { timeout: 240_000 }, async t => {
  const server = await Server.start();
  const projectId = uniqueProject('lit');
  const clients = [];
  try {
    for (let index = 0; index < CLIENTS; index += 1) {
      clients.push((index % 2 === 0 ? nodeClient : browserClient)(server.host, projectId, index));
    }
    await until(() => clients.every(c => c.seen.counter >= 0), 'every client is listening');
    const start = Date.now();
    await Promise.all(clients.map(c => c.write()));
    const written = Date.now();
    const total = CLIENTS * EACH;
    await until(
      () => clients.every(c => c.seen.messages.length === total && c.seen.counter === total),
      () => JSON.stringify(clients.map(c => [c.seen.messages.length, c.seen.counter])),
      120_000,
    );
    t.diagnostic(`${2 * total} writes acknowledged in ${written - start} ms, seen by all after ${Date.now() - start} ms`);
    const expected = clients[0].seen.messages;
    assert.equal(new Set(expected).size, total);
    for (const client of clients) {
      assert.deepEqual(client.seen.faults, []);
      assert.deepEqual(client.seen.messages, expected);
      assert.equal(client.seen.counter, total);
    }
    const check = node(server.host, projectId);
    const stored = await check.collection('chat').orderBy('at').get();
    assert.deepEqual(stored.docs.map(d => d.id), expected);
    const froms = new Map();
    stored.docs.forEach(d => froms.set(d.get('from'), (froms.get(d.get('from')) ?? 0) + 1));
    assert.equal(froms.size, CLIENTS);
    assert.ok([...froms.values()].every(n => n === EACH));
    await check.terminate();
  } finally {
    await Promise.all(clients.map(c => c.close()));
    await server.stop();
  }
});
