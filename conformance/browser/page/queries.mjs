// Asks a question that was written down as the calls that make it (`support/questions.mjs`), of either SDK.

import * as fs from 'firebase/firestore';
import * as lite from 'firebase/firestore/lite';

function operand(api, value) {
  if (value?.call === 'documentId') return api.documentId();
  return value?.call ? constraint(api, value) : value;
}

function constraint(api, { call, args }) {
  return api[call](...args.map(value => operand(api, value)));
}

export function built(api, db, [source, ...calls]) {
  const start = api[source.call](db, ...source.args);
  return api.query(start, ...calls.map(call => constraint(api, call)));
}

export async function ask(db, calls, { light = false } = {}) {
  const api = light ? lite : fs;
  const snapshot = await api.getDocs(built(api, db, calls));
  if (!light && snapshot.metadata.fromCache) throw new Error('the answer is from the cache');
  return snapshot.docs.map(d => d.id);
}
