// Two hundred listeners of every shape of query, while twenty writers change the data and the server ends five times:
// every snapshot is the query's result at a moment that was, no listener goes back, and all end with what is there.
//
// Every commit also writes a document of its own, `journal/<id>`, which says afterwards whether it happened, by which
// attempt, and when: a commit whose answer was lost is either in the journal or was never. From the journal the test
// builds every state that ever was. A snapshot of the Node SDK carries its read time and must be the result at just
// that version; one of the web SDK must be the result at some commit, no earlier than that of the snapshot before.
// Snapshots of the web SDK that say they are from the cache, or hold writes that wait, are that client's own
// business and are left out. Every web listener has a client of its own, for the listeners of one client share its cache:
// when it connects again, what one of them has caught up with shows in others that have not yet, by the SDK's design.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FieldValue } from '@google-cloud/firestore';
import { node, random, uniqueProject, until, web, webClient } from './support/clients.mjs';
import { Server } from './support/server.mjs';
import { find, forNode, forWeb, shapes, shapesOfNode, shown, text } from './support/shapes.mjs';

const ITEMS = 60;
const THINGS = 24;
const LISTENERS = 100;
const WRITERS = 10;
const ENDS = ['SIGTERM', 'SIGKILL', 'SIGKILL', 'SIGTERM', 'SIGKILL'];
const BETWEEN_ENDS_MS = 4_000;
const PAUSE_MS_MAX = 800;
const SETTLE_MS_MAX = 60_000;
// Node clients that share the listeners; each listener has a stream of its own.
const CLIENTS = 4;

const skip = process.env.WATCHFIRE_TARGET_HOST ? 'needs a server of its own' : false;
const micros = time => BigInt(time.seconds) * 1_000_000n + BigInt(Math.floor(time.nanoseconds / 1_000));
const item = k => `items/i${k}`;
const thing = k => `groups/g${k % 3}/things/t${k}`;

// What one writer writes; only documents of `paths`.
class Writer {
  constructor(name, paths, next) {
    Object.assign(this, { name, paths, next, number: 0 });
  }
  below(n) {
    return Math.floor(this.next() * n);
  }
  pick() {
    return this.paths[this.below(this.paths.length)];
  }
  whole(id) {
    const data = { w: id, a: this.below(6), b: this.below(20), tags: [0, 1, 2, 3].filter(() => this.next() < 0.4).map(t => `t${t}`), nested: { s: `s${this.below(5)}`, n: this.below(6) } };
    if (this.next() < 0.5) data.opt = this.below(5) - 1;
    return data;
  }
  operation(id, path) {
    switch (this.below(4)) {
      case 0: return { path, set: this.whole(id) };
      case 1: return { path, merge: { w: id, a: this.below(6) } };
      case 2: return { path, merge: { w: id, b: this.below(20), nested: { s: `s${this.below(5)}` } } };
      default: return this.next() < 0.6 ? { path, delete: true } : { path, set: this.whole(id) };
    }
  }
  // Operations of a batch, each of another document.
  operations(id) {
    const paths = new Set([this.pick()]);
    if (this.next() < 0.4) for (let i = this.below(4); i >= 0; i -= 1) paths.add(this.pick());
    return [...paths].map(path => this.operation(id, path));
  }
}

// One state from another, documents by path.
function applied(state, operations) {
  const after = new Map(state);
  for (const { path, set, merge, increment, delete: gone } of operations) {
    const before = after.get(path) ?? {};
    if (gone) after.delete(path);
    else if (set) after.set(path, set);
    else if (merge) after.set(path, { ...before, ...merge, ...(merge.nested ? { nested: { ...before.nested, ...merge.nested } } : {}) });
    else after.set(path, { ...before, w: increment, b: (before.b ?? 0) + 1 });
  }
  return after;
}

// Puts operations into a batch or a transaction of either SDK.
function put(into, ref, plusOne, operations) {
  for (const { path, set, merge, increment, delete: gone } of operations) {
    if (gone) into.delete(ref(path));
    else if (set) into.set(ref(path), set);
    else into.set(ref(path), merge ?? { w: increment, b: plusOne }, { merge: true });
  }
}

// Lines that only one of two results has.
function difference(expected, found) {
  const [before, after] = [expected.split('\n'), found.split('\n')];
  return [...before.filter(line => !after.includes(line)).map(line => `- ${line}`), ...after.filter(line => !before.includes(line)).map(line => `+ ${line}`)].join('\n');
}

