// Every shape of query that can be listened to, said once and built three ways: for the Node SDK, for the web SDK, and
// as plain JavaScript over a map of documents.

import { FieldPath, Filter } from '@google-cloud/firestore';
import { web } from './clients.mjs';

// `__name__` and dotted paths are the only fields that are not plain.
const NAME = '__name__';
const at = (data, field) => field.split('.').reduce((value, part) => value?.[part], data);

// A condition is [field, op, value], or { and: [...] }, or { or: [...] }.
const all = (...and) => ({ and });
const any = (...or) => ({ or });

// The shapes, with values that turn with `i`. Node alone: `offset` and `select`.
export function shapes(i) {
  const a = i % 6;
  const b = 3 + (i * 5) % 14;
  const tag = `t${i % 4}`;
  const items = { collection: 'items' };
  const group = { group: 'things' };
  return [
    { doc: `items/i${(i * 7) % 60}` },
    { doc: `items/never-${i}` },
    { ...items },
    { ...items, where: ['a', '==', a] },
    { ...items, where: ['a', 'in', [a, (a + 2) % 6]] },
    { ...items, where: ['a', 'not-in', [a, (a + 1) % 6]], order: [['a', 'asc']] },
    { ...items, where: ['a', '!=', a], order: [['a', 'desc']] },
    { ...items, where: all(['b', '>=', b - 3], ['b', '<', b + 4]), order: [['b', 'asc']] },
    { ...items, where: all(['a', '>', 1], ['b', '<=', b]), order: [['a', 'asc'], ['b', 'desc']] },
    { ...items, where: any(['a', '==', a], all(['b', '>', b], ['tags', 'array-contains', tag])) , order: [['b', 'asc']] },
    { ...items, where: any(['a', '==', a], ['nested.s', '==', `s${i % 5}`]) },
    { ...items, where: ['tags', 'array-contains', tag] },
    { ...items, where: ['tags', 'array-contains-any', [tag, 't9']], order: [['b', 'desc'], ['a', 'asc']] },
    { ...items, order: [['a', 'asc'], ['b', 'desc'], ['nested.s', 'asc']] },
    { ...items, order: [['b', 'desc']], limit: 1 + a },
    { ...items, where: ['a', '==', a], order: [['b', 'asc']], limit: 3 },
    { ...items, order: [['b', 'asc'], ['a', 'asc']], limitToLast: 2 + a },
    { ...items, order: [['a', 'asc'], ['b', 'asc']], startAt: [2, b] },
    { ...items, order: [['b', 'asc']], startAfter: [b], limit: 5 },
    { ...items, order: [['b', 'desc']], endAt: [b] },
    { ...items, order: [['b', 'asc']], startAt: [2], endBefore: [b], limitToLast: 4 },
    { ...group },
    { ...group, where: ['a', '>=', a], order: [['a', 'desc'], ['b', 'asc']], limit: 6 },
    { collection: `groups/g${i % 3}/things`, where: ['nested.n', '>', i % 5], order: [['nested.n', 'asc']] },
    { ...items, where: ['opt', '!=', -1], order: [['opt', 'asc']] },
  ];
}

export function shapesOfNode(i) {
  return [
    { collection: 'items', order: [['b', 'asc'], ['a', 'desc']], offset: 2 + (i % 5), limit: 6 },
    { collection: 'items', where: ['a', '<=', 2 + (i % 3)], order: [['a', 'asc']], select: ['a', 'nested.s'] },
    { group: 'things', order: [['b', 'asc']], offset: 3 },
  ];
}

export function forNode(db, shape) {
  if (shape.doc) return db.doc(shape.doc);
  let query = shape.group ? db.collectionGroup(shape.group) : db.collection(shape.collection);
  const filter = c => (c.and ? Filter.and(...c.and.map(filter)) : c.or ? Filter.or(...c.or.map(filter)) : Filter.where(...c));
  if (shape.where) query = query.where(filter(shape.where));
  for (const [field, direction] of shape.order ?? []) query = query.orderBy(field === NAME ? FieldPath.documentId() : field, direction);
  for (const cursor of ['startAt', 'startAfter', 'endAt', 'endBefore']) if (shape[cursor]) query = query[cursor](...shape[cursor]);
  for (const bound of ['limit', 'limitToLast', 'offset']) if (shape[bound]) query = query[bound](shape[bound]);
  return shape.select ? query.select(...shape.select) : query;
}

