// One of many in a chat room: it writes, and keeps what it was shown and whether it ever went back.

import * as fs from 'firebase/firestore';

export function chat(db, from) {
  const seen = { messages: [], counter: -1, faults: [], snapshots: 0 };
  const confirmed = ({ metadata }) => !metadata.hasPendingWrites && !metadata.fromCache;
  const fault = error => seen.faults.push(error.message);
  const stops = [
    fs.onSnapshot(fs.query(fs.collection(db, 'chat'), fs.orderBy('at')), snapshot => {
      // Local writes carry an estimated time, so what is not confirmed has an order of its own.
      if (!confirmed(snapshot)) return;
      seen.snapshots += 1;
      const ids = snapshot.docs.map(d => d.id);
      const now = new Set(ids);
      for (const id of seen.messages) if (!now.has(id)) seen.faults.push(`message ${id} vanished`);
      seen.messages = ids;
    }, fault),
    fs.onSnapshot(fs.doc(db, 'state/counter'), { includeMetadataChanges: true }, snapshot => {
      if (!confirmed(snapshot)) return;
      const value = snapshot.get('n') ?? 0;
      if (value < seen.counter) seen.faults.push(`the counter went from ${seen.counter} to ${value}`);
      seen.counter = value;
    }, fault),
  ];
  return {
    seen,
    async write(count) {
      const work = [];
      for (let i = 0; i < count; i += 1) {
        work.push(fs.addDoc(fs.collection(db, 'chat'), { from, i, at: fs.serverTimestamp() }));
        work.push(fs.setDoc(fs.doc(db, 'state/counter'), { n: fs.increment(1) }, { merge: true }));
      }
      await Promise.all(work);
    },
    stop: () => stops.forEach(stop => stop()),
  };
}
