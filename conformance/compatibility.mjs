// Makes docs/compatibility.md of what became of the tests (`support/results.mjs`, `support/results.py`): which published
// client can do what, as far as a test has seen it.
//
//   node compatibility.mjs --check | --write      (WATCHFIRE_RESULTS names the folder of the results)

import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

const FILE = path.join(import.meta.dirname, '..', 'docs', 'compatibility.md');
const AGAIN = 'run `cargo xtask compatibility`, which runs all suites and writes the file, or after a run of all of them `cargo xtask compatibility --last`';

const CLIENTS = {
  node: 'Node server SDK',
  python: 'Python server SDK',
  web: 'web SDK on Node',
  streaming: 'web SDK in Chromium, streaming',
  polling: 'web SDK in Chromium, long polling',
  lite: 'web SDK lite in Chromium',
};

// The client has no such thing, so that there is nothing to test.
const NOT_OFFERED = null;
const LITE_ONLY_ASKS = { lite: NOT_OFFERED };
const SERVER_ONLY = { web: NOT_OFFERED, streaming: NOT_OFFERED, polling: NOT_OFFERED, lite: NOT_OFFERED };
const PAGE_ONLY = { node: NOT_OFFERED, python: NOT_OFFERED, web: NOT_OFFERED };

const PAGE = 'browser/page.test.mjs > ';
const CACHE = 'browser/cache.test.mjs > ';
const LITE = 'browser/lite.test.mjs > lite: ';
const H2 = 'browser/listeners.test.mjs > HTTP/2 with TLS > ';
const way = name => `browser/transports.test.mjs > ${name} > `;

