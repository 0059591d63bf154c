// The questions about real data once more, in each way of treating a query that has no index. The data is stored once;
// the server is started again on it for each mode. (`data.test.mjs` asks them in the default mode, without any index.)

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { adminClient, decodeLink, follow, indexFile, indexes, plain, properties, used } from './support/admin.mjs';
import { ids, load, of, questions, store } from './support/data.mjs';
import { node, until, uniqueProject, web, webClient } from './support/clients.mjs';
import { Server } from './support/server.mjs';

const skip = process.env.WATCHFIRE_TARGET_HOST ? 'needs servers of its own' : false;
const INEQUALITIES = ' .\nThe query contains range and inequality filters on multiple fields, please refer to the documentation for index selection best practices: https://cloud.google.com/firestore/docs/query-data/multiple-range-fields.';

let server;
let projectId;
let data;
let db;
let admin;
let all;
let needing;
let deployed;

async function connect() {
  await db?.terminate();
  await admin?.close();
  db = node(server.host, projectId);
  admin = adminClient(server.host, projectId);
  all = questions(db, data);
  needing = all.filter(([, , , need]) => need);
}

before(async () => {
  if (skip) return;
  data = await load();
  server = await Server.start('--index-mode', 'enforce');
  projectId = uniqueProject('modes');
  await connect();
  await store(db, data);
}, { timeout: 120_000 });

after(async () => {
  await admin?.close();
  await db?.terminate();
  await server?.stop();
});

// Which questions are answered, and rightly. Failures are collected: one is rarely alone.
async function ask(some) {
  const faults = [];
  for (const [name, query, expected] of some) {
    try {
      assert.deepEqual(ids(await query().get()), of(expected()));
    } catch (error) {
      faults.push(`${name}: ${error.message.split('\n').slice(0, 4).join(' ')}`);
    }
  }
  assert.deepEqual(faults, []);
}

const textOf = error => error.details ?? error.message.replace(/^9 FAILED_PRECONDITION: /, '');
const reads = (text, pattern) => assert.ok(pattern.test(text), text);
const refusal = async query => {
  try {
    await query.get();
  } catch (error) {
    assert.equal(error.code, 9, error.message);
    return textOf(error);
  }
  throw new Error('the query was answered');
};
// `airports (a ASC)` and the scope that a link offers.
const offered = ({ index }) => `${/\/collectionGroups\/([^/]+)\//.exec(index.name)[1]} ${properties(index)}`;
const question = name => all.find(([n]) => n === name);

test('enforce: what needs no index is answered, the rest is refused with its definition', { skip }, async t => {
  await ask(all.filter(([, , , need]) => !need));
  for (const [name, query, , need, scope = 'COLLECTION'] of needing) {
    await t.test(name, async () => {
      const text = await refusal(query());
      const link = decodeLink(text);
      assert.equal(link.project, projectId);
      assert.equal(link.index.queryScope, scope);
      if (link.kind === 'composite') {
        reads(text, /^The query requires an index\. You can create it here: https:\S+( \.\n.*)?$/s);
        assert.equal(offered(link), need);
        assert.match(link.index.name, new RegExp(`^projects/${projectId}/databases/\\(default\\)/collectionGroups/\\w+/indexes/_$`));
        assert.equal(text.endsWith(INEQUALITIES), name.startsWith('ranges on two fields'), text);
      } else {
        reads(text, /^The query requires a COLLECTION_GROUP_ASC index for collection fields and field latitude\. You can create it here: https:\S+$/);
        assert.equal(offered(link).replace(', __name__ ASC', ''), need.replace(', __name__ ASC', ''));
        assert.equal(link.index.name, `projects/${projectId}/databases/(default)/collectionGroups/fields/fields/latitude`);
      }
    });
  }
});

