// What most suites need: a server of their own (or the one that is named), a project that nobody else uses, and two
// clients, the published one and one for raw messages.

import { node, uniqueProject } from './clients.mjs';
import { Raw } from './raw.mjs';
import { Server } from './server.mjs';

export async function start(name) {
  const server = await Server.start();
  const projectId = uniqueProject(name);
  const database = `projects/${projectId}/databases/(default)`;
  const db = node(server.host, projectId);
  const raw = new Raw(server.host);
  return {
    server,
    projectId,
    database,
    root: `${database}/documents`,
    db,
    raw,
    async stop() {
      raw.close();
      await db.terminate();
      await server.stop();
    },
  };
}