// A feature, and the tests of it for each client, by the beginnings of their names; several tests with + between. What is
// left out has no test.
const FEATURES = [
  ['Create, set, update, delete', { node: 'api.test.mjs > create, update and delete', web: 'api.test.mjs > web SDK: transaction, batch', python: 'python/suite.py > Suite.test_documents_and_projections', streaming: `${way('streaming')}twenty pages`, polling: `${way('forced long polling')}twenty pages`, lite: `${LITE}writes, batches` }],
  ['Values of every type', { node: 'api.test.mjs > every type comes back', streaming: `${PAGE}streaming: values of every type`, polling: `${PAGE}long polling: values of every type` }],
  ['Transforms, batches', { node: 'api.test.mjs > transforms', web: 'offline.test.mjs > edits made offline', streaming: `${way('streaming')}twenty pages`, polling: `${way('forced long polling')}twenty pages`, lite: `${LITE}writes, batches` }],
  ['Transactions under contention', { node: 'transactions.test.mjs > the sum', web: 'transactions.test.mjs > the sum', python: 'python/suite.py > Suite.test_transactions', streaming: `${way('streaming')}the sum`, polling: `${way('forced long polling')}the sum`, lite: `${LITE}transactions` }],
  ['Queries with every operator', { node: 'data.test.mjs > every question has its answer', web: 'data.test.mjs > the web SDK gets the same answers', python: 'python/suite.py > Suite.test_questions', streaming: `${way('streaming')}every question`, polling: `${way('forced long polling')}every question`, lite: `${LITE}every question` }],
  ['Collection groups', { node: 'data.test.mjs > every question has its answer > collection group', web: 'data.test.mjs > the web SDK gets the same answers', python: 'python/suite.py > Suite.test_collection_group', streaming: `${way('streaming')}every question`, polling: `${way('forced long polling')}every question`, lite: `${LITE}every question` }],
  ['Cursors, page by page', { node: 'data.test.mjs > a cursor from a document', python: 'python/suite.py > Suite.test_pages', streaming: `${PAGE}cursors walk`, lite: `${LITE}cursors walk` }],
  ['Aggregations', { node: 'data.test.mjs > aggregations', web: 'reads.test.mjs > aggregations honour filters', python: 'python/suite.py > Suite.test_aggregations', streaming: `${PAGE}aggregations`, lite: `${LITE}aggregations` }],
  ['Results of many megabytes', { node: 'reads.test.mjs > a large result streams', streaming: `${PAGE}streaming: a result of more than`, polling: `${PAGE}long polling: a result of more than` }],
  ['Several databases', { node: 'api.test.mjs > databases are apart', streaming: `${PAGE}two databases` }],
  ['Errors come to whoever asked', { node: 'errors.test.mjs > what cannot be asked for', web: 'streams.test.mjs > web SDK: only the batch', streaming: `${PAGE}streaming: refusals`, polling: `${PAGE}long polling: refusals`, lite: `${LITE}writes, batches` }],
  ['Listeners: all see the same, in one order', { node: 'lit.test.mjs > fifty clients', web: 'lit.test.mjs > fifty clients', python: 'python/suite.py > Suite.test_listen', streaming: `${way('streaming')}twenty pages`, polling: `${way('forced long polling')}twenty pages`, ...LITE_ONLY_ASKS }],
  ['Listeners with a limit', { node: 'realtime.test.mjs > every snapshot', web: 'realtime.test.mjs > every snapshot', streaming: `${PAGE}streaming: a limited query`, polling: `${PAGE}long polling: a limited query`, ...LITE_ONLY_ASKS }],
  ['300 listeners in one page', { ...PAGE_ONLY, streaming: 'browser/listeners.test.mjs > HTTP/1.1: 300', ...LITE_ONLY_ASKS }],
  ['The server killed and started again under open clients', { node: 'power.test.mjs > kill -9 under load + realtime.test.mjs > every snapshot', web: 'power.test.mjs > kill -9 under load + realtime.test.mjs > every snapshot', streaming: 'browser/kills.test.mjs > pages go on', polling: 'browser/kills.test.mjs > pages go on', ...LITE_ONLY_ASKS }],
  ['Edits made offline', { node: NOT_OFFERED, python: NOT_OFFERED, web: 'offline.test.mjs > edits made offline', streaming: `${CACHE}singleTab + ${CACHE}multipleTabs`, ...LITE_ONLY_ASKS }],
  ['A cache that outlives the page, and is told only what changed', { ...PAGE_ONLY, streaming: `${CACHE}singleTab + ${CACHE}multipleTabs`, ...LITE_ONLY_ASKS }],
  ['Tabs that share a cache', { ...PAGE_ONLY, streaming: `${CACHE}tabs of one profile`, ...LITE_ONLY_ASKS }],
  ['Bundles', { streaming: `${PAGE}a bundle is loaded`, ...LITE_ONLY_ASKS }],
  ['Behind a proxy that passes answers on', { streaming: `${way('behind nginx that passes answers on')}` }],
  ['Behind a proxy that holds answers back', { streaming: NOT_OFFERED, polling: `${way('behind nginx that holds answers back')}` }],
  ['HTTP/2 with TLS: thirty clients in one page, twenty in ten tabs', { ...PAGE_ONLY, streaming: H2, ...LITE_ONLY_ASKS }],
  ['Pages from elsewhere are refused, and allowed by name', { ...PAGE_ONLY, streaming: 'browser/origins.test.mjs > ', lite: 'browser/origins.test.mjs > ' }],
  ['Vector search', { node: 'reads.test.mjs > findNearest', python: 'python/suite.py > Suite.test_find_nearest', ...SERVER_ONLY }],
  ['Explanations of queries', { node: 'reads.test.mjs > explain', python: 'python/suite.py > Suite.test_explain', ...SERVER_ONLY }],
  ['Partitions', { node: 'reads.test.mjs > partitions', python: 'python/suite.py > Suite.test_partitions', ...SERVER_ONLY }],
  ['Reads in the past', { node: 'reads.test.mjs > read time', python: 'python/suite.py > Suite.test_the_past', ...SERVER_ONLY }],
  ['Administration of indexes', { node: 'indexes.test.mjs > ', python: 'python/suite.py > Suite.test_admin', ...SERVER_ONLY }],
];

