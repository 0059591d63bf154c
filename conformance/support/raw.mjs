// Raw gRPC calls with the message definitions that ship inside the published Node SDK.

import { createRequire } from 'node:module';
import path from 'node:path';
import grpc from '@grpc/grpc-js';
import protobuf from 'protobufjs';

const require = createRequire(import.meta.url);
const json = path.join(path.dirname(require.resolve('@google-cloud/firestore/package.json')), 'build', 'protos', 'v1.json');
const root = protobuf.Root.fromJSON(require(json));
// The published Node SDK does not know this field yet; others send it.
root.lookupType('google.firestore.v1.TransactionOptions.ReadWrite')
  .add(new protobuf.Enum('ConcurrencyMode', { CONCURRENCY_MODE_UNSPECIFIED: 0, OPTIMISTIC: 1, PESSIMISTIC: 2 }))
  .add(new protobuf.Field('concurrencyMode', 2, 'ConcurrencyMode'));
const SERVICE = 'google.firestore.v1.Firestore';
const service = root.lookupService(SERVICE);
const OPTIONS = { longs: String, enums: String, bytes: String, defaults: false, oneofs: false };

export const CODES = Object.fromEntries(Object.entries(grpc.status).filter(([, v]) => typeof v === 'number').map(([k, v]) => [v, k]));

export class Raw {
  constructor(host) {
    this.metadata = new grpc.Metadata();
    this.metadata.set('authorization', 'Bearer owner');
    this.client = new grpc.Client(host, grpc.credentials.createInsecure(), { 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 });
  }
  close() {
    this.client.close();
  }
  #parts(method) {
    const m = service.methods[method];
    const input = root.lookupType(`google.firestore.v1.${m.requestType.split('.').pop()}`);
    const output = root.lookupType(m.responseType.includes('Empty') ? 'google.protobuf.Empty' : `google.firestore.v1.${m.responseType.split('.').pop()}`);
    return {
      path: `/${SERVICE}/${method}`,
      encode: value => Buffer.isBuffer(value) ? value : Buffer.from(input.encode(input.fromObject(value)).finish()),
      decode: bytes => output.toObject(output.decode(bytes), OPTIONS),
      server: m.responseStream,
      client: m.requestStream,
    };
  }
  // One answer, or (for a streaming method) all of them. Rejects with {code, message}.
  call(method, request) {
    const { path: name, encode, decode, server } = this.#parts(method);
    return new Promise((resolve, reject) => {
      if (server) {
        const answers = [];
        this.client
          .makeServerStreamRequest(name, encode, decode, request, this.metadata)
          .on('data', answer => answers.push(answer))
          .on('error', error => reject({ code: error.code, message: error.details }))
          .on('end', () => resolve(answers));
      } else {
        this.client.makeUnaryRequest(name, encode, decode, request, this.metadata, (error, answer) =>
          error ? reject({ code: error.code, message: error.details }) : resolve(answer));
      }
    });
  }
  // One call with one answer that can be cancelled meanwhile: `call.cancel()`, and a promise of the answer.
  begin(method, request) {
    const { path: name, encode, decode } = this.#parts(method);
    let call;
    const answer = new Promise((resolve, reject) => {
      call = this.client.makeUnaryRequest(name, encode, decode, request, this.metadata, (error, decoded) =>
        error ? reject({ code: error.code, message: error.details }) : resolve(decoded));
    });
    return { call, answer };
  }
  // A two-way stream: `send`, `next` (one answer, or {error}), `end`.
  stream(method) {
    const { path: name, encode, decode } = this.#parts(method);
    const call = this.client.makeBidiStreamRequest(name, encode, decode, this.metadata);
    const arrived = [];
    const waiting = [];
    const push = value => (waiting.length ? waiting.shift()(value) : arrived.push(value));
    call.on('data', push);
    call.on('error', error => push({ error: { code: error.code, message: error.details } }));
    call.on('end', () => push({ ended: true }));
    return {
      send: message => call.write(message),
      end: () => call.end(),
      cancel: () => call.cancel(),
      pause: () => call.pause(),
      resume: () => call.resume(),
      pending: () => arrived.length,
      next: (ms = 10_000) => {
        if (arrived.length) return Promise.resolve(arrived.shift());
        return new Promise((resolve, reject) => {
          const timer = setTimeout(() => {
            waiting.splice(waiting.indexOf(settle), 1);
            reject(new Error(`no answer within ${ms} ms`));
          }, ms);
          const settle = value => (clearTimeout(timer), resolve(value));
          waiting.push(settle);
        });
      },
    };
  }
}

// {a: 1} as the protocol writes it.
export function value(v) {
  if (v === null) return { nullValue: 'NULL_VALUE' };
  if (typeof v === 'boolean') return { booleanValue: v };
  if (typeof v === 'number') return Number.isInteger(v) ? { integerValue: v } : { doubleValue: v };
  if (typeof v === 'string') return { stringValue: v };
  if (Array.isArray(v)) return { arrayValue: { values: v.map(value) } };
  return { mapValue: { fields: fields(v) } };
}

export function fields(object) {
  return Object.fromEntries(Object.entries(object).map(([k, v]) => [k, value(v)]));
}
