// `watchfire emulator` as tools use it: its control addresses, the credentials of tests, exports, and programs beside it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { Firestore } from '@google-cloud/firestore';

import { Raw } from './support/raw.mjs';
import { Server } from './support/server.mjs';

const BINARY = process.env.WATCHFIRE_BIN;
const FIXTURE = path.resolve('fixtures/emulator');
const skip = process.env.WATCHFIRE_TARGET_HOST ? 'only the built server is an emulator' : false;

const base64 = value => Buffer.from(JSON.stringify(value)).toString('base64url');
const unsigned = claims => `${base64({ alg: 'none', type: 'JWT' })}.${base64(claims)}.`;

// A running emulator; what it prints is collected, and its address read from there.
class Emulator {
  static async start(...args) {
    const emulator = new Emulator();
    emulator.output = '';
    emulator.child = spawn(BINARY, ['emulator', '--port', '0', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    emulator.exit = new Promise(resolve => emulator.child.once('exit', (code, signal) => resolve(code ?? signal)));
    const ready = new Promise((resolve, reject) => {
      for (const stream of [emulator.child.stdout, emulator.child.stderr]) {
        stream.on('data', bytes => {
          emulator.output += bytes;
          if (emulator.output.includes('Dev App Server is now running.')) resolve();
        });
      }
      emulator.child.once('exit', code => reject(new Error(`ended with ${code}:\n${emulator.output}`)));
    });
    await ready;
    emulator.host = /FIRESTORE_EMULATOR_HOST=(\S+)/.exec(emulator.output)[1];
    return emulator;
  }

  async ask(method, at, { body, token, headers } = {}) {
    const answer = await fetch(`http://${this.host}${at}`, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: { ...(token ? { authorization: `Bearer ${token}` } : {}), ...headers },
    });
    const text = await answer.text();
    return { status: answer.status, headers: answer.headers, text, json: text.startsWith('{') ? JSON.parse(text) : null };
  }

  // As the SDK does when FIRESTORE_EMULATOR_HOST is set.
  firestore(projectId, token = 'owner', more = {}) {
    const [host, port] = this.host.split(':');
    const customHeaders = { Authorization: `Bearer ${token}` };
    return new Firestore({ projectId, host, port: Number(port), ssl: false, customHeaders, ...more });
  }

  async stop() {
    this.child.kill('SIGTERM');
    assert.equal(await this.exit, 0, this.output);
  }
}

async function run(args, options = {}) {
  const child = spawn(BINARY, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  let [out, err] = ['', ''];
  child.stdout.on('data', bytes => (out += bytes));
  child.stderr.on('data', bytes => (err += bytes));
  const code = await new Promise(resolve => child.once('close', (code, signal) => resolve(code ?? signal)));
  return { code, out, err };
}

describe('emulator', { skip }, () => {
  let emulator;
  let folder;
  before(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'watchfire-emulator-'));
    emulator = await Emulator.start('--import', FIXTURE, '--single_project_mode', 'true', '--websocket_port', '9150');
  });
  after(async () => {
    await emulator?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  test('it answers Ok and names what has no effect', async () => {
    const { status, text } = await emulator.ask('GET', '/');
    assert.deepEqual([status, text], [200, 'Ok']);
    for (const flag of ['--single_project_mode', '--websocket_port']) {
      assert.match(emulator.output, new RegExp(`${flag} has no effect`));
    }
  });

  test('every project begins with the documents of the export', async () => {
    for (const project of ['one', 'two']) {
      const db = emulator.firestore(project);
      const collections = (await db.listCollections()).map(collection => collection.id);
      assert.deepEqual(collections, ['a~b', 'missing', 'names', 'one', 'types']);
      await db.terminate();
    }
    const other = emulator.firestore('one', 'owner', { databaseId: 'other' });
    assert.deepEqual(await other.listCollections(), []);
    await other.terminate();
  });

  test('clearing is heard by who listens, and leaves other databases alone', async () => {
    const db = emulator.firestore('clear');
    const other = emulator.firestore('kept');
    const writer = db.bulkWriter();
    for (let n = 0; n < 1_001; n++) writer.set(db.doc(`many/d${n}/deep/${n}`), { n });
    await writer.close();
    await db.doc('c/a').set({ n: 1 });
    await other.doc('c/a').set({ n: 1 });
    const heard = [];
    let gone;
    const empty = new Promise(resolve => (gone = resolve));
    const stop = db.collection('c').onSnapshot(snapshot => {
      heard.push(snapshot.size);
      if (heard.length > 1 && snapshot.empty) gone();
      if (heard.length === 1) emulator.ask('DELETE', '/emulator/v1/projects/clear/databases/(default)/documents');
    });
    await empty;
    stop();
    assert.equal(heard[0], 1);
    const answer = await emulator.ask('DELETE', '/emulator/v1/projects/clear/databases/(default)/documents');
    assert.deepEqual([answer.status, answer.json], [200, {}]);
    assert.deepEqual(await db.listCollections(), []);
    assert.equal((await other.doc('c/a').get()).exists, true);
    await Promise.all([db.terminate(), other.terminate()]);
  });

  test('rules are kept, and said not to be enforced', async () => {
    const at = '/emulator/v1/projects/rules:securityRules';
    const open = await emulator.ask('GET', at);
    assert.match(open.json.rules.files[0].content, /allow read, write: if true/);
    const rules = { files: [{ name: 'security.rules', content: 'service cloud.firestore {}' }] };
    const put = await emulator.ask('PUT', at, { body: { ignore_errors: true, rules } });
    assert.equal(put.status, 200);
    const [issue] = put.json.issues;
    assert.equal(issue.severity, 'WARNING');
    assert.match(issue.description, /does not enforce/);
    assert.equal(issue.sourcePosition.fileName, 'security.rules');
    assert.match(emulator.output, /does not enforce security rules yet/);
    assert.deepEqual((await emulator.ask('GET', at)).json, { rules });
    assert.equal((await emulator.ask('PUT', at, { body: {} })).status, 400);
    const large = { files: [{ name: 'security.rules', content: 'x'.repeat(256 * 1024) }] };
    const refused = await emulator.ask('PUT', at, { body: { rules: large } });
    assert.equal(refused.status, 400);
    assert.match(refused.json.error.message, /at most 262144 bytes/);
    assert.equal((await emulator.ask('GET', '/emulator/v1/projects/rules:ruleCoverage')).status, 200);
    assert.match((await emulator.ask('GET', '/emulator/v1/projects/rules:ruleCoverage.html')).text, /does not enforce/);
  });

  test('what is not there says so', async () => {
    for (const at of ['/emulator/v1/projects/p/triggers/t', '/emulator/v1/projects/p/eventarcTrigger?eventarcTriggerId=x']) {
      const { status, json } = await emulator.ask('POST', at, { body: {} });
      assert.deepEqual([status, json.error.status], [501, 'UNIMPLEMENTED']);
    }
    assert.equal((await emulator.ask('GET', '/emulator/v1/nothing')).status, 404);
    assert.equal((await emulator.ask('DELETE', '/emulator/v1/projects/p/databases/(default)/documents/a')).status, 404);
  });

  test('tokens of tests are callers', async () => {
    const at = '/v1/projects/tokens/databases/(default)/documents';
    const alice = unsigned({ sub: 'alice', user_id: 'alice' });
    for (const [token, status] of [[undefined, 403], [alice, 403], ['owner', 200]]) {
      const answer = await emulator.ask('POST', `${at}:listCollectionIds`, { body: {}, token });
      assert.equal(answer.status, status, answer.text);
      if (status === 403) assert.equal(answer.json.error.message, 'Metadata operations require admin authentication.');
      const missing = await emulator.ask('GET', `${at}/a?showMissing=true`, { token });
      assert.equal(missing.status, status, missing.text);
      assert.equal((await emulator.ask('GET', `${at}/a`, { token })).status, 200);
    }
    for (const token of ['foo', 'a.b.c']) {
      const { status, json } = await emulator.ask('GET', `${at}/a`, { token });
      assert.deepEqual([status, json.error.status], [401, 'UNAUTHENTICATED']);
      assert.match(json.error.message, /Invalid credentials/);
    }
    // The same over gRPC.
    const user = emulator.firestore('tokens', alice);
    await user.doc('a/b').set({ n: 1 });
    await assert.rejects(user.listCollections(), /7 PERMISSION_DENIED: Metadata operations/);
    await user.terminate();
    const wrong = new Raw(emulator.host);
    wrong.metadata.set('authorization', 'Bearer foo');
    const name = 'projects/tokens/databases/(default)/documents/a/b';
    await assert.rejects(wrong.call('GetDocument', { name }), error => {
      assert.match(error.message, /Invalid credentials/);
      return error.code === 16;
    });
    wrong.close();
  });

  test('pages of all origins may ask', async () => {
    const headers = {
      origin: 'https://app.example',
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,x-goog-api-client',
    };
    const { status, headers: told } = await emulator.ask('OPTIONS', '/v1/projects/p/databases/(default)/documents:commit', { headers });
    assert.equal(status, 204);
    assert.equal(told.get('access-control-allow-origin'), 'https://app.example');
    assert.equal(told.get('access-control-allow-headers'), headers['access-control-request-headers']);
  });

  test('pages of other sites do not reach the control addresses', async () => {
    const at = '/emulator/v1/projects/pages:export';
    const body = { database: 'projects/pages/databases/(default)', export_directory: folder, export_name: 'of_a_page' };
    for (const origin of ['https://evil.example', 'null']) {
      const { status, json } = await emulator.ask('POST', at, { body, headers: { origin } });
      assert.deepEqual([status, json.error.status], [403, 'PERMISSION_DENIED']);
      assert.match(json.error.message, /may not use \/emulator\/v1/);
    }
    assert.ok(!existsSync(path.join(folder, 'of_a_page')));
    for (const origin of ['http://localhost:5173', `http://${emulator.host}`]) {
      const { status } = await emulator.ask('GET', '/emulator/v1/projects/pages:securityRules', { headers: { origin } });
      assert.equal(status, 200);
    }
  });

  test('an export can be imported', async () => {
    const db = emulator.firestore('export');
    await db.doc('more/one').set({ n: 7 });
    const at = '/emulator/v1/projects/export:export';
    const body = { database: 'projects/export/databases/(default)', export_directory: folder, export_name: 'firestore_export' };
    const answer = await emulator.ask('POST', at, { body });
    assert.deepEqual([answer.status, answer.json], [200, {}], answer.text);
    assert.ok(existsSync(path.join(folder, 'firestore_export/firestore_export.overall_export_metadata')));
    assert.equal((await emulator.ask('POST', at, { body })).status, 400);
    assert.equal((await emulator.ask('POST', at, { body: { ...body, export_name: '../x' } })).status, 400);
    assert.equal((await emulator.ask('POST', at, { body: { ...body, export_directory: '/nowhere' } })).status, 400);
    await db.terminate();
    const again = await Emulator.start('--seed_from_export', path.join(folder, 'firestore_export/firestore_export.overall_export_metadata'));
    const copy = again.firestore('another');
    assert.equal((await copy.doc('more/one').get()).get('n'), 7);
    assert.equal((await copy.listCollections()).length, 6);
    await copy.terminate();
    await again.stop();
  });

  // Each run begins with the export of the one before, and adds a document.
  const runOf = async (n, kept, ...more) => {
    const args = ['--project', 'exit', '--export-on-exit', kept, ...(n > 1 ? ['--import', kept] : [])];
    const one = await Emulator.start(...args, ...more);
    const db = one.firestore('exit');
    assert.equal((await db.collection('runs').get()).size, n - 1);
    await db.doc(`runs/${n}`).set({ n });
    await db.terminate();
    return one;
  };

  test('what is there at the end is exported, and replaces the export before', async () => {
    const place = await mkdtemp(path.join(folder, 'exit-'));
    // As shells complete the name of a folder.
    const kept = `${place}/kept/`;
    for (const n of [1, 2]) await (await runOf(n, kept)).stop();
    // What killed processes have left is in nobody's way.
    await cp(kept, path.join(place, 'kept.before'), { recursive: true });
    await mkdir(path.join(place, 'kept.incomplete'));
    await mkdir(path.join(place, 'kept.new-abcdef'));
    for (const n of [3, 4]) await (await runOf(n, kept)).stop();
    assert.deepEqual((await readdir(place)).sort(), ['kept', 'kept.before', 'kept.incomplete', 'kept.new-abcdef']);
    assert.ok(existsSync(path.join(kept, 'kept.overall_export_metadata')));
    for (const nameless of ['.', '..', '/']) {
      const refused = await run(['emulator', '--port', '0', '--project', 'p', '--export-on-exit', nameless]);
      assert.equal(refused.code, 1);
      assert.match(refused.err, /expected a folder that ends with a name/);
    }
  });

  test('what is no export is left alone', async () => {
    const mine = path.join(folder, 'mine');
    await mkdir(mine);
    await writeFile(path.join(mine, 'thesis.txt'), 'do not delete');
    const refused = await run(['emulator', '--port', '0', '--project', 'p', '--export-on-exit', mine]);
    assert.equal(refused.code, 1);
    assert.match(refused.err, /is there already and no export/);
    assert.equal(await readFile(path.join(mine, 'thesis.txt'), 'utf8'), 'do not delete');
    // What comes while it runs is left alone as well, and so is the new export.
    const kept = path.join(folder, 'visited');
    await (await runOf(1, kept)).stop();
    const visited = await runOf(2, kept);
    await writeFile(path.join(kept, 'thesis.txt'), 'do not delete');
    visited.child.kill('SIGTERM');
    assert.equal(await visited.exit, 1);
    assert.equal(await readFile(path.join(kept, 'thesis.txt'), 'utf8'), 'do not delete');
    const [, at] = /thesis\.txt is there by now and no part of an export; it is at (\S+)/.exec(visited.output);
    const again = await Emulator.start('--import', at);
    const db = again.firestore('exit');
    assert.equal((await db.collection('runs').get()).size, 2);
    await db.terminate();
    await again.stop();
  });
});

describe('emulator exec', { skip }, () => {
  const exec = (args, command, options) => run(['emulator', ...args, 'exec', '--', ...command], options);

  test('the program hears of the emulator, and its exit code is told', async () => {
    const script = `
      const answer = await fetch('http://' + process.env.FIRESTORE_EMULATOR_HOST);
      console.log(await answer.text(), process.env.GCLOUD_PROJECT);
      process.exit(7);`;
    const { code, out } = await exec(['--project', 'demo'], [process.execPath, '--input-type=module', '-e', script]);
    assert.deepEqual([code, out], [7, 'Ok demo\n']);
    assert.equal((await exec([], ['true'])).code, 0);
    assert.equal((await exec([], ['sh', '-c', 'kill -9 $$'])).code, 137);
    const missing = await exec([], ['watchfire-no-such-program']);
    assert.equal(missing.code, 1);
    assert.match(missing.err, /cannot run watchfire-no-such-program/);
  });

  test('it is the java of those who start emulators', async () => {
    const script = `
      java -Duser.language=en -Dfile.encoding=UTF-8 -version || exit 1
      java -Duser.language=en -jar "$FIRESTORE_EMULATOR_BINARY_PATH" --host 127.0.0.1 --port 0 --project_id p --single_project_mode true --rules "$RULES" > "$SAID" &
      wait_for=$!
      # At most a minute, and not after its end.
      for i in $(seq 600); do
        if grep -q "Dev App Server" "$SAID" || ! kill -0 $wait_for; then break; fi
        sleep 0.1
      done
      kill $wait_for
      wait $wait_for
      code=$?
      cat "$SAID"
      exit $code`;
    const folder = await mkdtemp(path.join(os.tmpdir(), 'watchfire-emulator-'));
    const rules = path.join(folder, 'firestore.rules');
    await writeFile(rules, 'service cloud.firestore {}');
    const { code, out, err } = await exec([], ['sh', '-c', script], {
      env: { ...process.env, RULES: rules, SAID: path.join(folder, 'said') },
    });
    await rm(folder, { recursive: true });
    assert.equal(code, 0, err);
    assert.match(err, /openjdk version "21/);
    assert.match(out, /Dev App Server is now running/);
    assert.match(err, /does not enforce security rules yet/);
    const other = await exec([], ['java', '-jar', '/nowhere/other.jar'], { env: { ...process.env, PATH: '/nowhere' } });
    assert.equal(other.code, 127, other.err);
    assert.match(other.err, /no java is installed/);
  });

  test('a program that cannot be started leaves the export as it was', async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'watchfire-emulator-'));
    const kept = path.join(folder, 'kept');
    const args = ['--project', 'p', '--export-on-exit', kept];
    const script = `
      const at = '/v1/projects/p/databases/(default)/documents/c/a';
      const body = JSON.stringify({ fields: { n: { integerValue: '1' } } });
      await fetch('http://' + process.env.FIRESTORE_EMULATOR_HOST + at, { method: 'PATCH', body });`;
    assert.equal((await exec(args, [process.execPath, '--input-type=module', '-e', script])).code, 0);
    const file = path.join(kept, 'kept.overall_export_metadata');
    const before = await readFile(file);
    const { code, err } = await exec(args, ['watchfire-no-such-program']);
    assert.equal(code, 1);
    assert.match(err, /cannot run watchfire-no-such-program/);
    assert.deepEqual(await readFile(file), before);
    assert.deepEqual(await readdir(folder), ['kept']);
    await rm(folder, { recursive: true });
  });

