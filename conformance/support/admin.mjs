// Index administration: the published admin client, the links in errors, index files and the command line.

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import grpc from '@grpc/grpc-js';
import firestore from '@google-cloud/firestore';
import protobuf from 'protobufjs';

const require = createRequire(import.meta.url);
const json = path.join(path.dirname(require.resolve('@google-cloud/firestore/package.json')), 'build', 'protos', 'admin_v1.json');
const Index = protobuf.Root.fromJSON(require(json)).lookupType('google.firestore.admin.v1.Index');

export function adminClient(host, projectId) {
  const [servicePath, port] = host.split(':');
  return new firestore.v1.FirestoreAdminClient({ servicePath, port: Number(port), sslCreds: grpc.credentials.createInsecure(), projectId });
}

// An index as names and words, whether it came with numbers for its enums or not.
export function plain(index) {
  const { fields, ...rest } = Index.toObject(Index.fromObject(index), { enums: String });
  // Members of a choice that say nothing are left out, as some decoders fill them in.
  const says = ([, value]) => typeof value !== 'string' || !value.endsWith('_UNSPECIFIED');
  return { ...rest, fields: (fields ?? []).map(field => Object.fromEntries(Object.entries(field).filter(says))) };
}

const MODES = { ASCENDING: 'ASC', DESCENDING: 'DESC' };

// As explanations name it: `(a ASC, b CONTAINS, __name__ ASC)`.
export function properties(index) {
  const parts = plain(index).fields.map(f => {
    if (f.vectorConfig) return `${f.fieldPath} VECTOR<${f.vectorConfig.dimension}>`;
    return `${f.fieldPath} ${f.arrayConfig ? 'CONTAINS' : MODES[f.order]}`;
  });
  return `(${parts.join(', ')})`;
}

// `(a ASC, b CONTAINS, __name__ ASC)` as the fields of an index file, without the name.
function fieldsOf(text) {
  return text.slice(1, -1).split(', ').map(part => part.split(' ')).filter(([fieldPath]) => fieldPath !== '__name__').map(([fieldPath, mode]) => {
    if (mode === 'CONTAINS') return { fieldPath, arrayConfig: 'CONTAINS' };
    return { fieldPath, order: mode === 'ASC' ? 'ASCENDING' : 'DESCENDING' };
  });
}

const AUTOMATIC = [{ order: 'ASCENDING' }, { order: 'DESCENDING' }, { arrayConfig: 'CONTAINS' }];

// `airports (state ASC, city ASC, __name__ ASC)` and a scope, many of them, as an index file.
export function indexFile(needs) {
  const file = { indexes: [], fieldOverrides: [] };
  for (const [need, queryScope] of needs) {
    const [collectionGroup] = need.split(' ', 1);
    const fields = fieldsOf(need.slice(collectionGroup.length + 1));
    if (fields.length > 1) {
      file.indexes.push({ collectionGroup, queryScope, fields });
    } else {
      const [{ fieldPath, ...mode }] = fields;
      file.fieldOverrides.push({ collectionGroup, fieldPath, indexes: [...AUTOMATIC.map(m => ({ ...m, queryScope: 'COLLECTION' })), { ...mode, queryScope }] });
    }
  }
  return file;
}

// What the link in a missing index's text says: `kind` is `composite` or `exemption`.
export function decodeLink(text) {
  const found = /https:\/\/console\.firebase\.google\.com\/v1\/r\/project\/(\S+?)\/firestore\/(?:databases\/\S+?\/)?indexes\?create_(composite|exemption)=([A-Za-z0-9_-]+)/.exec(text);
  if (!found) throw new Error(`no link in: ${text}`);
  return { project: found[1], kind: found[2], index: plain(Index.decode(Buffer.from(found[3], 'base64url'))) };
}

// Creates what a link offers, as the console would, and waits until it is complete.
export async function follow(admin, { kind, index }) {
  const { name, ...rest } = index;
  if (kind === 'composite') {
    const [operation] = await admin.createIndex({ parent: name.replace(/\/indexes\/_$/, ''), index: rest });
    const [created] = await operation.promise();
    return plain(created);
  }
  const [field] = await admin.getField({ name });
  const indexes = field.indexConfig.indexes.map(i => ({ queryScope: i.queryScope, fields: i.fields }));
  const [operation] = await admin.updateField({ field: { name, indexConfig: { indexes: [...indexes, rest] } }, updateMask: { paths: ['index_config'] } });
  await operation.promise();
  return rest;
}

// One run of `watchfire ARGS` to its end.
export async function run(args, input = '') {
  const child = spawn(process.env.WATCHFIRE_BIN, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stdout.on('data', bytes => { output += bytes; });
  child.stderr.on('data', bytes => { errors += bytes; });
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const code = await new Promise((resolve, reject) => (child.once('error', reject), child.once('close', resolve)));
  return { code, output, errors };
}

// `watchfire indexes COMMAND`; a `file` is given as an object and becomes one for the time of the call.
export async function indexes(server, projectId, command, { file, args = [], input } = {}) {
  const where = ['--server', server.host, '--project', projectId];
  if (!file) return run(['indexes', command, ...where, ...args], input);
  const folder = await mkdtemp(path.join(os.tmpdir(), 'watchfire-indexes-'));
  const name = path.join(folder, 'firestore.indexes.json');
  try {
    await writeFile(name, JSON.stringify(file, null, 2));
    return await run(['indexes', command, name, ...where, ...args], input);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

// The indexes that an explanation names.
export const used = ({ metrics }) => metrics.planSummary.indexesUsed.map(i => i.properties);
