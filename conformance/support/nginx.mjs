// Debian's nginx before a server, on loopback, with a configuration of its own in a folder of its own.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

import { answers, freePort } from './server.mjs';

const START_MS_MAX = 10_000;
// Debian keeps it where only administrators look.
const PATH = `${process.env.PATH}:/usr/sbin:/usr/local/sbin`;
const BINARY = process.env.NGINX_BIN ?? 'nginx';

// What root starts works as another user, who may not enter the folder, in which larger bodies and answers wait.
const USER = process.getuid?.() === 0 ? 'user root;' : '';

const configuration = (folder, port, upstream, settings) => `
${USER}
daemon off;
pid ${folder}/pid;
error_log ${folder}/error.log;
worker_processes 1;
events { worker_connections 1024; }
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${folder}/${name};`).join('\n  ')}
  client_max_body_size 64m;
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://127.0.0.1:${upstream};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      ${settings.join('\n      ')}
    }
  }
}
`;

export class Nginx {
  // Settings are lines of its `location`.
  static async start(upstream, ...settings) {
    const nginx = new Nginx();
    nginx.folder = await mkdtemp(path.join(os.tmpdir(), 'watchfire-nginx-'));
    const port = await freePort();
    nginx.host = `127.0.0.1:${port}`;
    const file = path.join(nginx.folder, 'nginx.conf');
    await writeFile(file, configuration(nginx.folder, port, upstream, settings));
    // -e: where it complains before it has read its configuration.
    nginx.child = spawn(BINARY, ['-c', file, '-p', nginx.folder, '-e', path.join(nginx.folder, 'error.log')], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, PATH },
    });
    let complaint = '';
    nginx.child.stderr.on('data', bytes => { complaint += bytes; });
    nginx.child.on('error', error => { complaint += error.message; });
    const deadline = Date.now() + START_MS_MAX;
    while (!(await answers(port))) {
      if (nginx.child.exitCode !== null || Date.now() > deadline) throw new Error(`nginx did not start: ${complaint}`);
      await new Promise(resolve => setTimeout(resolve, 10));
    }
    return nginx;
  }

  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const exit = once(this.child, 'exit');
      this.child.kill('SIGTERM');
      await exit;
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}
