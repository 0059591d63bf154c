// WebChannel by hand, as no SDK lets a test speak it: what is lost, repeated, overtaken or wrong.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { until } from './support/clients.mjs';
import { fields } from './support/raw.mjs';
import { Server } from './support/server.mjs';
import { start } from './support/suite.mjs';

const FORM = { 'content-type': 'application/x-www-form-urlencoded' };

let suite;
let rid = 1_000;

before(async () => {
  suite = await start('webchannel');
});

after(async () => {
  await suite.stop();
});

// `req0___data__=…` and so on; a text goes as it is.
function form(messages, first, headers) {
  const parts = messages.map((message, i) => `req${i}___data__=${encodeURIComponent(typeof message === 'string' ? message : JSON.stringify(message))}`);
  return [...(headers === undefined ? [] : [`headers=${encodeURIComponent(headers)}`]), `count=${messages.length}`, `ofs=${first}`, ...parts].join('&');
}

// Chunks of a length and that much JSON, as arrays of [id, message].
class Chunks {
  rest = '';
  push(text) {
    this.rest += text;
    const arrays = [];
    for (;;) {
      const end = this.rest.indexOf('\n');
      if (end < 0) return arrays;
      const length = Number(this.rest.slice(0, end));
      if (this.rest.length < end + 1 + length) return arrays;
      arrays.push(...JSON.parse(this.rest.slice(end + 1, end + 1 + length)).map(([id, messages]) => [id, messages[0]]));
      this.rest = this.rest.slice(end + 1 + length);
    }
  }
}

class Channel {
  // Messages in order, without those that say nothing; `has` is the newest array.
  messages = [];
  has = 0;
  sent = 0;
  repeated = 0;

  constructor(method, { host = suite.server.host, database = suite.database } = {}) {
    Object.assign(this, { method, host, database });
  }
  url(parameters) {
    const query = new URLSearchParams({ VER: 8, database: this.database, ...parameters, zx: 'x', t: 1 });
    return `http://${this.host}/google.firestore.v1.Firestore/${this.method}/channel?${query}`;
  }
  async open(messages, headers = 'X-Goog-Api-Client:gl-js/ fire/12.19.0\r\nContent-Type:text/plain\r\nAuthorization:Bearer owner\r\n') {
    const response = await fetch(this.url({ RID: rid++, CVER: 22, 'X-HTTP-Session-Id': 'gsessionid' }), { method: 'POST', headers: FORM, body: form(messages, 0, headers) });
    const text = await response.text();
    if (response.status !== 200) return { status: response.status, text };
    const [[id, kind]] = new Chunks().push(text);
    assert.deepEqual([id, kind], [0, 'c']);
    const [[, [, sid, host, version, , keepAlive]]] = JSON.parse(text.slice(text.indexOf('\n')));
    assert.deepEqual([host, version, keepAlive], ['', 8, 30_000]);
    this.gsessionid = response.headers.get('x-http-session-id');
    assert.ok(this.gsessionid);
    assert.equal(response.headers.get('x-client-wire-protocol'), null, 'HTTP/1.1 carries one form at a time');
    this.sid = sid;
    this.sent = messages.length;
    return { status: 200 };
  }
  get session() {
    return { SID: this.sid, gsessionid: this.gsessionid };
  }
  // [back channel present, newest array sent, bytes outstanding], or the status of a refusal.
  async post(body, parameters = {}) {
    const response = await fetch(this.url({ ...this.session, RID: rid++, AID: this.has, ...parameters }), { method: 'POST', headers: FORM, body });
    const text = await response.text();
    return response.status === 200 && text ? JSON.parse(text.slice(text.indexOf('\n'))) : { status: response.status, text };
  }
  async send(...messages) {
    const first = this.sent;
    this.sent += messages.length;
    return this.post(form(messages, first));
  }
  // Reads the answer to a request for arrays until it ends, or until `stop` says so.
  async listen({ parameters = {}, aid = this.has, stop = () => false, ms = 10_000 } = {}) {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), ms);
    const arrays = [];
    try {
      const response = await fetch(this.url({ ...this.session, RID: 'rpc', AID: aid, CI: 0, TYPE: 'xmlhttp', ...parameters }), { signal: abort.signal });
      if (response.status !== 200) return { status: response.status, text: await response.text() };
      assert.equal(response.headers.get('content-type'), 'text/plain; charset=utf-8');
      assert.equal(response.headers.get('cache-control'), 'no-cache');
      assert.equal(response.headers.get('x-accel-buffering'), 'no');
      assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
      const chunks = new Chunks();
      const decoder = new TextDecoder();
      for await (const bytes of response.body) {
        assert.ok(bytes.every(byte => byte < 128), 'what is written is ASCII');
        for (const [id, message] of chunks.push(decoder.decode(bytes))) {
          arrays.push([id, message]);
          if (id <= this.has) {
            this.repeated += 1;
            continue;
          }
          assert.equal(id, this.has + 1, 'no array is left out');
          this.has = id;
          if (message !== 'noop') this.messages.push(message);
        }
        if (stop()) return { status: 200, arrays, ended: false };
      }
      assert.equal(chunks.rest, '');
      return { status: 200, arrays, ended: true };
    } finally {
      clearTimeout(timer);
      abort.abort();
    }
  }
  close() {
    return this.post('', { TYPE: 'terminate' });
  }
}

