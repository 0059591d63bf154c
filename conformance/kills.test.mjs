// A few kills under load; `cargo xtask kills` does a hundred.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kills } from './support/kills.mjs';

const skip = process.env.WATCHFIRE_TARGET_HOST ? 'needs a server of its own' : false;

test('kill -9 under the load of 64 clients: what was said holds', { skip, timeout: 300_000 }, async t => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  const { faults, acknowledged } = await kills({ times: 3, seed, say: text => t.diagnostic(text) });
  assert.deepEqual(faults, []);
  assert.ok(acknowledged > 0);
});
