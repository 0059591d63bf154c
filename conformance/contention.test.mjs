// Many clients want the same documents, with the SDK's own retries and nothing else: everybody ends, nobody gives up,
// and what comes out is what some order of the transactions would have given.
//
// In both concurrency modes, as the server's default and as a request asks. How evenly the clients fare is printed, and
// held against its bound only where CONTENTION_FAIRNESS is set (`cargo xtask contention`): a test must not time.

import assert from 'node:assert/strict';
import http2 from 'node:http2';
import { after, before, describe, test } from 'node:test';
import { node, random, until, uniqueProject, web, webClient } from './support/clients.mjs';
import { Raw, fields, value } from './support/raw.mjs';
import { Server } from './support/server.mjs';

const CLIENTS = Number(process.env.CONTENTION_CLIENTS ?? 64);
const ROUNDS = Number(process.env.CONTENTION_ROUNDS ?? 3);
// As many attempts as the published SDKs make by themselves.
const ATTEMPTS = 5;
const SLOWEST_TO_MEDIAN_MAX = 5;

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const next = random(seed);
const pick = count => Math.floor(next() * count);
const range = count => Array.from({ length: count }, (_, i) => i);

// Runs `work(i)` for all clients at once; each client's time in milliseconds.
async function together(count, work) {
  const start = performance.now();
  return Promise.all(range(count).map(async i => (await work(i), performance.now() - start)));
}

function fairness(t, what, times) {
  const sorted = times.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  const slowest = sorted.at(-1);
  t.diagnostic(`${what}: first ${sorted[0].toFixed(0)} ms, median ${median.toFixed(0)} ms, last ${slowest.toFixed(0)} ms, last to median ${(slowest / median).toFixed(2)}`);
  if (process.env.CONTENTION_FAIRNESS) assert.ok(slowest <= SLOWEST_TO_MEDIAN_MAX * median, `${what}: ${slowest / median}`);
}