async function results() {
  const folder = process.env.WATCHFIRE_RESULTS;
  if (!folder) throw new Error('WATCHFIRE_RESULTS must name the folder of the results; run `cargo xtask compatibility`');
  const found = new Map();
  for (const name of await readdir(folder)) {
    const { suite, tests } = JSON.parse(await readFile(path.join(folder, name), 'utf8'));
    for (const [test, result] of Object.entries(tests)) found.set(`${suite} > ${test}`, result);
  }
  return found;
}

// One word for all tests of a cell. A name that begins no test is a fault of the list above.
function verdict(found, tests) {
  if (tests === NOT_OFFERED) return '–';
  if (tests === undefined) return 'not tested';
  const outcomes = tests.split(' + ').flatMap(beginning => {
    const matching = [...found].filter(([name]) => name.startsWith(beginning)).map(([, result]) => result);
    if (!matching.length) throw new Error(`no test that has run begins with ${JSON.stringify(beginning)}; compatibility.mjs lists it`);
    return matching;
  });
  if (outcomes.includes('failed')) return '**failed**';
  return outcomes.includes('passed') ? 'passed' : 'not tested';
}

async function versions() {
  const version = async name => JSON.parse(await readFile(path.join(import.meta.dirname, 'node_modules', name, 'package.json'), 'utf8')).version;
  const python = (await readFile(path.join(import.meta.dirname, 'python', 'requirements.txt'), 'utf8')).match(/^google-cloud-firestore==(\S+)$/m)[1];
  return [
    `- Node server SDK: \`@google-cloud/firestore\` ${await version('@google-cloud/firestore')} (gRPC)`,
    `- Python server SDK: \`google-cloud-firestore\` ${python} (gRPC)`,
    `- web SDK: \`firebase\` ${await version('firebase')}; on Node it speaks gRPC, in a browser WebChannel, \`firestore/lite\` plain requests (REST)`,
    '- Chromium: the one of the system (Debian\'s), headless',
  ];
}

async function made() {
  const found = await results();
  const row = cells => `| ${cells.join(' | ')} |`;
  return [
    '# Compatibility',
    '',
    'Which published client can do what, as far as the suites in `conformance/` have seen it.',
    'This file is written by `cargo xtask compatibility` from what became of the tests, and CI fails when it does not say what the run had.',
    '',
    '- *passed*, **failed**: what the tests of it came to',
    '- *not tested*: no test of it for this client',
    '- –: the client offers no such thing',
    '',
    'The clients, as they are published and unpatched:',
    '',
    ...await versions(),
    '',
    row(['feature', ...Object.values(CLIENTS)]),
    row(['---', ...Object.keys(CLIENTS).map(() => '---')]),
    ...FEATURES.map(([feature, tests]) => row([feature, ...Object.keys(CLIENTS).map(client => verdict(found, tests[client]))])),
    '',
    'Over HTTP/1.1 a browser has six connections for a host, and each client in a page keeps one or two of them open: three clients in the tabs of one profile, or one that writes and many that share its cache, are what HTTP/1.1 carries.',
    'HTTP/2, for which browsers want TLS (`--tls-cert`, `--tls-key`), has no such bound.',
    '',
  ].join('\n');
}

const text = await made();
if (process.argv[2] === '--write') {
  await writeFile(FILE, text);
  console.log(`wrote ${path.relative(process.cwd(), FILE)}`);
} else {
  const committed = await readFile(FILE, 'utf8').catch(() => '');
  if (committed !== text) {
    const has = new Set(committed.split('\n'));
    const wrong = text.split('\n').filter(line => !has.has(line));
    console.error(`docs/compatibility.md does not say what the run had; ${AGAIN}. The run had:\n${wrong.join('\n')}`);
    process.exitCode = 1;
  }
}