test('enforce: counting, transactions and listeners are refused with the same words', { skip }, async () => {
  const [, query] = question('ranges on two fields');
  const text = await refusal(query());
  assert.equal(await refusal(query().count()), text);
  await assert.rejects(db.runTransaction(tx => tx.get(query())), error => error.code === 9 && textOf(error) === text);
  const heard = await new Promise(resolve => query().onSnapshot(() => resolve('a snapshot'), resolve));
  // The SDK puts the code into the message.
  assert.ok(String(heard.message ?? heard).startsWith('Error 9: '), String(heard.message ?? heard));
  assert.ok(heard.message.includes(text), heard.message);

  const browser = webClient(server.host, projectId);
  const { db: w } = browser;
  const asked = web.query(web.collection(w, 'airports'), web.where('latitude', '>', 40), web.where('latitude', '<', 41), web.where('longitude', '<', -100));
  const refused = await new Promise(resolve => web.onSnapshot(asked, () => resolve('a snapshot'), resolve));
  assert.equal(refused.code, 'failed-precondition', String(refused.message ?? refused));
  assert.ok(refused.message.includes(text), refused.message);
  // Other targets of the stream live on.
  const airports = await web.getDocs(web.query(web.collection(w, 'airports'), web.where('state', '==', 'HI')));
  assert.equal(airports.size, data.airports.filter(a => a.data.state === 'HI').length);
  await browser.close();
});

test('enforce: the index that the link offers serves the query', { skip }, async () => {
  for (const name of ['ranges on two fields', 'collection group']) {
    const [, query, , need] = question(name);
    await follow(admin, decodeLink(await refusal(query())));
    await ask([question(name)]);
    assert.ok(used(await query().explain()).includes(need.slice(need.indexOf('('))), name);
  }
});

test('enforce: with the index file deployed, every question is answered', { skip }, async () => {
  deployed = indexFile(needing.map(([, , , need, scope = 'COLLECTION']) => [need, scope]));
  const { code, output, errors } = await indexes(server, projectId, 'deploy', { file: deployed });
  assert.equal(code, 0, output + errors);
  await until(async () => (await admin.listIndexes({ parent: `projects/${projectId}/databases/(default)/collectionGroups/-` }))[0].every(i => plain(i).state === 'READY'), 'the indexes are complete');
  await ask(all);
  for (const [name, query, , need] of needing) {
    const { metrics, snapshot } = await query().explain({ analyze: true });
    const names = metrics.planSummary.indexesUsed.map(i => i.properties);
    assert.ok(names.includes(need.slice(need.indexOf('('))), `${name}: ${names}`);
    assert.equal(metrics.executionStats.resultsReturned, snapshot.size, name);
  }
  // A listener gets what a query gets.
  const [, query, expected] = question('ranges on two fields');
  const heard = await new Promise((resolve, reject) => {
    const stop = query().onSnapshot(s => (stop(), resolve(s)), reject);
  });
  // The SDK sorts what it hears by explicit orders alone.
  assert.deepEqual(ids(heard).sort(), of(expected()).sort());
});

test('enforce holds after a restart, and so do the indexes', { skip }, async () => {
  await server.restart('--index-mode', 'enforce');
  await connect();
  await ask(needing);
});

test('advise: everything is answered, and the log names each definition once', { skip }, async () => {
  const none = { indexes: [], fieldOverrides: [] };
  const { code, output, errors } = await indexes(server, projectId, 'deploy', { file: none, args: ['--force'] });
  assert.equal(code, 0, output + errors);
  await refusal(question('ranges on two fields')[1]());
  await server.restart('--index-mode', 'advise');
  server.output = '';
  await connect();
  await ask(needing);
  await ask(needing);
  for (const [name, , , need] of needing) {
    const fields = need.slice(need.indexOf('(') + 1, -1).split(', ').filter(field => !field.startsWith('__name__')).map(field => field.split(' '));
    // As the index file has it: an index over several fields, or what one field has besides.
    const definition = fields.length > 1
      ? `"fields":[${fields.map(([path, order]) => `{"fieldPath":"${path}","order":"${order}ENDING"}`).join(',')}]`
      : `"fieldPath":"${fields[0][0]}","indexes":`;
    const log = () => server.output.replaceAll('\\"', '"');
    await until(() => log().includes(definition), () => `the log names ${definition} for ${name}:\n${server.output}`, 5000);
    assert.equal(log().split(definition).length - 1, 1, `${name}: ${server.output}`);
  }
});

test('create: everything is answered at once, and later from the index that came by itself', { skip }, async () => {
  await server.restart('--index-mode', 'create');
  await connect();
  await ask(needing);
  for (const [name, query, , need] of needing) {
    let names;
    await until(async () => (names = used(await query().explain())).includes(need.slice(need.indexOf('('))), () => `${name} uses ${need}, not ${names}`, 20_000);
  }
  await ask(all);
});
