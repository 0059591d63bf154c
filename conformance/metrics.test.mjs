// What the server counts of listeners, against what the published SDK does: who watches the same shares the work, and
// who is gone leaves nothing behind.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { node, uniqueProject, until } from './support/clients.mjs';
import { Server } from './support/server.mjs';

const LISTENERS = 20;

test('twenty listeners of one query are one distinct target and share sessions', { timeout: 60_000 }, async t => {
  const server = await Server.start('--admin-listen', '0');
  if (!server) return t.skip('somebody else has started the server');
  const projectId = uniqueProject('metrics');
  const db = node(server.host, projectId);
  const label = `database="projects/${projectId}/databases/(default)"`;
  let numbers = new Map();
  await until(() => /at (http\S+\/metrics) /.test(server.output), () => server.output);
  const [, address] = server.output.match(/at (http\S+\/metrics) /);
  const count = async () => {
    const answer = await fetch(address);
    assert.equal(answer.status, 200);
    const lines = (await answer.text()).split('\n').filter(line => line.startsWith('watchfire_listen_') && line.includes(label));
    numbers = new Map(lines.map(line => {
      const [, name, labels, value] = line.match(/^watchfire_listen_(\w+)\{(.*)\} (.*)$/);
      return [name + labels.replace(label, '').replace(/^,/, ' '), Number(value)];
    }));
    return numbers;
  };
  // Numbers are noted a moment after what they count has been sent.
  const untilCounted = async expected => {
    const misses = () => Object.entries(expected).filter(([name, value]) => numbers.get(name) !== value);
    const end = Date.now() + 20_000;
    while (Date.now() < end) {
      await count();
      if (!misses().length) return;
    }
    assert.deepEqual(Object.fromEntries(misses().map(([name]) => [name, numbers.get(name)])), Object.fromEntries(misses()));
  };
  const seen = Array.from({ length: LISTENERS }, () => null);
  const stops = [];
  try {
    await db.doc('rooms/a').set({ n: 0 });
    for (const i of seen.keys()) {
      stops.push(db.collection('rooms').orderBy('n').onSnapshot(s => { seen[i] = s.docs.map(d => d.get('n')).join(); }));
    }
    const all = text => until(() => seen.every(view => view === text), () => `${seen}`);
    await all('0');
    await untilCounted({ streams: LISTENERS, targets: LISTENERS, targets_distinct: 1, sessions: 1, sessions_waiting: 0 });

    const before = await count();
    for (let n = 1; n <= 3; n += 1) {
      await db.doc('rooms/a').set({ n });
      await all(String(n));
    }
    // Nobody watches it.
    await db.doc('elsewhere/a').set({ n: 1 });
    await untilCounted({
      changes_read_total: before.get('changes_read_total') + 4,
      changes_matched_total: before.get('changes_matched_total') + 3,
      'results_read_total why="first"': 1,
      'results_read_total why="broken"': 0,
      'results_read_total why="lost"': 0,
      streams: LISTENERS,
      streams_opened_total: LISTENERS,
      stragglers_total: 0,
      slow_readers_total: 0,
    });
    // Worked out once for a change, and delivered to each; heartbeats may have come between.
    const told = numbers.get('snapshots_told_total') - before.get('snapshots_told_total');
    const delivered = numbers.get('snapshots_delivered_total') - before.get('snapshots_delivered_total');
    assert.ok(told >= 3 && told <= 3 + 2, `${told} snapshots were told`);
    assert.equal(delivered, told * LISTENERS);

    for (const stop of stops.splice(0)) stop();
    await untilCounted({ streams: 0, sessions: 0, targets: 0, targets_distinct: 0, sessions_waiting: 0, streams_opened_total: LISTENERS });
  } finally {
    for (const stop of stops) stop();
    await db.terminate();
    await server.stop();
  }
});