for (const mode of ['optimistic', 'pessimistic']) {
  describe(mode, { skip: process.env.WATCHFIRE_TARGET_HOST ? 'needs servers of its own' : false }, () => {
    const other = mode === 'optimistic' ? 'PESSIMISTIC' : 'OPTIMISTIC';
    let server;
    let projectId;
    let database;
    let admin;
    let raw;
    let clients;
    const doc = path => `${database}/documents/${path}`;

    before(async () => {
      server = await Server.start('--concurrency', mode);
      projectId = uniqueProject(mode);
      database = `projects/${projectId}/databases/(default)`;
      admin = node(server.host, projectId);
      raw = new Raw(server.host);
      clients = range(CLIENTS).map(() => node(server.host, projectId));
      // Each with its connection, so that what is measured is the contention.
      await Promise.all(clients.map(db => db.doc('any/thing').get()));
    }, { timeout: 60_000 });

    after(async () => {
      raw?.close();
      await Promise.all([admin, ...clients ?? []].map(db => db?.terminate()));
      await server?.stop();
    });

    test(`${CLIENTS} clients add one to one counter, ${ROUNDS} times each`, { timeout: 300_000 }, async t => {
      const counter = admin.doc('counters/one');
      await counter.set({ n: 0 });
      let attempts = 0;
      const times = await together(CLIENTS, async i => {
        const db = clients[i];
        for (let round = 0; round < ROUNDS; round += 1) {
          await db.runTransaction(async tx => {
            attempts += 1;
            const read = await tx.get(db.doc('counters/one'));
            tx.update(read.ref, { n: read.get('n') + 1 });
          });
        }
      });
      assert.equal((await counter.get()).get('n'), CLIENTS * ROUNDS);
      fairness(t, `${attempts} attempts for ${CLIENTS * ROUNDS} transactions`, times);
    });

    for (const concurrencyMode of ['OPTIMISTIC', 'PESSIMISTIC']) {
      test(`the same by requests that ask for ${concurrencyMode}, each with its place in the line`, { timeout: 300_000 }, async t => {
        const name = doc(`counters/raw-${concurrencyMode}`);
        await raw.call('Commit', { database, writes: [{ update: { name, fields: fields({ n: 0 }) } }] });
        const connections = range(CLIENTS).map(() => new Raw(server.host));
        let attempts = 0;
        const once = async (client, retryTransaction) => {
          const readWrite = { concurrencyMode, ...(retryTransaction && { retryTransaction }) };
          const transaction = Buffer.from((await client.call('BeginTransaction', { database, options: { readWrite } })).transaction, 'base64');
          attempts += 1;
          try {
            const read = await client.call('GetDocument', { name, transaction });
            const n = Number(read.fields.n.integerValue ?? 0) + 1;
            await client.call('Commit', { database, transaction, writes: [{ update: { name, fields: { n: value(n) } } }] });
          } catch (error) {
            return { error, transaction };
          }
          return {};
        };
        const texts = new Set();
        const times = await together(CLIENTS, async i => {
          for (let round = 0; round < ROUNDS; round += 1) {
            let tried;
            for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
              tried = await once(connections[i], tried?.transaction);
              if (!tried.error) break;
              assert.equal(tried.error.code, 10, `${tried.error.code} ${tried.error.message}`);
              texts.add(tried.error.message);
            }
            if (tried.error) throw new Error(`gave up after ${ATTEMPTS} attempts: ${tried.error.message}`);
          }
        });
        for (const client of connections) client.close();
        const read = await raw.call('GetDocument', { name });
        assert.equal(Number(read.fields.n.integerValue), CLIENTS * ROUNDS);
        for (const text of texts) assert.match(text, /^(Aborted due to cross-transaction contention\. This occurs when multiple transactions attempt to access the same data, requiring Firestore to abort at least one in order to enforce serializability\.|Too much contention on these documents\. Please try again\.)$/);
        fairness(t, `${attempts} attempts for ${CLIENTS * ROUNDS} transactions`, times);
      });
    }

    test('accounts by queries: money moves, accounts come and go, the sum holds at every read', { timeout: 300_000 }, async t => {
      const TELLERS = 16;
      const MOVES = 6;
      const ACCOUNTS = 8;
      const TOTAL = ACCOUNTS * 100;
      const room = db => db.collection('accounts').where('balance', '>=', 0).orderBy('balance');
      const sum = snapshot => snapshot.docs.reduce((all, d) => all + d.get('balance'), 0);
      const batch = admin.batch();
      for (let i = 0; i < ACCOUNTS; i += 1) batch.set(admin.doc(`accounts/first${i}`), { balance: 100 });
      await batch.commit();

      const faults = [];
      const check = (what, snapshot) => {
        if (sum(snapshot) !== TOTAL) faults.push(`${what} saw ${sum(snapshot)} in ${snapshot.size} accounts`);
      };
      let heard = 0;
      let [nodeView, webView] = [null, null];
      const listened = (what, keep) => snapshot => (heard += 1, keep(snapshot), check(what, snapshot));
      const failed = error => faults.push(error.message);
      const browser = webClient(server.host, projectId);
      const asked = web.query(web.collection(browser.db, 'accounts'), web.where('balance', '>=', 0), web.orderBy('balance'));
      const stops = [
        room(admin).onSnapshot(listened('the listener of Node', s => { nodeView = s; }), failed),
        web.onSnapshot(asked, listened('the listener of the browser', s => { webView = s; }), failed),
      ];
      let running = true;
      let reads = 0;
      const watcher = (async () => {
        while (running) {
          check('a read-only transaction', await admin.runTransaction(tx => tx.get(room(admin)), { readOnly: true }));
          check('a plain query', await room(admin).get());
          reads += 1;
        }
      })();

      let done = 0;
      let attempts = 0;
      const times = await together(TELLERS, async i => {
        const db = clients[i];
        for (let move = 0; move < MOVES; move += 1) {
          const kind = ['move', 'move', 'open', 'close'][pick(4)];
          const [a, b, share] = [next(), next(), next()];
          await db.runTransaction(async tx => {
            attempts += 1;
            const found = await tx.get(room(db));
            // Seen by a transaction that may still be refused: it must hold all the same.
            check('a transaction', found);
            const from = found.docs[Math.floor(a * found.size)];
            const rest = found.docs.filter(d => d !== from);
            const to = rest[Math.floor(b * rest.length)];
            const amount = Math.floor(share * (from.get('balance') + 1));
            if (kind === 'close' && found.size > 2) {
              tx.delete(from.ref);
              tx.update(to.ref, { balance: to.get('balance') + from.get('balance') });
            } else {
              tx.update(from.ref, { balance: from.get('balance') - amount });
              if (kind === 'open') tx.create(db.doc(`accounts/t${i}-${move}`), { balance: amount });
              else tx.update(to.ref, { balance: to.get('balance') + amount });
            }
          });
          done += 1;
        }
      });
      running = false;
      await watcher;
      const last = await room(admin).get();
      check('the last query', last);
      const state = snapshot => JSON.stringify(snapshot?.docs.map(d => [d.id, d.get('balance')]).sort());
      await until(() => state(nodeView) === state(last) && state(webView) === state(last), 'the listeners have heard of everything');
      for (const stop of stops) stop();
      await browser.close();
      assert.equal(done, TELLERS * MOVES);
      assert.deepEqual(faults, []);
      fairness(t, `seed ${seed}: ${attempts} attempts for ${done} transactions, ${reads} reads, ${heard} snapshots`, times);
    });

    test('a name is registered once, however many ask at once', { timeout: 300_000 }, async t => {
      const NAMES = 6;
      const ASKING = 24;
      const registered = range(NAMES).map(() => 0);
      const times = await together(ASKING, async i => {
        const db = clients[i];
        // Each in an order of its own.
        const order = range(NAMES).map(k => (k + i) % NAMES);
        for (const name of order) {
          const made = await db.runTransaction(async tx => {
            const found = await tx.get(db.collection('users').where('name', '==', `name${name}`));
            if (!found.empty) return 0;
            tx.create(db.collection('users').doc(), { name: `name${name}`, by: i });
            return 1;
          });
          registered[name] += made;
        }
      });
      const users = await admin.collection('users').get();
      const names = users.docs.map(d => d.get('name')).sort();
      assert.deepEqual(names, range(NAMES).map(k => `name${k}`));
      assert.deepEqual(registered, range(NAMES).map(() => 1), 'each was told of one success');
      fairness(t, `${ASKING} clients, ${NAMES} names`, times);
    });

    test('a place that was free when it was looked at is taken once, with counts and with missing documents', { timeout: 300_000 }, async () => {
      const SEATS = 5;
      const ASKING = 24;
      let taken = 0;
      let made = 0;
      await together(ASKING, async i => {
        const db = clients[i];
        const seated = await db.runTransaction(async tx => {
          const counted = await tx.get(db.collection('seats').where('room', '==', 'a').count());
          if (counted.data().count >= SEATS) return 0;
          tx.create(db.collection('seats').doc(), { room: 'a', by: i });
          return 1;
        });
        const wrote = await db.runTransaction(async tx => {
          const read = await tx.get(db.doc('singletons/one'));
          if (read.exists) return 0;
          tx.set(read.ref, { by: i });
          return 1;
        });
        taken += seated;
        made += wrote;
      });
      const seats = await admin.collection('seats').get();
      assert.equal(seats.size, SEATS);
      assert.equal(taken, SEATS);
      assert.equal(made, 1);
    });

    for (const concurrencyMode of ['OPTIMISTIC', 'PESSIMISTIC', undefined]) {
      const locks = (concurrencyMode ?? mode.toUpperCase()) === 'PESSIMISTIC';
      test(`a transaction that asks for ${concurrencyMode ?? 'nothing'} ${locks ? 'has others wait for what it reads' : 'lets others write, and is aborted'}`, { timeout: 60_000 }, async () => {
        const name = doc(`asked/${concurrencyMode}`);
        const write = n => [{ update: { name, fields: fields({ n }) } }];
        await raw.call('Commit', { database, writes: write(0) });
        const options = { readWrite: { ...(concurrencyMode && { concurrencyMode }) } };
        const transaction = Buffer.from((await raw.call('BeginTransaction', { database, options })).transaction, 'base64');
        await raw.call('GetDocument', { name, transaction });
        let wrote = false;
        const plain = raw.call('Commit', { database, writes: write(1) }).then(() => { wrote = true; });
        if (locks) {
          await new Promise(resolve => setTimeout(resolve, 300));
          assert.equal(wrote, false, 'the write waits');
          await raw.call('Commit', { database, transaction, writes: write(2) });
          await plain;
        } else {
          await plain;
          await assert.rejects(raw.call('Commit', { database, transaction, writes: write(2) }), { code: 10 });
        }
        assert.equal(Number((await raw.call('GetDocument', { name })).fields.n.integerValue), 1);
      });
    }

    test(`a request may ask for ${other}, and both kinds keep each other's promises`, { timeout: 120_000 }, async () => {
      const name = doc('mixed/one');
      await raw.call('Commit', { database, writes: [{ update: { name, fields: fields({ n: 0 }) } }] });
      const adding = async concurrencyMode => {
        let retryTransaction;
        for (;;) {
          const readWrite = { concurrencyMode, ...(retryTransaction && { retryTransaction }) };
          const transaction = Buffer.from((await raw.call('BeginTransaction', { database, options: { readWrite } })).transaction, 'base64');
          try {
            const read = await raw.call('GetDocument', { name, transaction });
            const n = Number(read.fields.n.integerValue ?? 0) + 1;
            await raw.call('Commit', { database, transaction, writes: [{ update: { name, fields: { n: value(n) } } }] });
            return;
          } catch (error) {
            assert.equal(error.code, 10, error.message);
            retryTransaction = transaction;
          }
        }
      };
      await Promise.all(range(40).map(i => adding(i % 2 ? 'OPTIMISTIC' : 'PESSIMISTIC')));
      const read = await raw.call('GetDocument', { name });
      assert.equal(Number(read.fields.n.integerValue), 40);
    });

    test('calls that are cancelled right after they were sent happen whole or not at all', { timeout: 120_000 }, async t => {
      const COMMITS = 200;
      const DOCUMENTS = 5;
      // Every third is so large that it is still being sent when it is cancelled.
      const text = i => 'x'.repeat(i % 3 ? 10 : 200_000);
      const writes = i => range(DOCUMENTS).map(k => ({ update: { name: doc(`halves${k}/c${i}`), fields: fields({ i, text: text(i) }) } }));
      let answered = 0;
      const told = new Set();
      await Promise.all(range(COMMITS).map(async i => {
        const begun = i % 2 ? {} : await raw.call('BeginTransaction', { database, options: { readWrite: {} } });
        const transaction = begun.transaction && Buffer.from(begun.transaction, 'base64');
        const { call, answer } = raw.begin('Commit', { database, writes: writes(i), ...(transaction && { transaction }) });
        const wait = pick(6);
        if (wait > 0) await new Promise(resolve => setTimeout(resolve, wait - 1));
        call.cancel();
        try {
          await answer;
          answered += 1;
          told.add(`c${i}`);
        } catch (error) {
          assert.equal(error.code, 1, `${error.code} ${error.message}`);
        }
      }));
      // Whatever the server still works on is done before what comes after it.
      await admin.doc('after/all').set({});
      const halves = tx => range(DOCUMENTS).map(k => tx.get(admin.collection(`halves${k}`).select()));
      const found = await admin.runTransaction(tx => Promise.all(halves(tx)), { readOnly: true });
      const ids = found.map(s => s.docs.map(d => d.id));
      for (const half of ids) assert.deepEqual(half, ids[0]);
      for (const id of told) assert.ok(ids[0].includes(id), `${id} was acknowledged`);
      t.diagnostic(`${COMMITS} commits cancelled, ${answered} were answered before that, ${ids[0].length} happened`);
    });

    test('a connection outlives hundreds of calls that are cancelled before the server has looked at them', { timeout: 60_000 }, async () => {
      const CALLS = 500;
      const session = http2.connect(`http://${server.host}`);
      let ended;
      session.on('goaway', code => { ended = `goaway ${code}`; });
      session.on('error', error => { ended ??= error.message; });
      const begin = () => session.request({ ':method': 'POST', ':path': '/google.firestore.v1.Firestore/Commit', 'content-type': 'application/grpc', te: 'trailers' });
      const closed = stream => new Promise(resolve => stream.on('error', () => {}).on('close', resolve));
      await Promise.all(range(CALLS).map(() => {
        const stream = begin();
        stream.write(Buffer.alloc(5));
        // Asked for and cancelled in one go.
        setImmediate(() => stream.close(http2.constants.NGHTTP2_CANCEL));
        return closed(stream);
      }));
      assert.equal(ended, undefined);
      // A call that comes after them on the same connection is answered.
      const last = begin();
      const answered = new Promise(resolve => last.on('response', headers => resolve(headers['content-type'])));
      last.end(Buffer.alloc(5));
      last.resume();
      assert.equal(await Promise.race([answered, closed(last)]), 'application/grpc');
      assert.equal(ended, undefined);
      session.close();
    });
  });
}
