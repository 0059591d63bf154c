// Starts the built server on a free loopback port, and stops it by its process id.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

// The published clients ask the network whether they run in Google's cloud, for seconds after some errors; they do not.
process.env.METADATA_SERVER_DETECTION ??= 'none';

const START_MS_MAX = 20_000;

export async function freePort() {
  const server = net.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

export async function answers(port) {
  return new Promise(resolve => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => (socket.destroy(), resolve(true)));
    socket.once('error', () => resolve(false));
  });
}

export class Server {
  constructor(port, data, args = []) {
    this.port = port;
    this.data = data;
    // More arguments of `watchfire serve`; may change before the next launch.
    this.args = args;
    this.host = `127.0.0.1:${port}`;
    this.output = '';
  }

  // A server of its own for a suite, or the one that WATCHFIRE_TARGET_HOST names.
  static async start(...args) {
    const given = process.env.WATCHFIRE_TARGET_HOST;
    if (given) {
      // A server that somebody else has started has its own settings.
      if (args.length) return null;
      const server = new Server(Number(given.split(':')[1]), null);
      server.host = given;
      return server;
    }
    const data = await mkdtemp(path.join(os.tmpdir(), 'watchfire-conformance-'));
    const server = new Server(await freePort(), data, args);
    await server.launch();
    return server;
  }

  async launch() {
    const binary = process.env.WATCHFIRE_BIN;
    if (!binary) throw new Error('WATCHFIRE_BIN must name the built server; run `cargo xtask conformance`');
    const child = spawn(binary, ['serve', '--listen', this.host, '--data', this.data, ...this.args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, RUST_LOG: process.env.RUST_LOG ?? 'warn' },
    });
    this.child = child;
    this.exit = new Promise(resolve => child.once('exit', (code, signal) => resolve({ code, signal })));
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', bytes => {
        this.output = (this.output + bytes).slice(-200_000);
      });
    }
    const deadline = Date.now() + START_MS_MAX;
    while (!(await answers(this.port))) {
      if (child.exitCode !== null || Date.now() > deadline) {
        throw new Error(`the server did not start:\n${this.output}`);
      }
      await new Promise(resolve => setTimeout(resolve, 10));
    }
  }

  async kill() {
    this.child.kill('SIGKILL');
    await this.exit;
  }

  // Stops in good order and starts again on the same data and port, with other arguments.
  async restart(...args) {
    await this.end();
    this.args = args;
    await this.launch();
  }

  async end() {
    this.child.kill('SIGTERM');
    const { code, signal } = await this.exit;
    if (code !== 0) throw new Error(`the server ended with ${code ?? signal}, expected 0:\n${this.output}`);
  }

  async stop() {
    if (!this.child) return;
    try {
      await this.end();
    } finally {
      await rm(this.data, { recursive: true, force: true });
    }
  }
}
