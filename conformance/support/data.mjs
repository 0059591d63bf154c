// The data that the suites ask about (`vega-datasets`), the questions, and their answers in plain JavaScript.

import { readFile } from 'node:fs/promises';
import path from 'node:path';
import * as firestore from '@google-cloud/firestore';

const folder = path.join(import.meta.dirname, '..', 'node_modules', 'vega-datasets', 'data');

// Enough CSV for this file: commas, and quotes around fields that hold commas.
function csv(text) {
  const rows = text.trim().split('\n').map(line => {
    const cells = [];
    let cell = '';
    let quoted = false;
    for (const c of line.replace(/\r$/, '')) {
      if (c === '"') quoted = !quoted;
      else if (c === ',' && !quoted) (cells.push(cell), (cell = ''));
      else cell += c;
    }
    return [...cells, cell];
  });
  const head = rows.shift();
  return rows.map(row => Object.fromEntries(head.map((name, i) => [name, row[i]])));
}

const rank = v => (v === null ? 0 : typeof v === 'boolean' ? 1 : typeof v === 'number' ? 2 : 3);
export function compare(a, b) {
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  if (typeof a === 'string') return Buffer.compare(Buffer.from(a), Buffer.from(b));
  return a < b ? -1 : a > b ? 1 : 0;
}

// Documents in the order of the given fields (a minus sign turns one round), then of their names.
export function ordered(documents, ...fields) {
  const last = fields.at(-1)?.startsWith('-') ? -1 : 1;
  return documents
    .filter(d => fields.every(f => d.data[f.replace(/^-/, '')] !== undefined))
    .sort((x, y) => {
      for (const f of fields) {
        const sign = f.startsWith('-') ? -1 : 1;
        const name = f.replace(/^-/, '');
        const order = compare(x.data[name], y.data[name]) * sign;
        if (order !== 0) return order;
      }
      return compare(x.id, y.id) * last;
    });
}

// Some documents lack a field, as real data does.
export async function load() {
  const airports = csv(await readFile(path.join(folder, 'airports.csv'), 'utf8')).map(row => ({
    id: row.iata,
    data: { ...row, latitude: Number(row.latitude), longitude: Number(row.longitude) },
  }));
  const movies = JSON.parse(await readFile(path.join(folder, 'movies.json'), 'utf8')).map((row, i) => {
    const data = {};
    for (const [name, value] of Object.entries(row)) data[name.replaceAll(' ', '_')] = value;
    data.words = [...new Set(String(row.Title).toLowerCase().split(/\W+/).filter(Boolean))];
    if (data.Source === null) delete data.Source;
    return { id: `m${String(i).padStart(5, '0')}`, data };
  });
  return { airports, movies };
}

// The airports of five states go in once more below their state, for collection groups.
export async function store(db, { airports, movies }) {
  const writer = db.bulkWriter({ throttling: false });
  writer.onWriteError(error => { throw error; });
  for (const { id, data } of airports) writer.create(db.doc(`airports/${id}`), data);
  for (const { id, data } of movies) writer.create(db.doc(`movies/${id}`), data);
  for (const { id, data } of airports.filter(a => ['TX', 'CA', 'AK', 'NY', 'HI'].includes(a.data.state))) {
    writer.create(db.doc(`states/${data.state}/fields/${id}`), data);
  }
  await writer.close();
}

export const ids = snapshot => snapshot.docs.map(d => d.id);
export const of = documents => documents.map(d => d.id);
const isString = v => typeof v === 'string';
export const isNumber = v => typeof v === 'number';

