// A certificate for loopback that nobody has signed, made by openssl for one run.

import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

export async function certificate() {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'watchfire-tls-'));
  const [cert, key] = ['cert.pem', 'key.pem'].map(name => path.join(folder, name));
  await promisify(execFile)('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', key, '-out', cert,
  ]);
  return { cert, key, remove: () => rm(folder, { recursive: true, force: true }) };
}
