// Money moves between accounts from fifty clients at once; the sum never changes for any reader.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { node, random, until, uniqueProject, web, webClient } from './support/clients.mjs';
import { Server } from './support/server.mjs';

const CLIENTS = 50;
const TRANSFERS = 20;
const ACCOUNTS = 10;
const START = 1_000;

const name = index => `accounts/a${index}`;

// One attempt may lose; the SDK gives up after a few, so the application asks again, and each transfer must end once.
async function insist(work) {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      const code = error.code;
      const retryable = code === 10 || code === 'aborted' || code === 'failed-precondition' || code === 9;
      if (!retryable) throw error;
      await new Promise(resolve => setTimeout(resolve, 5 + Math.random() * 50 * Math.min(attempt + 1, 10)));
    }
  }
  throw new Error('a transfer lost 200 times');
}

test('the sum of all accounts never changes, and no transfer is lost', { timeout: 400_000 }, async t => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  t.diagnostic(`seed ${seed}`);
  const next = random(seed);
  const server = await Server.start();
  const projectId = uniqueProject('bank');
  const admin = node(server.host, projectId);
  const closers = [() => admin.terminate()];
  try {
    const batch = admin.batch();
    for (let i = 0; i < ACCOUNTS; i += 1) batch.set(admin.doc(name(i)), { balance: START, moves: 0 });
    await batch.commit();

    const faults = [];
    let listened = 0;
    const sum = snapshot => snapshot.docs.reduce((all, d) => all + d.get('balance'), 0);
    const stopNode = admin.collection('accounts').onSnapshot(
      s => {
        listened += 1;
        if (sum(s) !== ACCOUNTS * START) faults.push(`node listener saw ${sum(s)}`);
      },
      e => faults.push(e.message),
    );
    closers.unshift(stopNode);
    const reader = webClient(server.host, projectId);
    closers.push(reader.close);
    const stopWeb = web.onSnapshot(
      web.collection(reader.db, 'accounts'),
      s => {
        listened += 1;
        if (s.size === ACCOUNTS && sum(s) !== ACCOUNTS * START) faults.push(`web listener saw ${sum(s)}`);
      },
      e => faults.push(e.message),
    );

    let running = true;
    let reads = 0;
    const watcher = (async () => {
      while (running) {
        const inOne = await admin.runTransaction(tx => tx.get(admin.collection('accounts')), { readOnly: true });
        if (sum(inOne) !== ACCOUNTS * START) faults.push(`a read-only transaction saw ${sum(inOne)}`);
        const plain = await admin.collection('accounts').get();
        if (sum(plain) !== ACCOUNTS * START) faults.push(`a query saw ${sum(plain)}`);
        reads += 1;
      }
    })();

    const start = Date.now();
    let done = 0;
    const work = [];
    for (let c = 0; c < CLIENTS; c += 1) {
      const plan = Array.from({ length: TRANSFERS }, () => {
        const from = Math.floor(next() * ACCOUNTS);
        const to = (from + 1 + Math.floor(next() * (ACCOUNTS - 1))) % ACCOUNTS;
        return { from, to, amount: 1 + Math.floor(next() * 10) };
      });
      if (c % 2 === 0) {
        const db = node(server.host, projectId);
        closers.push(() => db.terminate());
        work.push((async () => {
          for (const { from, to, amount } of plan) {
            await insist(() => db.runTransaction(async tx => {
              const [a, b] = await tx.getAll(db.doc(name(from)), db.doc(name(to)));
              tx.update(a.ref, { balance: a.get('balance') - amount, moves: a.get('moves') + 1 });
              tx.update(b.ref, { balance: b.get('balance') + amount, moves: b.get('moves') + 1 });
            }));
            done += 1;
          }
        })());
      } else {
        const { db, close } = webClient(server.host, projectId);
        closers.push(close);
        work.push((async () => {
          for (const { from, to, amount } of plan) {
            await insist(() => web.runTransaction(db, async tx => {
              const a = await tx.get(web.doc(db, name(from)));
              const b = await tx.get(web.doc(db, name(to)));
              tx.update(a.ref, { balance: a.get('balance') - amount, moves: a.get('moves') + 1 });
              tx.update(b.ref, { balance: b.get('balance') + amount, moves: b.get('moves') + 1 });
            }));
            done += 1;
          }
        })());
      }
    }
    await Promise.all(work);
    t.diagnostic(`${done} transfers in ${Date.now() - start} ms, ${reads} full reads, ${listened} snapshots`);
    running = false;
    await watcher;
    const final = await admin.collection('accounts').get();
    assert.equal(sum(final), ACCOUNTS * START);
    assert.equal(final.docs.reduce((all, d) => all + d.get('moves'), 0), 2 * CLIENTS * TRANSFERS);
    assert.equal(done, CLIENTS * TRANSFERS);
    await until(() => listened > 4, 'the listeners saw something');
    assert.ok(reads > 0);
    assert.deepEqual(faults, []);
    stopWeb();
  } finally {
    await Promise.all(closers.map(close => close()));
    await server.stop();
  }
});
