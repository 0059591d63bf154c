// A reporter of `node --test` that says nothing, and keeps what became of each test: one file for each suite in the folder
// that WATCHFIRE_RESULTS names, of which `compatibility.mjs` makes a table.

import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';

const suites = path.join(import.meta.dirname, '..');

export default async function* results(source) {
  const folder = process.env.WATCHFIRE_RESULTS;
  const found = {};
  const names = [];
  for await (const { type, data } of source) {
    if (type === 'test:start') names[data.nesting] = data.name;
    if (type !== 'test:pass' && type !== 'test:fail' || !data.file) continue;
    const suite = path.relative(suites, data.file);
    const name = [...names.slice(0, data.nesting), data.name].join(' > ');
    (found[suite] ??= {})[name] = data.skip !== undefined ? 'skipped' : type === 'test:pass' ? 'passed' : 'failed';
  }
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  for (const [suite, tests] of Object.entries(found)) {
    await writeFile(path.join(folder, `${suite.replaceAll('/', '-')}.json`), `${JSON.stringify({ suite, tests }, null, 2)}\n`);
  }
  yield '';
}