export function forWeb(db, shape) {
  if (shape.doc) return web.doc(db, shape.doc);
  const filter = c => (c.and ? web.and(...c.and.map(filter)) : c.or ? web.or(...c.or.map(filter)) : web.where(...c));
  const parts = [];
  if (shape.where) parts.push(filter(shape.where));
  for (const [field, direction] of shape.order ?? []) parts.push(web.orderBy(field, direction));
  for (const cursor of ['startAt', 'startAfter', 'endAt', 'endBefore']) if (shape[cursor]) parts.push(web[cursor](...shape[cursor]));
  for (const bound of ['limit', 'limitToLast']) if (shape[bound]) parts.push(web[bound](shape[bound]));
  return web.query(shape.group ? web.collectionGroup(db, shape.group) : web.collection(db, shape.collection), ...parts);
}

const COMPARE = {
  '==': (x, y) => x === y, '!=': (x, y) => x !== y, '<': (x, y) => x < y, '<=': (x, y) => x <= y, '>': (x, y) => x > y, '>=': (x, y) => x >= y,
  in: (x, y) => y.includes(x), 'not-in': (x, y) => !y.includes(x),
  'array-contains': (x, y) => x.includes(y), 'array-contains-any': (x, y) => x.some(member => y.includes(member)),
};
function holds(condition, data) {
  if (condition.and) return condition.and.every(c => holds(c, data));
  if (condition.or) return condition.or.some(c => holds(c, data));
  const value = at(data, condition[0]);
  return value !== undefined && COMPARE[condition[1]](value, condition[2]);
}
// Only numbers and ASCII strings are compared, and never with each other.
const compare = (x, y) => (x < y ? -1 : x > y ? 1 : 0);

// [path, data] of what the shape finds among documents ([path, data] in any order).
export function find(shape, documents) {
  if (shape.doc) return documents.filter(([path]) => path === shape.doc);
  const order = shape.order ?? [];
  const last = order.at(-1)?.[1] ?? 'asc';
  const turned = (direction, result) => (direction === 'asc' ? result : -result);
  const inside = path => {
    const parent = path.slice(0, path.lastIndexOf('/'));
    return shape.group ? parent.slice(parent.lastIndexOf('/') + 1) === shape.group : parent === shape.collection;
  };
  const against = (data, cursor) => {
    for (const [i, value] of cursor.entries()) {
      const result = turned(order[i][1], compare(at(data, order[i][0]), value));
      if (result) return result;
    }
    return 0;
  };
  let found = documents.filter(([path, data]) => inside(path)
    && (!shape.where || holds(shape.where, data))
    && order.every(([field]) => at(data, field) !== undefined)
    && (!shape.startAt || against(data, shape.startAt) >= 0)
    && (!shape.startAfter || against(data, shape.startAfter) > 0)
    && (!shape.endAt || against(data, shape.endAt) <= 0)
    && (!shape.endBefore || against(data, shape.endBefore) < 0));
  found.sort(([p, x], [q, y]) => {
    for (const [field, direction] of order) {
      const result = turned(direction, compare(at(x, field), at(y, field)));
      if (result) return result;
    }
    return turned(last, compare(p, q));
  });
  found = found.slice(shape.offset ?? 0);
  if (shape.limit) found = found.slice(0, shape.limit);
  if (shape.limitToLast) found = found.slice(-shape.limitToLast);
  return found;
}

// What a projection leaves of a document.
export function shown(shape, data) {
  if (!shape.select) return data;
  const left = {};
  for (const field of shape.select) {
    const value = at(data, field);
    if (value === undefined) continue;
    const parts = field.split('.');
    parts.slice(0, -1).reduce((map, part) => (map[part] ??= {}), left)[parts.at(-1)] = value;
  }
  return left;
}

// Documents as one text, whatever the order of their fields.
export function text(documents) {
  return documents.map(([path, data]) => `${path} ${canonical(data)}`).join('\n');
}

// Documents are never changed in place, so that their text is made once.
const texts = new WeakMap();
function canonical(value) {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (!texts.has(value)) texts.set(value, `{${Object.keys(value).sort().map(key => `${key}:${canonical(value[key])}`).join()}}`);
  return texts.get(value);
}
