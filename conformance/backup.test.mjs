// Ways out of a server and back in: exports in Firestore's own format, one of them made by the official emulator, and
// backups while others write.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { node, uniqueProject } from './support/clients.mjs';
import { Server } from './support/server.mjs';
import { documents, everything } from './support/values.mjs';

const run = promisify(execFile);
const fixture = path.resolve(import.meta.dirname, 'fixtures', 'emulator');

// The command itself; its files and those of a backup are on this machine.
function watchfire(...args) {
  return run(process.env.WATCHFIRE_BIN, args);
}

async function refused(pattern, ...args) {
  await assert.rejects(watchfire(...args), error => {
    assert.equal(error.code, 1);
    assert.match(error.stderr, pattern);
    return true;
  });
}

let server, folder;

before(async () => {
  server = await Server.start();
  folder = await mkdtemp(path.join(os.tmpdir(), 'watchfire-backup-'));
});

after(async () => {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

// A client that keeps integers apart from doubles.
function client(projectId, host = server.host) {
  return node(host, projectId, { useBigInt: true });
}

async function fill(projectId) {
  const db = client(projectId);
  for (const [name, fields] of Object.entries(documents(db))) await db.doc(name).set(fields);
  const written = await everything(db, projectId);
  await db.terminate();
  return written;
}

async function read(projectId, host) {
  const db = client(projectId, host);
  const found = await everything(db, projectId);
  await db.terminate();
  return found;
}

test('an export of the official emulator is what the SDK writes', async () => {
  const [written, imported] = [uniqueProject('written'), uniqueProject('imported')];
  const expected = await fill(written);
  const dry = await watchfire('import', fixture, '--server', server.host, '--project', imported, '--dry-run');
  assert.match(dry.stdout, /^\d+ documents in .* can be imported; nothing was done/);
  assert.deepEqual(await read(imported), {});
  const { stdout } = await watchfire('import', fixture, '--server', server.host, '--project', imported);
  const count = Object.keys(expected).length;
  assert.equal(stdout, `Imported ${count} documents into projects/${imported}/databases/(default)\n`);
  assert.deepEqual(await read(imported), expected);
});

test('what is exported is imported as it was, and what was there besides stays', async () => {
  const [from, to] = [uniqueProject('from'), uniqueProject('to')];
  const expected = await fill(from);
  const directory = path.join(folder, 'roundtrip');
  await watchfire('export', directory, '--server', server.host, '--project', from);
  const db = client(to);
  await db.doc('types/all').set({ old: 1n });
  await db.doc('other/document').set({ stays: true });
  await watchfire('import', directory, '--server', server.host, '--project', to);
  const found = await everything(db, to);
  assert.equal(found['other/document'].stays.booleanValue, true);
  delete found['other/document'];
  assert.deepEqual(found, expected);
  await db.terminate();
  await refused(/roundtrip exists already/, 'export', directory, '--server', server.host, '--project', from);
});

test('only some collections, and as they were', async () => {
  const [from, to] = [uniqueProject('some'), uniqueProject('some')];
  const db = client(from);
  await db.doc('a/1').set({ n: 1n });
  await db.doc('b/1/a/2').set({ n: 2n });
  const { updateTime } = await db.doc('b/1').get().then(() => db.doc('b/1').set({ n: 3n })).then(() => db.doc('b/1').get());
  await db.doc('a/1').delete();
  await db.doc('a/3').set({ n: 4n });
  const directory = path.join(folder, 'some');
  const time = `${updateTime.toDate().toISOString().slice(0, 19)}.${String(updateTime.nanoseconds).padStart(9, '0')}Z`;
  await watchfire(
    'export', directory, '--server', server.host, '--project', from,
    '--collection', 'a', '--collection', 'b', '--read-time', time,
  );
  assert.deepEqual(await readdir(path.join(directory, 'all_namespaces')), ['kind_a', 'kind_b']);
  await watchfire('import', directory, '--server', server.host, '--project', to, '--collection', 'a');
  assert.deepEqual(Object.keys(await read(to)).sort(), ['a/1', 'b/1/a/2']);
  await db.terminate();
});

test('an export in which anything is wrong is refused before anything is written', async () => {
  const project = uniqueProject('damaged');
  const directory = path.join(folder, 'damaged');
  await watchfire('import', fixture, '--server', server.host, '--project', `${project}-source`);
  await watchfire('export', directory, '--server', server.host, '--project', `${project}-source`);
  const output = path.join(directory, 'all_namespaces', 'all_kinds', 'output-0');
  const bytes = await readFile(output);
  bytes[bytes.length - 9] ^= 1;
  await writeFile(output, bytes);
  const args = ['import', directory, '--server', server.host, '--project', project];
  await refused(/output-0 at byte \d+: the checksum does not fit: expected /, ...args);
  await writeFile(output, 'Salted__');
  await refused(/output-0 at byte 0: /, ...args);
  assert.deepEqual(await read(project), {});
  await refused(/is no export of Firestore/, 'import', folder, '--server', server.host, '--project', project);
});

test('a backup under load is one moment, and a server of it goes on from there', async t => {
  if (!server.data) return t.skip('needs a server of its own');
  const project = uniqueProject('load');
  const db = client(project);
  await fill(project);
  // Writers count up two documents together; what was acknowledged is remembered.
  const acknowledged = [];
  let writing = true;
  const writers = [0, 1, 2, 3].map(async writer => {
    for (let n = 1; writing; n++) {
      const batch = db.batch();
      for (const side of ['left', 'right']) batch.set(db.doc(`load/${writer}-${side}`), { n });
      const [{ writeTime }] = await batch.commit();
      acknowledged.push({ writer, n, writeTime });
    }
  });
  while (acknowledged.length < 40) await new Promise(resolve => setTimeout(resolve, 5));
  const before = acknowledged.length;
  const backup = path.join(folder, 'backup');
  await watchfire('backup', backup, '--server', server.host);
  const during = acknowledged.length - before;
  const enough = acknowledged.length + 40;
  while (acknowledged.length < enough) await new Promise(resolve => setTimeout(resolve, 5));
  writing = false;
  await Promise.all(writers);
  t.diagnostic(`${during} commits were acknowledged while the backup was made`);
  await refused(/backup exists already/, 'backup', backup, '--server', server.host);

  const data = path.join(folder, 'restored');
  await watchfire('restore', backup, '--data', data);
  await refused(/restored has data already/, 'restore', backup, '--data', data);
  await refused(/is held by a running server/, 'restore', backup, '--data', server.data);

  const restored = new Server(server.port + 1, data);
  await restored.launch();
  t.after(() => restored.stop());
  const { databases } = JSON.parse(await readFile(path.join(backup, 'manifest.json'), 'utf8')).watchfireBackup;
  const name = `projects/${project}/databases/(default)`;
  const { version } = databases.find(database => database.name === name);
  const micros = ({ seconds, nanoseconds }) => seconds * 1e6 + nanoseconds / 1e3;
  const there = client(project, restored.host);
  for (const writer of [0, 1, 2, 3]) {
    const [left, right] = await there.getAll(there.doc(`load/${writer}-left`), there.doc(`load/${writer}-right`));
    assert.deepEqual(left.data(), right.data());
    const own = acknowledged.filter(commit => commit.writer === writer);
    const last = own.filter(({ writeTime }) => micros(writeTime) <= version).at(-1);
    assert.equal(left.data().n, BigInt(last.n));
    const earlier = acknowledged.slice(0, before).filter(commit => commit.writer === writer).at(-1);
    assert.ok(!earlier || last.n >= earlier.n, 'what was acknowledged before the backup is in it');
  }
  const known = await everything(db, project);
  const found = await everything(there, project);
  for (const all of [known, found]) for (const name of Object.keys(all)) if (name.startsWith('load/')) delete all[name];
  assert.deepEqual(found, known);
  // Versions go on after those that were lost.
  const { writeTime } = await there.doc('load/new').set({ n: 1n });
  assert.ok(micros(writeTime) > Math.max(...acknowledged.map(commit => micros(commit.writeTime))));
  await there.terminate();
  await db.terminate();
});

test('a damaged backup is refused, with the file, and leaves nothing', async t => {
  if (!server.data) return t.skip('needs a server of its own');
  const backup = path.join(folder, 'damage');
  await watchfire('backup', backup, '--server', server.host);
  const data = path.join(folder, 'nowhere');
  const tables = (await readdir(path.join(backup, 'data'))).filter(name => name.endsWith('.sst'));
  const table = path.join(backup, 'data', tables[0]);
  // Not the table itself: it is a link to one of the server's.
  const bytes = await readFile(table);
  await rm(table);
  await refused(new RegExp(`${tables[0]} is missing, expected a file of ${bytes.length} bytes`), 'restore', backup, '--data', data);
  await writeFile(table, bytes.subarray(1));
  await refused(new RegExp(`has ${bytes.length - 1} bytes, expected ${bytes.length}`), 'restore', backup, '--data', data);
  bytes[bytes.length >> 1] ^= 1;
  await writeFile(table, bytes);
  await refused(/with checksum [0-9a-f]{64}, expected /, 'restore', backup, '--data', data);
  assert.ok(!(await readdir(folder)).some(name => name.startsWith('nowhere')));
  await refused(/has no manifest\.json/, 'restore', folder, '--data', data);
});
