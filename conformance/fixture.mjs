// By hand: has the official emulator export the documents of `support/values.mjs` into `fixtures/`.
//
//   FIRESTORE_EMULATOR_HOST=127.0.0.1:8080 node fixture.mjs

import { rm, mkdir } from 'node:fs/promises';
import path from 'node:path';

import { node } from './support/clients.mjs';
import { documents } from './support/values.mjs';

const host = process.env.FIRESTORE_EMULATOR_HOST;
const projectId = 'fixture';
const db = node(host, projectId, { useBigInt: true });
for (const [name, fields] of Object.entries(documents(db))) await db.doc(name).set(fields);
await db.terminate();

const folder = path.resolve(import.meta.dirname, 'fixtures');
await rm(path.join(folder, 'emulator'), { recursive: true, force: true });
await mkdir(folder, { recursive: true });
const answer = await fetch(`http://${host}/emulator/v1/projects/${projectId}:export`, {
  method: 'POST',
  headers: { 'content-type': 'application/json', authorization: 'Bearer owner' },
  body: JSON.stringify({
    database: `projects/${projectId}/databases/(default)`,
    export_directory: folder,
    export_name: 'emulator',
  }),
});
if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
