// A TCP proxy in front of a server, which counts what comes from it and can cut all of its connections at once.

import { once } from 'node:events';
import net from 'node:net';

export class Proxy {
  #pairs = new Set();
  // Bytes from the server, and how often a marker was in them.
  bytes = 0;
  marks = 0;

  static async start(port, marker) {
    const proxy = new Proxy();
    proxy.server = net.createServer(client => proxy.#join(client, net.connect(port, '127.0.0.1'), Buffer.from(marker)));
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.host = `127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  #join(client, server, marker) {
    const pair = [client, server];
    this.#pairs.add(pair);
    let tail = Buffer.alloc(0);
    server.on('data', chunk => {
      this.bytes += chunk.length;
      // A marker may be cut by the edge of a chunk.
      const text = Buffer.concat([tail, chunk]);
      for (let at = text.indexOf(marker); at !== -1; at = text.indexOf(marker, at + marker.length)) this.marks += 1;
      tail = text.subarray(Math.max(0, text.length - marker.length + 1));
    });
    client.pipe(server).pipe(client);
    for (const socket of pair) {
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#pairs.delete(pair);
        pair.forEach(s => s.destroy());
      });
    }
  }

  // How many connections were cut.
  cut() {
    const count = this.#pairs.size;
    for (const pair of this.#pairs) pair.forEach(socket => socket.destroy());
    return count;
  }

  async close() {
    this.server.close();
    this.cut();
    await once(this.server, 'close');
  }
}