// Name, query, expected documents in order, and the index that it cannot do without, if there is one: how it shows in
// explanations, and in which scope.
export function questions(db, { airports, movies }, { FieldPath, Filter } = firestore) {
  const A = () => db.collection('airports');
  const M = () => db.collection('movies');
  return [
    ['everything by name', () => A(), () => ordered(airports)],
    ['== string', () => A().where('state', '==', 'TX'), () => ordered(airports.filter(a => a.data.state === 'TX'))],
    ['== number', () => M().where('IMDB_Rating', '==', 7), () => ordered(movies.filter(m => m.data.IMDB_Rating === 7))],
    ['== null', () => M().where('Director', '==', null), () => ordered(movies.filter(m => m.data.Director === null))],
    ['two equalities', () => A().where('state', '==', 'CA').where('city', '==', 'Los Angeles'), () => ordered(airports.filter(a => a.data.state === 'CA' && a.data.city === 'Los Angeles'))],
    ['!=', () => A().where('country', '!=', 'USA'), () => ordered(airports.filter(a => a.data.country !== 'USA'), 'country')],
    ['!= null', () => M().where('MPAA_Rating', '!=', null), () => ordered(movies.filter(m => m.data.MPAA_Rating !== null), 'MPAA_Rating')],
    ['<', () => A().where('latitude', '<', 20), () => ordered(airports.filter(a => a.data.latitude < 20), 'latitude')],
    ['<=', () => M().where('IMDB_Rating', '<=', 2.5), () => ordered(movies.filter(m => isNumber(m.data.IMDB_Rating) && m.data.IMDB_Rating <= 2.5), 'IMDB_Rating')],
    ['>', () => A().where('latitude', '>', 65), () => ordered(airports.filter(a => a.data.latitude > 65), 'latitude')],
    ['>= descending', () => M().where('IMDB_Rating', '>=', 8.5).orderBy('IMDB_Rating', 'desc'), () => ordered(movies.filter(m => m.data.IMDB_Rating >= 8.5), '-IMDB_Rating')],
    ['a range of strings', () => A().where('city', '>=', 'San').where('city', '<', 'Sao'), () => ordered(airports.filter(a => a.data.city >= 'San' && a.data.city < 'Sao'), 'city')],
    ['ranges on two fields', () => A().where('latitude', '>', 40).where('latitude', '<', 41).where('longitude', '<', -100), () => ordered(airports.filter(a => a.data.latitude > 40 && a.data.latitude < 41 && a.data.longitude < -100), 'latitude', 'longitude'), 'airports (latitude ASC, longitude ASC, __name__ ASC)'],
    ['ranges on two fields, ordered by the second', () => M().where('IMDB_Rating', '>', 8).where('IMDB_Votes', '<', 5000).orderBy('IMDB_Votes', 'desc'), () => ordered(movies.filter(m => m.data.IMDB_Rating > 8 && isNumber(m.data.IMDB_Votes) && m.data.IMDB_Votes < 5000), '-IMDB_Votes', '-IMDB_Rating'), 'movies (IMDB_Votes DESC, IMDB_Rating DESC, __name__ DESC)'],
    ['in', () => A().where('state', 'in', ['HI', 'AK', 'PR', 'none']), () => ordered(airports.filter(a => ['HI', 'AK', 'PR'].includes(a.data.state)))],
    ['not-in', () => M().where('MPAA_Rating', 'not-in', ['R', 'PG-13', 'PG', 'Not Rated']), () => ordered(movies.filter(m => isString(m.data.MPAA_Rating) && !['R', 'PG-13', 'PG', 'Not Rated'].includes(m.data.MPAA_Rating)), 'MPAA_Rating')],
    ['array-contains', () => M().where('words', 'array-contains', 'star'), () => ordered(movies.filter(m => m.data.words.includes('star')))],
    ['array-contains-any', () => M().where('words', 'array-contains-any', ['star', 'moon', 'sun']), () => ordered(movies.filter(m => ['star', 'moon', 'sun'].some(w => m.data.words.includes(w))))],
    ['array-contains and equality', () => M().where('words', 'array-contains', 'love').where('MPAA_Rating', '==', 'R'), () => ordered(movies.filter(m => m.data.words.includes('love') && m.data.MPAA_Rating === 'R'))],
    ['or', () => A().where(Filter.or(Filter.where('state', '==', 'HI'), Filter.where('latitude', '>', 70))), () => ordered(airports.filter(a => a.data.state === 'HI' || a.data.latitude > 70), 'latitude'), 'airports (state ASC, latitude ASC, __name__ ASC)'],
    ['and of ors', () => M().where(Filter.and(Filter.or(Filter.where('MPAA_Rating', '==', 'G'), Filter.where('MPAA_Rating', '==', 'PG')), Filter.or(Filter.where('Major_Genre', '==', 'Comedy'), Filter.where('Major_Genre', '==', 'Musical')))), () => ordered(movies.filter(m => ['G', 'PG'].includes(m.data.MPAA_Rating) && ['Comedy', 'Musical'].includes(m.data.Major_Genre)))],
    ['order by a field of mixed types', () => M().orderBy('Title').limit(30), () => ordered(movies, 'Title').slice(0, 30)],
    ['order by two fields, one turned', () => A().where('state', '==', 'TX').orderBy('city').orderBy('latitude', 'desc').limit(100), () => ordered(airports.filter(a => a.data.state === 'TX'), 'city', '-latitude').slice(0, 100), 'airports (state ASC, city ASC, latitude DESC, __name__ DESC)'],
    ['a field that some lack', () => M().orderBy('Source').limit(50), () => ordered(movies, 'Source').slice(0, 50)],
    ['limit and offset', () => A().orderBy('latitude').offset(100).limit(25), () => ordered(airports, 'latitude').slice(100, 125)],
    ['limitToLast', () => A().orderBy('latitude').limitToLast(15), () => ordered(airports, 'latitude').slice(-15)],
    ['startAt value', () => A().orderBy('latitude').startAt(48.5).limit(40), () => ordered(airports, 'latitude').filter(a => a.data.latitude >= 48.5).slice(0, 40)],
    ['startAfter and endBefore', () => A().orderBy('city').startAfter('Boston').endBefore('Chicago'), () => ordered(airports, 'city').filter(a => compare(a.data.city, 'Boston') > 0 && compare(a.data.city, 'Chicago') < 0)],
    ['endAt two values', () => A().orderBy('state').orderBy('city').endAt('AK', 'Kenai'), () => ordered(airports, 'state', 'city').filter(a => compare(a.data.state, 'AK') < 0 || a.data.state === 'AK' && compare(a.data.city, 'Kenai') <= 0), 'airports (state ASC, city ASC, __name__ ASC)'],
    ['by document id', () => A().where(FieldPath.documentId(), '>=', 'SF').where(FieldPath.documentId(), '<', 'SG'), () => ordered(airports.filter(a => a.id >= 'SF' && a.id < 'SG'))],
    ['document ids in a list', () => A().where(FieldPath.documentId(), 'in', ['SFO', 'LAX', 'nowhere', 'JFK']), () => ordered(airports.filter(a => ['SFO', 'LAX', 'JFK'].includes(a.id)))],
    ['collection group', () => db.collectionGroup('fields').where('latitude', '>', 60), () => ordered(airports.filter(a => a.data.state === 'AK' && a.data.latitude > 60), 'latitude'), 'fields (latitude ASC, __name__ ASC)', 'COLLECTION_GROUP'],
    ['a subcollection', () => db.collection('states/NY/fields').orderBy('city', 'desc').limit(10), () => ordered(airports.filter(a => a.data.state === 'NY'), '-city').slice(0, 10)],
    ['limit 0 rows match', () => A().where('state', '==', 'nowhere'), () => []],
  ];
}
