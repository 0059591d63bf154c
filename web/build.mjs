// Builds the page into dist/, from where the server embeds it, so that a checkout builds without npm; with `--check`,
// says whether dist/ is what the sources give, and changes nothing.
//
// Each file lies there as it is, and compressed by gzip and by brotli, so that the server compresses nothing. Another
// version of Node may compress to other bytes: it is what they say that is compared.

import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { brotliCompressSync, brotliDecompressSync, constants, gunzipSync, gzipSync } from 'node:zlib';
import { build } from 'vite';

const here = import.meta.dirname;
const dist = path.join(here, 'dist');
const LICENCES = 'LICENSES.txt';
/** The list of files for the server, which it embeds by their names. */
const list = path.join(here, '..', 'crates', 'server', 'src', 'front', 'demo', 'built.rs');
/** Bytes that the whole page may take on its way, compressed by gzip. */
const TRANSFER_BYTES_MAX = 250 * 1024;
/** Licences that what is bundled may carry. */
const LICENCES_ALLOWED = ['Apache-2.0', 'MIT', 'ISC', '0BSD', 'BSD-3-Clause'];

const SHRUNK = {
  '.gz': { shrink: bytes => gzipSync(bytes, { level: 9 }), grow: gunzipSync },
  '.br': {
    shrink: bytes => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
    grow: brotliDecompressSync,
  },
};

function mustHaveTypes() {
  const compiler = path.join(here, 'node_modules', 'typescript', 'bin', 'tsc');
  const { status } = spawnSync(process.execPath, [compiler, '-p', here], { stdio: 'inherit' });
  if (status !== 0) throw new Error('tsc found mistakes in web/src');
}

/** The packages that these modules came from, by name. */
function packagesOf(modules) {
  const found = new Map();
  for (const module of modules) {
    const match = /^(?<folder>.*\/node_modules\/(?<name>(?:@[^/]+\/)?[^/]+))\//.exec(module.replaceAll('\\', '/'));
    if (match) found.set(match.groups.name, match.groups.folder);
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1));
}

async function licences(modules) {
  const sections = [
    'The page /demo contains the packages below, as they were published, by the licences that they name.\n' +
      'The page itself is a part of Watchfire: MIT or Apache-2.0, as you choose.\n',
  ];
  for (const [name, folder] of packagesOf(modules)) {
    const { version, license, author } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8'));
    if (!LICENCES_ALLOWED.includes(license)) throw new Error(`${name} has the licence ${license}, which is not on the list`);
    const by = typeof author === 'string' ? author : author?.name;
    const file = (await readdir(folder)).find(file => /^licen[cs]e/i.test(file));
    const text = file ? `\n${(await readFile(path.join(folder, file), 'utf8')).trim()}\n` : '';
    if (!text && license !== 'Apache-2.0') throw new Error(`${name} comes without the text of its licence`);
    sections.push(`${name} ${version}\n${license}${by ? `, by ${by}` : ''}\n${text}`);
  }
  sections.push(await readFile(path.join(here, '..', 'LICENSE-APACHE'), 'utf8'));
  return Buffer.from(sections.join(`\n${'-'.repeat(80)}\n\n`));
}

/** What the sources give: the bytes of each file of the page, by its path. */
async function built() {
  mustHaveTypes();
  const folder = await mkdtemp(path.join(os.tmpdir(), 'watchfire-web-'));
  try {
    const { output } = await build({
      root: here,
      configFile: path.join(here, 'vite.config.mjs'),
      logLevel: 'warn',
      build: { outDir: folder, emptyOutDir: true },
    });
    const files = new Map();
    const modules = new Set();
    for (const file of output) {
      files.set(file.fileName, Buffer.from(file.type === 'chunk' ? file.code : file.source));
      if (file.type === 'chunk') for (const module of file.moduleIds) modules.add(module);
    }
    files.set(LICENCES, await licences(modules));
    return files;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function kept() {
  const entries = await readdir(dist, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = new Map();
  for (const entry of entries.filter(entry => entry.isFile())) {
    const file = path.join(entry.parentPath, entry.name);
    files.set(path.relative(dist, file).replaceAll('\\', '/'), await readFile(file));
  }
  return files;
}

function differences(wanted, found) {
  const complaints = [];
  const expected = new Set();
  for (const [name, bytes] of wanted) {
    expected.add(name);
    if (!found.get(name)?.equals(bytes)) complaints.push(`${name} is not what the sources give`);
    for (const [ending, { grow }] of Object.entries(SHRUNK)) {
      expected.add(name + ending);
      const shrunk = found.get(name + ending);
      if (!shrunk || !grow(shrunk).equals(bytes)) complaints.push(`${name}${ending} does not say the same as the sources`);
    }
  }
  for (const name of found.keys()) if (!expected.has(name)) complaints.push(`${name} should not be there`);
  return complaints;
}

function listed(wanted) {
  const names = [...wanted.keys()].sort();
  return `//! The files of the page \`/demo\`, from \`web/dist\`. Written by \`cargo xtask web\`.

use super::File;

macro_rules! file {
    ($name:literal) => {
        File {
            name: $name,
            plain: file!($name, ""),
            gzip: file!($name, ".gz"),
            brotli: file!($name, ".br"),
        }
    };
    ($name:literal, $ending:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../web/dist/",
            $name,
            $ending
        ))
    };
}

pub const FILES: &[File] = &[
${names.map(name => `    file!("${name}"),\n`).join('')}];
`;
}

async function write(wanted) {
  await rm(dist, { recursive: true, force: true });
  for (const [name, bytes] of wanted) {
    const file = path.join(dist, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, bytes);
    for (const [ending, { shrink }] of Object.entries(SHRUNK)) await writeFile(file + ending, shrink(bytes));
  }
  await writeFile(list, listed(wanted));
}

const wanted = await built();
const found = await kept();
const complaints = differences(wanted, found);
if ((await readFile(list, 'utf8').catch(() => '')) !== listed(wanted)) {
  complaints.push(`${path.relative(here, list)} does not list what the sources give`);
}
if (process.argv.includes('--check')) {
  if (complaints.length) {
    console.error(`web/dist is not what web/ gives; run \`cargo xtask web\`:\n${complaints.join('\n')}`);
    process.exit(1);
  }
} else if (complaints.length) {
  await write(wanted);
}
const transferred = [...wanted]
  .filter(([name]) => name !== LICENCES)
  .reduce((sum, [, bytes]) => sum + gzipSync(bytes, { level: 9 }).length, 0);
console.log(`web/dist: ${wanted.size} files, ${(transferred / 1024).toFixed(1)} KiB by gzip`);
if (transferred > TRANSFER_BYTES_MAX) throw new Error(`the page takes ${transferred} bytes, at most ${TRANSFER_BYTES_MAX} are meant`);
