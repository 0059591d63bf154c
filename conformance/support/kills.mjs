// kill -9 of the server under load, again and again: what was acknowledged is there, what was refused is not, what
// nobody knows of is there whole or not at all, and listeners go on where they were.
//
// Each client of the published SDK does one thing after the other and notes what it was told. After a kill the server
// starts on the same folder, the clients' own retries end, and then, before anybody does anything new, everything of
// this round is read at one version and held against the notes; at every tenth kill, and at the end, everything of all
// rounds. The SDK sends a commit again that was cut off, so that what spans a kill may be refused though it happened
// (its document exists, it is told), or an increment may count twice; nothing else may.

import { FieldValue } from '@google-cloud/firestore';
import { run } from './admin.mjs';
import { node, random, uniqueProject, until, web, webClient } from './clients.mjs';
import { Server } from './server.mjs';

// Documents that many transactions count on.
const SHARED = 8;
// Kills between two full checks.
const FULL_EVERY = 10;
// Commits of a round before it may be killed, and how much longer it goes on at most.
const ROUND_COMMITS_MIN = 64;
const ROUND_MS_MAX = 400;
// One kill of so many is followed by another as soon as the server answers.
const AGAIN_ONE_IN = 8;
const SETTLE_MS_MAX = 90_000;

const KINDS = ['set', 'create', 'batch', 'batch', 'increment', 'transaction', 'watched', 'refused'];
// What a server refuses; with any other code the client does not know.
const REFUSALS = new Set([3, 5, 6, 8, 9, 10]);
const UNKNOWN = new Set([1, 2, 4, 13, 14]);

class Client {
  constructor(db, name) {
    Object.assign(this, { db, name, number: 0, created: null });
  }

  // What is done, by kind. `at` names the collections of the round.
  async act(kind, id, at, draw) {
    const { db } = this;
    const doc = (collection, of = id) => db.doc(`${at}-${collection}/${of}`);
    const content = { n: this.number, text: id };
    switch (kind) {
      case 'set':
        return doc('set').set(content);
      case 'create':
        await doc('create').create(content);
        this.created = doc('create');
        return undefined;
      case 'batch':
        return db.batch().create(doc('left'), content).create(doc('right'), content)
          .update(db.doc(`counters/batch-${this.name}`), { n: FieldValue.increment(1) }).commit();
      case 'increment':
        return db.doc(`counters/plain-${this.name}`).update({ n: FieldValue.increment(1) });
      case 'transaction': {
        const shared = `s${Math.floor(draw * SHARED)}`;
        return db.runTransaction(async tx => {
          const read = await tx.get(db.doc(`shared/${shared}`));
          tx.update(read.ref, { n: read.get('n') + 1 });
          tx.create(doc('counted'), { ...content, shared });
        });
      }
      case 'watched':
        return db.doc(`watched/${this.name}`).set(content);
      case 'refused': {
        // The second write cannot be, so that neither may.
        const batch = db.batch().set(doc('ghost'), content);
        if (this.created && draw < 0.5) batch.create(this.created, {});
        else batch.update(doc('missing'), { n: 1 });
        return batch.commit();
      }
      default:
        throw new Error(`no kind ${kind}`);
    }
  }
}