const collection = (targetId, id, database = suite.database) => ({
  database,
  addTarget: { targetId, query: { parent: `${database}/documents`, structuredQuery: { from: [{ collectionId: id }], orderBy: [{ field: { fieldPath: '__name__' }, direction: 'ASCENDING' }] } } },
});
const write = (name, value, database = suite.database) => ({ update: { name: `${database}/documents/${name}`, fields: fields({ value }) } });
const isCurrent = channel => channel.messages.some(m => m.targetChange?.targetChangeType === 'CURRENT');
const told = channel => channel.messages.flatMap(m => (m.documentChange ? [m.documentChange.document] : [])).map(d => [d.name.split('/').at(-1), Object.values(d.fields.value)[0]]);

async function commit(channel, ...writes) {
  return channel.send({ database: channel.database, streamToken: channel.token, writes });
}

async function writer(options) {
  const channel = new Channel('Write', options);
  assert.equal((await channel.open([{ database: channel.database }])).status, 200);
  await channel.listen({ stop: () => channel.messages.length === 1 });
  assert.ok(channel.messages[0].streamId);
  channel.token = channel.messages[0].streamToken;
  return channel;
}

test('a stream begins at once, tells what is written, and is answered with what the client asks meanwhile', async () => {
  const listener = new Channel('Listen');
  await listener.open([collection(2, 'streamed')]);
  const heard = listener.listen({ stop: () => told(listener).length === 3 && listener.messages.some(m => m.targetChange?.targetChangeType === 'REMOVE') });
  await until(() => isCurrent(listener), 'the target is current');
  const writes = await writer();
  await commit(writes, write('streamed/a', 'é😀\u2028"\\\n'), write('streamed/b', 2));
  await commit(writes, write('streamed/c', 'c'));
  await writes.listen({ stop: () => writes.messages.length === 3 });
  assert.deepEqual(writes.messages.slice(1).map(m => m.writeResults.length), [2, 1]);
  await until(() => told(listener).length === 3, 'the writes are told');
  assert.deepEqual(told(listener), [['a', 'é😀\u2028"\\\n'], ['b', '2'], ['c', 'c']]);
  const [present, last] = await listener.send({ database: suite.database, removeTarget: 2 });
  assert.equal(present, 1);
  assert.ok(last >= listener.has - 1);
  assert.deepEqual((await heard).status, 200);
  await listener.close();
  await writes.close();
});

test('what the client has not said to have is sent again, and what it has is not', async () => {
  const writes = await writer();
  const acknowledged = writes.has;
  await until(async () => (await writes.post('count=0'))[0] === 0, 'the server sees that nobody listens');
  await commit(writes, write('again/a', 1));
  await writes.listen({ stop: () => writes.messages.length === 2 });
  const has = writes.has;
  // As if the connection had broken before anything came: all that the form did not acknowledge comes again, as it was.
  await writes.listen({ aid: 0, stop: () => writes.repeated >= has - acknowledged });
  assert.equal(writes.repeated, has - acknowledged);
  // A form acknowledges too.
  await commit(writes, write('again/b', 2));
  await writes.listen({ aid: has, stop: () => writes.messages.length === 3 });
  assert.equal(writes.messages.length, 3);
  assert.equal(writes.repeated, has - acknowledged);
  await writes.close();
});

test('a form that comes twice is carried out once, and forms that overtake each other in their order', async () => {
  const writes = await writer();
  const increment = { database: suite.database, streamToken: writes.token, writes: [{ transform: { document: `${suite.database}/documents/twice/n`, fieldTransforms: [{ fieldPath: 'value', increment: { integerValue: 1 } }] } }] };
  const first = form([increment], 1);
  await writes.post(first);
  await writes.post(first);
  await writes.post(form([increment, increment], 1));
  const set = value => ({ ...increment, writes: [write('twice/last', value)] });
  await writes.post(form([set('third')], 5));
  await writes.post(form([set('second')], 4));
  await writes.listen({ stop: () => writes.messages.length === 3 });
  await writes.post(form([set('first')], 3));
  await writes.listen({ stop: () => writes.messages.length === 6 });
  const there = await suite.db.doc('twice/n').get();
  assert.equal(there.get('value'), 2);
  assert.equal((await suite.db.doc('twice/last').get()).get('value'), 'third');
  await writes.close();
});

