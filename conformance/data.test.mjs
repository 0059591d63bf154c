// Real data through BulkWriter, and the same questions answered in plain JavaScript.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { AggregateField } from '@google-cloud/firestore';
import { ids, isNumber, load, of, ordered, questions, store } from './support/data.mjs';
import { node, uniqueProject, web, webClient } from './support/clients.mjs';
import { Server } from './support/server.mjs';

let server;
let db;
let client;
let data;
let airports;
let movies;

before(async () => {
  data = await load();
  ({ airports, movies } = data);
  server = await Server.start();
  const projectId = uniqueProject('data');
  db = node(server.host, projectId);
  client = webClient(server.host, projectId);
  await store(db, data);
}, { timeout: 240_000 });

after(async () => {
  await client?.close();
  await db?.terminate();
  await server?.stop();
});

const A = () => db.collection('airports');
const M = () => db.collection('movies');

test('every question has its answer', async t => {
  for (const [name, query, expected] of questions(db, data)) {
    await t.test(name, async () => assert.deepEqual(ids(await query().get()), of(expected())));
  }
});

test('a cursor from a document walks the whole collection, page by page', async () => {
  const seen = [];
  let last;
  for (;;) {
    let query = A().orderBy('state').limit(500);
    if (last) query = query.startAfter(last);
    const page = await query.get();
    if (page.empty) break;
    seen.push(...ids(page));
    last = page.docs.at(-1);
  }
  assert.deepEqual(seen, of(ordered(airports, 'state')));
});

test('documents come back as they were written, and a projection shows only its fields', async () => {
  const all = await M().get();
  assert.deepEqual(all.docs.map(d => d.data()), ordered(movies).map(m => m.data));
  const some = await A().where('state', '==', 'HI').select('city', 'latitude').get();
  assert.deepEqual(some.docs.map(d => d.data()), ordered(airports.filter(a => a.data.state === 'HI')).map(a => ({ city: a.data.city, latitude: a.data.latitude })));
  const names = await A().where('state', '==', 'HI').select().get();
  assert.ok(names.docs.every(d => Object.keys(d.data()).length === 0));
});

test('aggregations: count, sum, average', async () => {
  const query = M().where('MPAA_Rating', '==', 'PG');
  const result = (await query.aggregate({ n: AggregateField.count(), gross: AggregateField.sum('US_Gross'), mean: AggregateField.average('US_Gross') }).get()).data();
  const rows = movies.filter(m => m.data.MPAA_Rating === 'PG');
  const gross = rows.map(m => m.data.US_Gross).filter(isNumber);
  const sum = gross.reduce((a, b) => a + b, 0);
  assert.equal(result.n, rows.length);
  assert.equal(result.gross, sum);
  assert.ok(Math.abs(result.mean - sum / gross.length) < 1e-6 * result.mean);
  assert.equal((await A().count().get()).data().count, airports.length);
  assert.equal((await A().where('state', '==', 'TX').limit(10).count().get()).data().count, 10);
  const none = (await A().where('state', '==', 'nowhere').aggregate({ s: AggregateField.sum('latitude'), m: AggregateField.average('latitude') }).get()).data();
  assert.deepEqual(none, { s: 0, m: null });
  const fromWeb = await web.getCountFromServer(web.query(web.collection(client.db, 'airports'), web.where('state', '==', 'AK')));
  assert.equal(fromWeb.data().count, airports.filter(a => a.data.state === 'AK').length);
});

test('the web SDK gets the same answers', async () => {
  const { db: w } = client;
  const some = [
    [web.query(web.collection(w, 'airports'), web.where('state', 'in', ['HI', 'AK'])), ordered(airports.filter(a => ['HI', 'AK'].includes(a.data.state)))],
    [web.query(web.collection(w, 'airports'), web.orderBy('latitude'), web.limitToLast(7)), ordered(airports, 'latitude').slice(-7)],
    [web.query(web.collectionGroup(w, 'fields'), web.where('city', '==', 'Honolulu')), ordered(airports.filter(a => a.data.state === 'HI' && a.data.city === 'Honolulu'))],
    [web.query(web.collection(w, 'movies'), web.or(web.where('IMDB_Rating', '>', 9), web.where('words', 'array-contains', 'moon'))), ordered(movies.filter(m => m.data.IMDB_Rating > 9 || isNumber(m.data.IMDB_Rating) && m.data.words.includes('moon') || m.data.IMDB_Rating === null && m.data.words.includes('moon')), 'IMDB_Rating')],
  ];
  for (const [query, expected] of some) assert.deepEqual(ids(await web.getDocs(query)), of(expected));
});

test('listings, and deleting a tree', async () => {
  assert.deepEqual((await db.listCollections()).map(c => c.id), ['airports', 'movies', 'states']);
  assert.deepEqual((await db.doc('states/TX').listCollections()).map(c => c.id), ['fields']);
  // The states have no documents of their own: they are shown as missing.
  assert.deepEqual((await db.collection('states').listDocuments()).map(d => d.id), ['AK', 'CA', 'HI', 'NY', 'TX']);
  await db.recursiveDelete(db.doc('states/TX'));
  assert.equal((await db.collection('states/TX/fields').get()).size, 0);
  assert.deepEqual((await db.collection('states').listDocuments()).map(d => d.id), ['AK', 'CA', 'HI', 'NY']);
  assert.equal((await A().where('state', '==', 'TX').count().get()).data().count, airports.filter(a => a.data.state === 'TX').length);
  await db.recursiveDelete(db.collection('states'));
  assert.equal((await db.collectionGroup('fields').count().get()).data().count, 0);
});