  test('a signal is handed on, and the export still made', async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'watchfire-emulator-'));
    const kept = path.join(folder, 'kept');
    const program = 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done';
    const args = ['emulator', '--project', 'p', '--export-on-exit', kept, 'exec', '--', 'sh', '-c', program];
    const child = spawn(BINARY, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    child.stdout.once('data', () => child.kill('SIGTERM'));
    const code = await new Promise(resolve => child.once('exit', code => resolve(code)));
    assert.equal(code, 5);
    assert.ok(existsSync(path.join(kept, 'kept.overall_export_metadata')));
    await rm(folder, { recursive: true });
  });
});

describe('a server', { skip }, () => {
  let server;
  before(async () => (server = await Server.start()));
  after(() => server?.stop());

  const ask = (method, at, headers) => fetch(`http://${server.host}${at}`, { method, headers });

  test('has no control addresses', async () => {
    for (const [method, at] of [
      ['DELETE', '/emulator/v1/projects/p/databases/(default)/documents'],
      ['GET', '/emulator/v1/projects/p:securityRules'],
    ]) {
      const answer = await ask(method, at, { authorization: 'Bearer owner' });
      assert.equal(answer.status, 404);
    }
  });

  test('gives nobody anything for the tokens of tests', async () => {
    const at = '/v1/projects/p/databases/(default)/documents/a';
    for (const token of ['owner', 'foo', unsigned({ sub: 'alice' })]) {
      assert.equal((await ask('GET', at, { authorization: `Bearer ${token}` })).status, 200);
    }
    assert.equal(server.output.match(/a caller has sent credentials/g)?.length ?? 0, process.env.RUST_LOG ? 1 : 0);
  });

  test('refuses strange pages before anything happens', async () => {
    const at = '/v1/projects/p/databases/(default)/documents/strange/page';
    const answer = await fetch(`http://${server.host}${at}`, {
      method: 'PATCH',
      headers: { origin: 'https://evil.example', 'content-type': 'text/plain' },
      body: JSON.stringify({ fields: { n: { integerValue: '1' } } }),
    });
    assert.equal(answer.status, 403);
    assert.match((await answer.json()).error.message, /--allow-origin https:\/\/evil\.example/);
    assert.equal((await ask('GET', at)).status, 404);
  });
});