test('a long poll ends with what comes first, and after the time that the client gives', async () => {
  const listener = new Channel('Listen');
  await listener.open([collection(2, 'polled')]);
  const poll = { parameters: { CI: 1, TO: 1_000 } };
  while (!isCurrent(listener)) assert.ok((await listener.listen(poll)).ended);
  const before = Date.now();
  let silent;
  do silent = await listener.listen(poll); while (silent.arrays[0][1] !== 'noop');
  assert.ok(Date.now() - before >= 900);
  const next = listener.listen({ parameters: { CI: 1, TO: 10_000 } });
  await suite.db.doc('polled/a').set({ value: 1 });
  await next;
  while (!told(listener).length) await listener.listen(poll);
  assert.deepEqual(told(listener), [['a', '1']]);
  await listener.close();
});

test('the newest request for arrays replaces the one before', async () => {
  const listener = new Channel('Listen');
  await listener.open([collection(2, 'replaced')]);
  const old = listener.listen();
  await until(() => isCurrent(listener), 'the target is current');
  const fresh = listener.listen({ stop: () => told(listener).length === 1 });
  assert.ok((await old).ended);
  await suite.db.doc('replaced/a').set({ value: 1 });
  await fresh;
  assert.deepEqual(told(listener), [['a', '1']]);
  await listener.close();
});

test('a session that has ended or never was is unknown, in the words that clients look for', async () => {
  const listener = new Channel('Listen');
  await listener.open([collection(2, 'ended')]);
  const heard = listener.listen();
  await until(() => isCurrent(listener), 'the target is current');
  assert.equal((await listener.close()).status, 200);
  assert.ok((await heard).ended);
  for (const refused of [await listener.listen(), await listener.send(collection(4, 'ended'))]) {
    assert.equal(refused.status, 400);
    assert.ok(refused.text.indexOf('Unknown SID') > 0);
  }
  // Whoever leaves twice, or by an image.
  assert.equal((await listener.close()).status, 200);
  const image = await fetch(listener.url({ ...listener.session, RID: rid++, TYPE: 'terminate' }));
  assert.equal(image.status, 200);
});

test('what is wrong with a message ends its stream with a code, and is known until the client says so', async () => {
  const cases = [
    ['Listen', ['{bad'], 'INVALID_ARGUMENT'],
    ['Listen', [{ database: suite.database, addTarget: { targetId: 2, noSuchField: 1 } }], 'INVALID_ARGUMENT'],
    ['Listen', [{ database: suite.database, addTarget: { ...collection(2, 'a').addTarget, targetId: -1 } }], 'INVALID_ARGUMENT'],
    ['Listen', [collection(2, 'a'), { ...collection(4, 'a'), database: 'projects/other/databases/(default)' }], 'INVALID_ARGUMENT'],
    ['Write', [{ database: suite.database, writes: [write('a/b', 1)] }], 'INVALID_ARGUMENT'],
  ];
  for (const [method, messages, status] of cases) {
    const channel = new Channel(method);
    assert.equal((await channel.open(messages)).status, 200);
    const { ended } = await channel.listen();
    assert.ok(ended);
    const { error } = channel.messages.at(-1);
    assert.equal(error.status, status);
    assert.ok(error.message);
    const repeated = await channel.listen({ aid: 0 });
    assert.deepEqual(repeated.arrays.at(-1)[1].error, error);
    assert.match((await channel.listen()).text, /Unknown SID/);
  }
});

