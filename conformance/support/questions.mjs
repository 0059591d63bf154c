// The questions of `data.mjs` written down as plain calls, for the web SDK in a page.

import { questions } from './data.mjs';

// Neither is offered by the web SDK.
const SERVER_ONLY = new Set(['offset', 'select']);

const call = name => (...args) => ({ call: name, args });

class Recorder {
  constructor(calls) {
    this.calls = calls;
  }
}
for (const name of ['where', 'orderBy', 'limit', 'limitToLast', 'offset', 'select', 'startAt', 'startAfter', 'endAt', 'endBefore']) {
  Recorder.prototype[name] = function (...args) {
    // A filter of several stands for itself.
    const one = name === 'where' && args[0].call && args.length === 1 ? args[0] : { call: name, args };
    return new Recorder([...this.calls, one]);
  };
}

const db = {
  collection: path => new Recorder([{ call: 'collection', args: [path] }]),
  collectionGroup: id => new Recorder([{ call: 'collectionGroup', args: [id] }]),
};
const api = {
  Filter: { where: call('where'), or: call('or'), and: call('and') },
  FieldPath: { documentId: call('documentId') },
};

// Name, calls, expected ids in order.
export function webQuestions(data) {
  return questions(db, data, api)
    .map(([name, query, expected]) => ({ name, calls: query().calls, expected: expected().map(d => d.id) }))
    .filter(({ calls }) => !calls.some(({ call }) => SERVER_ONLY.has(call)));
}