test('every snapshot of every listener was once so, across restarts and kills', { skip, timeout: 240_000 }, async t => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  t.diagnostic(`seed ${seed}`);
  const next = random(seed);
  const server = await Server.start();
  const projectId = uniqueProject('realtime');
  const closers = [];
  const openNode = () => {
    const db = node(server.host, projectId);
    closers.push(() => db.terminate());
    return db;
  };
  const openWeb = () => {
    const { db, close } = webClient(server.host, projectId);
    closers.push(close);
    return db;
  };
  try {
    const admin = openNode();
    const shared = [...Array(ITEMS).keys()].filter(k => k % 2 === 0).map(item).concat([...Array(THINGS).keys()].filter(k => k % 2 === 0).map(thing));
    const owned = [...Array(ITEMS).keys()].filter(k => k % 2 === 1).map(item).concat([...Array(THINGS).keys()].filter(k => k % 2 === 1).map(thing));

    // Operations by id and attempt; those that were acknowledged, with their times where the SDK tells.
    const tried = new Map();
    const acknowledged = new Map();
    const seeding = new Writer('seed', [], next);
    const first = [...shared, ...owned].map(path => ({ path, set: seeding.whole('seed') }));
    tried.set('seed', [first]);
    const batch = admin.batch().create(admin.doc('journal/seed'), { attempt: 0 });
    put(batch, path => admin.doc(path), null, first);
    acknowledged.set('seed', micros((await batch.commit())[0].writeTime));

    // Listeners: half of each SDK, with all shapes in turn.
    const faults = [];
    const listeners = [];
    const draw = (of, count) => {
      const drawn = [];
      for (let i = 0; drawn.length < count; i += 1) drawn.push(...of(i));
      return drawn.slice(0, count);
    };
    const listen = (sdk, shape, listener) => {
      listeners.push(listener);
      Object.assign(listener, { sdk, shape, seen: [] });
    };
    const nodes = Array.from({ length: CLIENTS }, openNode);
    for (const [i, shape] of draw(i => [...shapesOfNode(i), ...shapes(i)], LISTENERS).entries()) {
      const listener = {};
      listen('node', shape, listener);
      const heard = s => {
        const docs = shape.doc ? (s.exists ? [s] : []) : s.docs;
        listener.seen.push({ text: text(docs.map(d => [d.ref.path, d.data()])), time: micros(s.readTime) });
      };
      closers.push(forNode(nodes[i % CLIENTS], shape).onSnapshot(heard, error => faults.push(`node ${JSON.stringify(shape)}: ${error.message}`)));
    }
    let local = 0;
    for (const shape of draw(shapes, LISTENERS)) {
      const listener = {};
      listen('web', shape, listener);
      const heard = s => {
        listener.local = s.metadata.fromCache || s.metadata.hasPendingWrites;
        if (listener.local) local += 1;
        else {
          const docs = shape.doc ? (s.exists() ? [s] : []) : s.docs;
          listener.seen.push({ text: text(docs.map(d => [d.ref.path, d.data()])) });
        }
      };
      closers.push(web.onSnapshot(forWeb(openWeb(), shape), { includeMetadataChanges: true }, heard, error => faults.push(`web ${JSON.stringify(shape)}: ${error.message}`)));
    }
    await until(() => faults.length || listeners.every(l => l.seen.length), () => `every listener begins; these do not: ${listeners.filter(l => !l.seen.length).map(l => `${l.sdk} ${JSON.stringify(l.shape)}`)}`);
    assert.deepEqual(faults, []);

    // Writers. Each does one thing after the other. The web SDK sends a batch again that was cut off, which must change
    // nothing then: so its batches say values, of documents that are only its own. What is not the same when it is done
    // twice stands beside a journal entry that may be made only once.
    let running = true;
    const work = async (writer, act) => {
      while (running) {
        writer.number += 1;
        const id = `${writer.name}-${writer.number}`;
        tried.set(id, []);
        try {
          acknowledged.set(id, await act(writer, id, tried.get(id)));
        } catch {
          // Refused or unknown; the journal tells.
        }
        await new Promise(resolve => setTimeout(resolve, next() * PAUSE_MS_MAX));
      }
    };
    const nodeAct = db => async (writer, id, attempts) => {
      const journal = db.doc(`journal/${id}`);
      const ref = path => db.doc(path);
      if (writer.next() < 0.3) {
        const path = writer.pick();
        return db.runTransaction(async tx => {
          const found = await tx.get(db.doc(path));
          const operations = [{ path, set: { ...writer.whole(id), b: (found.get('b') ?? 0) % 20 + 1 } }];
          const attempt = attempts.push(operations) - 1;
          tx.create(journal, { attempt });
          put(tx, ref, null, operations);
        });
      }
      const operations = writer.next() < 0.25 ? [{ path: writer.pick(), increment: id }] : writer.operations(id);
      attempts.push(operations);
      const commit = db.batch().create(journal, { attempt: 0 });
      put(commit, ref, FieldValue.increment(1), operations);
      return micros((await commit.commit())[0].writeTime);
    };
    const webAct = db => async (writer, id, attempts) => {
      const journal = web.doc(db, `journal/${id}`);
      const ref = path => web.doc(db, path);
      if (writer.next() < 0.3) {
        const path = shared[writer.below(shared.length)];
        const one = writer.next() < 0.5;
        return web.runTransaction(db, async tx => {
          if ((await tx.get(journal)).exists()) return;
          const found = await tx.get(web.doc(db, path));
          const operations = [one ? { path, increment: id } : { path, set: { ...writer.whole(id), b: (found.get('b') ?? 0) % 20 + 1 } }];
          const attempt = attempts.push(operations) - 1;
          tx.set(journal, { attempt });
          put(tx, ref, web.increment(1), operations);
        });
      }
      const operations = writer.operations(id);
      attempts.push(operations);
      const commit = web.writeBatch(db).set(journal, { attempt: 0 });
      put(commit, ref, null, operations);
      await commit.commit();
    };
    const working = [];
    for (let i = 0; i < WRITERS; i += 1) {
      working.push(work(new Writer(`n${i}`, shared, next), nodeAct(openNode())));
      working.push(work(new Writer(`w${i}`, owned.filter((_, k) => k % WRITERS === i), next), webAct(openWeb())));
    }

    for (const signal of ENDS) {
      await new Promise(resolve => setTimeout(resolve, BETWEEN_ENDS_MS));
      if (signal === 'SIGTERM') await server.end();
      else await server.kill();
      await server.launch();
    }
    await new Promise(resolve => setTimeout(resolve, BETWEEN_ENDS_MS));
    running = false;
    const settling = Date.now();
    await Promise.all(working);

    // What happened, from the journal.
    const journal = await admin.collection('journal').get();
    const commits = journal.docs.map(d => ({ id: d.id, time: micros(d.createTime), operations: tried.get(d.id)[d.get('attempt')] })).sort((x, y) => (x.time < y.time ? -1 : 1));
    for (const [i, { id, time, operations }] of commits.entries()) {
      if (i && commits[i - 1].time === time) faults.push(`${id} and ${commits[i - 1].id} have one commit time`);
      if (acknowledged.get(id) && acknowledged.get(id) !== time) faults.push(`${id} was acknowledged with another commit time`);
      if (!operations) faults.push(`${id} holds an attempt that was never made`);
    }
    const there = new Set(commits.map(c => c.id));
    for (const id of acknowledged.keys()) if (!there.has(id)) faults.push(`${id} was acknowledged and is gone`);
    assert.deepEqual(faults, []);

    // All that ever was, as texts for each shape; equal neighbours are one.
    const states = [new Map()];
    for (const { operations } of commits) states.push(applied(states.at(-1), operations));
    const documents = states.map(state => [...state]);
    const results = new Map();
    const resultsOf = shape => {
      const key = JSON.stringify(shape);
      if (!results.has(key)) results.set(key, documents.map(state => text(find(shape, state).map(([path, data]) => [path, shown(shape, data)]))));
      return results.get(key);
    };

    // At the end: the listener, the query read anew, and the model.
    for (const { sdk, shape } of listeners) {
      const found = await forNode(admin, shape).get();
      const docs = shape.doc ? (found.exists ? [found] : []) : found.docs;
      if (text(docs.map(d => [d.ref.path, d.data()])) !== resultsOf(shape).at(-1)) faults.push(`${sdk} ${JSON.stringify(shape)}: what is read is not what was written`);
    }
    assert.deepEqual(faults, []);
    const behind = () => listeners.filter(l => l.local || l.seen.at(-1)?.text !== resultsOf(l.shape).at(-1));
    await until(() => !behind().length, () => `all listeners end with what is there; these do not: ${behind().map(l => `${l.sdk} ${JSON.stringify(l.shape)}\n\n${difference(resultsOf(l.shape).at(-1), l.seen.at(-1)?.text ?? '')}`).join('\n')}`, SETTLE_MS_MAX);
    const settled = Date.now() - settling;

    // Every snapshot on the way.
    let snapshots = 0;
    for (const { sdk, shape, seen } of listeners) {
      const all = resultsOf(shape);
      const name = `${sdk} ${JSON.stringify(shape)}`;
      let position = 1;
      let newest = 0n;
      for (const [i, snapshot] of seen.entries()) {
        snapshots += 1;
        if (sdk === 'node') {
          if (snapshot.time < newest) faults.push(`${name}: snapshot ${i} went back in time`);
          newest = snapshot.time;
          // The commits up to the read time.
          while (position < commits.length && commits[position].time <= snapshot.time) position += 1;
          if (all[position] !== snapshot.text) faults.push(`${name}: snapshot ${i} at ${snapshot.time} is not what was there at its read time:\n${difference(all[position], snapshot.text)}`);
        } else {
          const found = all.indexOf(snapshot.text, position);
          if (found === -1) faults.push(`${name}: snapshot ${i} of ${seen.length} ${all.includes(snapshot.text) ? 'went back' : 'never was'}; since the one before it changed\n${difference(all[position], snapshot.text)}\nand in the next commits it should have\n${all.slice(position).filter((x, k, rest) => k && x !== rest[k - 1]).slice(0, 4).map((x, k, rest) => difference(k ? rest[k - 1] : all[position], x)).join('\n  then\n')}`);
          else position = found;
        }
        if (faults.length > 20) break;
      }
    }
    t.diagnostic(`${commits.length} commits (${acknowledged.size} of ${tried.size} acknowledged), ${snapshots} snapshots held against them, ${local} local ones left out, settled in ${settled} ms`);
    assert.ok(faults.length === 0, `${faults.length} faults, the first of them:\n${faults.slice(0, 5).join('\n\n')}`);
  } finally {
    for (const close of closers.reverse()) await close();
    await server.stop();
  }
});