test('requests that no client would send are refused', async () => {
  const channel = new Channel('Listen');
  await channel.open([collection(2, 'refused')]);
  const path = channel.url({}).split('?')[0];
  const requests = [
    [`${path}?VER=8&RID=1`, { method: 'POST', headers: FORM, body: 'count=2&ofs=0&req0___data__=1' }, 400],
    [`${path}?VER=8&RID=1`, { method: 'POST', headers: FORM, body: 'count=1&ofs=0&req0_type=_badmap' }, 400],
    [`${path}?VER=8&RID=x`, { method: 'POST', headers: FORM, body: 'count=0' }, 400],
    [`${path}?VER=7&RID=1`, { method: 'POST', headers: FORM, body: 'count=0' }, 400],
    [`${path}?VER=8&RID=rpc&TYPE=xmlhttp`, {}, 400],
    [channel.url({ ...channel.session, RID: 1, TYPE: 'xmlhttp', AID: 0 }), {}, 400],
    [channel.url({ ...channel.session, RID: 'rpc', TYPE: 'html', AID: 0 }), {}, 400],
    [channel.url({ ...channel.session, RID: 'rpc', TYPE: 'xmlhttp', AID: 1_000 }), {}, 400],
    [channel.url({ ...channel.session, RID: 1, AID: 0, database: 'projects/other/databases/(default)' }), { method: 'POST', headers: FORM, body: 'count=0' }, 400],
    [channel.url({ ...channel.session, RID: 1, AID: 0 }).replace('Listen', 'Write'), { method: 'POST', headers: FORM, body: 'count=0' }, 400],
    [channel.url(channel.session), { method: 'DELETE' }, 405],
  ];
  for (const [url, request, status] of requests) {
    const response = await fetch(url, request);
    const text = await response.text();
    assert.equal(response.status, status, `${request.method} ${url} ${request.body}: ${text}`);
    assert.doesNotMatch(text, /Unknown SID/);
  }
  const heard = channel.listen({ stop: () => isCurrent(channel) });
  assert.equal((await heard).status, 200, 'the session is as it was');
  await channel.close();
});

test('a form of the largest writes is carried out, and one that is too large ends its stream for good', { timeout: 120_000 }, async () => {
  const writes = await writer();
  const text = 'é'.repeat(450_000);
  const batch = n => Array.from({ length: 10 }, (_, i) => write(`large/${n}-${i}`, text));
  assert.ok(form([{ writes: batch(0) }], 1).length > 26_000_000);
  await writes.send({ database: suite.database, streamToken: writes.token, writes: batch(0) }, { database: suite.database, streamToken: writes.token, writes: batch(1) });
  await writes.listen({ stop: () => writes.messages.length === 3, ms: 60_000 });
  assert.equal((await suite.db.collection('large').count().get()).data().count, 20);
  await writes.send({ database: suite.database, streamToken: writes.token, writes: Array.from({ length: 20 }, (_, i) => write(`large/x${i}`, 'x'.repeat(900_000))) });
  await writes.listen({ stop: () => writes.messages.length === 4, ms: 60_000 });
  assert.equal(writes.messages.at(-1).error.status, 'INVALID_ARGUMENT');
  assert.equal((await suite.db.collection('large').count().get()).data().count, 20);
});

test('a first result larger than what is kept for a client comes whole', { timeout: 60_000 }, async () => {
  const batch = suite.db.batch();
  for (let i = 0; i < 40; i += 1) batch.set(suite.db.doc(`whole/d${i}`), { value: 'x'.repeat(100_000) });
  await batch.commit();
  const listener = new Channel('Listen');
  await listener.open([collection(2, 'whole')]);
  let requests = 0;
  while (!isCurrent(listener)) {
    requests += 1;
    await listener.listen({ stop: () => isCurrent(listener) });
  }
  assert.equal(told(listener).length, 40);
  assert.ok(requests > 1, 'the client was asked what it has');
  await listener.close();
});

test('two databases of a page are two sessions', async () => {
  const other = `${suite.database.split('/databases/')[0]}/databases/other`;
  const channels = [suite.database, other].map(database => new Channel('Listen', { database }));
  for (const channel of channels) await channel.open([collection(2, 'two', channel.database)]);
  const heard = channels.map(channel => channel.listen({ stop: () => told(channel).length === 1 }));
  for (const channel of channels) await until(() => isCurrent(channel), 'the target is current');
  for (const [index, channel] of channels.entries()) {
    const writes = await writer({ database: channel.database });
    await commit(writes, write('two/a', `of ${index}`, channel.database));
    await writes.listen({ stop: () => writes.messages.length === 2 });
    await writes.close();
  }
  await Promise.all(heard);
  assert.deepEqual(channels.map(told), [[['a', 'of 0']], [['a', 'of 1']]]);
  for (const channel of channels) await channel.close();
});

test('when the server ends, streams are told to come again, and a session of before is unknown', async t => {
  const server = await Server.start('--memory');
  if (!server) return t.skip('a server that somebody else has started is not stopped');
  try {
    const listener = new Channel('Listen', { host: server.host });
    await listener.open([collection(2, 'ending')]);
    const heard = listener.listen();
    await until(() => isCurrent(listener), 'the target is current');
    await server.restart('--memory');
    assert.ok((await heard).ended);
    assert.equal(listener.messages.at(-1).error.status, 'UNAVAILABLE');
    assert.match((await listener.listen()).text, /Unknown SID/);
  } finally {
    await server.stop();
  }
});
