// By hand: `cargo xtask kills [--times N] [--clients N] [--seed N]`; see support/kills.mjs.

import { parseArgs } from 'node:util';
import { kills } from './support/kills.mjs';

const { values } = parseArgs({ options: { times: { type: 'string' }, clients: { type: 'string' }, seed: { type: 'string' }, concurrency: { type: 'string' } } });
const number = text => (text === undefined ? undefined : Number(text));
const { faults, output } = await kills({
  times: number(values.times) ?? 100,
  clients: number(values.clients),
  seed: number(values.seed),
  say: text => console.log(text),
  args: values.concurrency ? ['--concurrency', values.concurrency] : [],
});
for (const fault of faults) console.log(`FAULT ${fault}`);
if (faults.length) console.log(`the server's last words:\n${output.slice(-5_000)}`);
else console.log('nothing acknowledged was lost, nothing refused was left, nothing is half');
process.exitCode = faults.length ? 1 : 0;