export async function kills({ times, clients: count = 64, seed = Date.now() % 1_000_000, say = () => {}, args = [] }) {
  say(`seed ${seed}, ${times} kills, ${count} clients`);
  const next = random(seed);
  const server = await Server.start(...args);
  const project = uniqueProject('kills');
  const faults = [];
  const fault = text => {
    if (faults.length < 50) faults.push(text);
  };
  const closers = [];
  const open = () => {
    const db = node(server.host, project);
    closers.push(() => db.terminate());
    return db;
  };
  try {
    const admin = open();
    const clients = Array.from({ length: count }, (_, i) => new Client(open(), `c${i}`));
    const first = admin.batch();
    for (const { name } of clients) {
      first.set(admin.doc(`counters/batch-${name}`), { n: 0 });
      first.set(admin.doc(`counters/plain-${name}`), { n: 0 });
    }
    for (let i = 0; i < SHARED; i += 1) first.set(admin.doc(`shared/s${i}`), { n: 0 });
    await first.commit();

    // Listeners that live through all of it.
    const views = {};
    const content = docs => JSON.stringify(docs.map(d => [d.id, d.get('n')]).sort());
    const heard = what => [s => { views[what] = content(s.docs); }, error => fault(`the listener of ${what} ended: ${error.message}`)];
    const browser = webClient(server.host, project);
    closers.push(browser.close);
    const stops = [
      admin.collection('watched').onSnapshot(...heard('Node')),
      web.onSnapshot(web.collection(browser.db, 'watched'), ...heard('the browser')),
    ];
    closers.push(() => stops.forEach(stop => stop()));

    // All that was ever done, by round.
    const rounds = [];
    let killed = 0;
    let running = false;
    const work = async (client, round) => {
      while (running) {
        client.number += 1;
        const kind = KINDS[Math.floor(next() * KINDS.length)];
        const note = { kind, id: `${client.name}-${client.number}`, client: client.name, number: client.number, said: null, cut: false };
        round.notes.push(note);
        const before = killed;
        try {
          await client.act(kind, note.id, round.at, next());
          note.said = 'acknowledged';
          round.acknowledged += 1;
        } catch (error) {
          note.code = error.code;
          if (UNKNOWN.has(error.code)) note.said = 'unknown';
          else if (REFUSALS.has(error.code)) note.said = 'refused';
          else fault(`${note.id}, a ${kind}, failed with ${error.code} ${error.message}`);
        }
        note.cut = killed !== before;
        if (note.cut && note.said === 'refused') note.said = 'unknown';
        const may = { transaction: [10], refused: [5, 6] }[kind] ?? [];
        if (note.said === 'refused' && !may.includes(note.code)) fault(`${note.id}, a ${kind}, was refused with ${note.code}`);
        if (kind === 'refused' && note.said === 'acknowledged') fault(`${note.id} was accepted, and cannot be`);
        // A refusal is an answer, too, but nobody waits for it.
        if (note.said !== 'acknowledged') await new Promise(resolve => setTimeout(resolve, 5));
      }
    };

    const COLLECTIONS = ['set', 'create', 'left', 'right', 'counted', 'ghost', 'missing'];
    const HELD = { set: 'set', create: 'create', batch: 'left', transaction: 'counted' };
    // Reads a round at one version, and what all rounds share.
    const read = async at => {
      const found = await admin.runTransaction(
        tx => Promise.all([...COLLECTIONS.map(c => `${at}-${c}`), 'counters', 'shared', 'watched'].map(c => tx.get(admin.collection(c)))),
        { readOnly: true },
      );
      return Object.fromEntries([...COLLECTIONS, 'counters', 'shared', 'watched'].map((c, i) => [c, new Map(found[i].docs.map(d => [d.id, d]))]));
    };
    const check = (round, found) => {
      const where = `after kill ${killed}, round ${round.at}`;
      const possible = Object.fromEntries(COLLECTIONS.map(c => [c, new Set()]));
      for (const { kind, id, said, number } of round.notes) {
        const collection = HELD[kind];
        if (!collection) continue;
        possible[collection].add(id);
        const there = found[collection].get(id);
        if (said === 'acknowledged' && !there) fault(`${where}: ${id}, an acknowledged ${kind}, is gone`);
        if (said === 'refused' && there) fault(`${where}: ${id}, a refused ${kind}, is there`);
        if (there && (there.get('n') !== number || there.get('text') !== id)) fault(`${where}: ${id} holds ${JSON.stringify(there.data())}`);
      }
      for (const [collection, ids] of Object.entries(possible)) {
        if (collection === 'right') continue;
        for (const id of found[collection].keys()) if (!ids.has(id)) fault(`${where}: ${collection}/${id} was left behind by something that was refused`);
      }
      const [left, right] = [[...found.left.keys()], [...found.right.keys()]].map(ids => JSON.stringify(ids));
      if (left !== right) fault(`${where}: half of a batch is missing`);
      round.batches = new Map();
      for (const id of found.left.keys()) {
        const client = id.split('-')[0];
        round.batches.set(client, (round.batches.get(client) ?? 0) + 1);
      }
      round.counted = new Map();
      for (const d of found.counted.values()) round.counted.set(d.get('shared'), (round.counted.get(d.get('shared')) ?? 0) + 1);
    };
    const of = (member, key) => rounds.reduce((sum, round) => sum + (round[member].get(key) ?? 0), 0);
    const checkCounters = found => {
      const where = `after kill ${killed}`;
      const plain = new Map();
      for (const round of rounds) {
        for (const { kind, client, said, cut } of round.notes) {
          if (kind !== 'increment') continue;
          const sums = plain.get(client) ?? { acknowledged: 0, more: 0 };
          if (said === 'acknowledged') sums.acknowledged += 1;
          // A commit that was cut off and sent again may have happened twice.
          if (said === 'unknown' || cut) sums.more += 1;
          plain.set(client, sums);
        }
      }
      for (const { name } of clients) {
        const { acknowledged, more } = plain.get(name) ?? { acknowledged: 0, more: 0 };
        const n = found.counters.get(`plain-${name}`).get('n');
        if (n < acknowledged || n > acknowledged + more) fault(`${where}: ${name} counted ${n}, acknowledged were ${acknowledged} increments, and ${more} may have happened`);
        const batches = found.counters.get(`batch-${name}`).get('n');
        if (batches !== of('batches', name)) fault(`${where}: ${name} counted ${batches} batches, ${of('batches', name)} are there`);
      }
      for (let i = 0; i < SHARED; i += 1) {
        const n = found.shared.get(`s${i}`).get('n');
        if (n !== of('counted', `s${i}`)) fault(`${where}: ${n} transactions counted on s${i}, ${of('counted', `s${i}`)} are there`);
      }
    };

    const starts = [];
    const launch = async () => {
      const begin = performance.now();
      await server.launch();
      starts.push(performance.now() - begin);
    };
    let checked = 0;
    let again = 0;
    for (let kill = 1; kill <= times && faults.length === 0; kill += 1) {
      const round = { at: `r${kill}`, notes: [], acknowledged: 0 };
      rounds.push(round);
      // A listener of this round alone, which hears of much in a short time.
      const query = admin.collection(`${round.at}-left`).where('n', '>=', 0).orderBy('n');
      const stop = query.onSnapshot(...heard('the round'));
      stops.push(stop);
      await until(() => views['the round'] !== undefined, 'the listener of the round begins');
      running = true;
      let working = true;
      const ended = Promise.all(clients.map(client => work(client, round))).then(() => { working = false; });
      await until(() => round.acknowledged >= ROUND_COMMITS_MIN, 'commits are acknowledged');
      await new Promise(resolve => setTimeout(resolve, next() * ROUND_MS_MAX));
      killed += 1;
      await server.kill();
      running = false;
      const whole = kill % FULL_EVERY === 0 || kill === times;
      if (whole) {
        const { code, output, errors } = await run(['check', '--data', server.data]);
        checked += 1;
        if (code !== 0) fault(`after kill ${kill} the check of the folder found:\n${output}${errors}`);
      }
      await launch();
      if (Math.floor(next() * AGAIN_ONE_IN) === 0) {
        again += 1;
        killed += 1;
        await server.kill();
        await launch();
      }
      await until(() => !working, 'the clients hear of what they have asked for', SETTLE_MS_MAX);
      await ended;
      for (const one of whole ? rounds : [round]) {
        const found = await read(one.at);
        check(one, found);
        if (one === round) {
          checkCounters(found);
          const [watched, left] = [[...found.watched.values()], [...found.left.values()]].map(content);
          const same = () => views.Node === watched && views['the browser'] === watched && views['the round'] === left;
          await until(same, () => `the listeners end with what a query finds: ${['Node', 'the browser'].filter(who => views[who] !== watched)} ${views['the round'] === left ? '' : 'and that of the round '}do not`, SETTLE_MS_MAX);
        }
      }
      stop();
      delete views['the round'];
      if (whole) {
        const all = rounds.flatMap(r => r.notes);
        const with_ = said => all.filter(note => note.said === said).length;
        const sorted = starts.toSorted((a, b) => a - b);
        say(`${kill} kills (and ${again} while it started again): ${with_('acknowledged')} acknowledged, ${with_('refused')} refused, ${with_('unknown')} unknown; ${checked} folders sound; starting took ${sorted[Math.floor(sorted.length / 2)].toFixed(0)} ms, at most ${sorted.at(-1).toFixed(0)} ms; ${faults.length} faults`);
      }
    }
    return { faults, acknowledged: rounds.reduce((sum, round) => sum + round.acknowledged, 0), output: server.output };
  } finally {
    for (const close of closers.reverse()) await close();
    await server.stop();
  }
}
