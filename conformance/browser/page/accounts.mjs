// One of many that move money between accounts, and one that watches the sum.

import * as fs from 'firebase/firestore';

const ATTEMPTS_MAX = 200;
const PAUSE_MS = 30;
const PAUSES_MAX = 10;

// The SDK gives a transaction up after a few attempts; the application asks again, and each transfer ends once.
async function insist(work) {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (error.code !== 'aborted' && error.code !== 'failed-precondition') throw error;
      await new Promise(resolve => setTimeout(resolve, Math.random() * PAUSE_MS * Math.min(attempt, PAUSES_MAX)));
    }
  }
  throw new Error(`a transfer lost ${ATTEMPTS_MAX} times`);
}

const account = (db, index) => fs.doc(db, `accounts/a${index}`);

export const accounts = {
  // Carries out [from, to, amount] one after the other; says how many.
  async transfer(db, plan) {
    let done = 0;
    for (const [from, to, amount] of plan) {
      await insist(() => fs.runTransaction(db, async tx => {
        const a = await tx.get(account(db, from));
        const b = await tx.get(account(db, to));
        tx.update(a.ref, { balance: a.get('balance') - amount, moves: a.get('moves') + 1 });
        tx.update(b.ref, { balance: b.get('balance') + amount, moves: b.get('moves') + 1 });
      }));
      done += 1;
    }
    return done;
  },

  watch(db) {
    const seen = { snapshots: 0, sums: [], moves: 0, faults: [] };
    seen.stop = fs.onSnapshot(fs.collection(db, 'accounts'), snapshot => {
      seen.snapshots += 1;
      const sum = snapshot.docs.reduce((all, d) => all + d.get('balance'), 0);
      if (!seen.sums.includes(sum)) seen.sums.push(sum);
      seen.moves = snapshot.docs.reduce((all, d) => all + d.get('moves'), 0);
    }, error => seen.faults.push(error.message));
    return seen;
  },
};
