// Counts the writes of this window that the server has not acknowledged, and says in words why one was refused.
//
// The SDK keeps them in order, shows them here at once, and sends them when it can. Heartbeats and cursors are not
// counted: they are worth nothing later, so that they are only made while there is a connection, one at a time.

import { FirebaseError } from 'firebase/app';
import { tell } from './page';

type Watcher = (count: number) => void;

let count = 0;
const watchers: Watcher[] = [];

export function onPending(watcher: Watcher): void {
  watchers.push(watcher);
  watcher(count);
}

export function pendingCount(): number {
  return count;
}

function change(by: number): void {
  count += by;
  for (const watcher of watchers) watcher(count);
}

/** Counts a write until the server has answered it. `lost` is said when what it changes is not there any more. */
export async function pending(write: Promise<unknown>, lost = 'What you changed was deleted meanwhile.'): Promise<void> {
  change(1);
  try {
    await write;
  } catch (error) {
    tell(error instanceof FirebaseError && error.code === 'not-found' ? lost : refusal(error));
  } finally {
    change(-1);
  }
}

/** Why the server refused, as a sentence. */
export function refusal(error: unknown): string {
  if (error instanceof FirebaseError) {
    switch (error.code) {
      case 'permission-denied':
        return 'The server does not allow this here.';
      case 'resource-exhausted':
        return 'The server has no room for this now. Try again in a moment.';
      case 'unavailable':
        return 'The server cannot be reached now.';
      default:
        return `The server refused this: ${error.message}`;
    }
  }
  return `Something went wrong: ${String(error)}`;
}

/**
 * Sends only the newest of many values: at most one write is on its way, and `interval` lies between two. While offline
 * that is one write, and the newest value when it ends, however long somebody drags or types.
 */
export class Newest<T> {
  private waiting: { value: T } | undefined;
  private busy = false;
  private timer = 0;
  private last = -Infinity;

  constructor(
    private readonly interval: number,
    private readonly send: (value: T) => Promise<void>,
  ) {}

  /** Whether there is a value that the server has not answered yet: what is shown of the database may be older. */
  get waits(): boolean {
    return this.busy || this.waiting !== undefined;
  }

  /** Sends this now or soon, unless a newer one comes. */
  offer(value: T): void {
    this.waiting = { value };
    this.next();
  }

  /** Sends this now, whatever is on its way. */
  finish(value: T): void {
    this.forget();
    this.last = performance.now();
    void this.send(value);
  }

  forget(): void {
    this.waiting = undefined;
    clearTimeout(this.timer);
    this.timer = 0;
  }

  private next(): void {
    if (this.busy || this.timer || !this.waiting) return;
    const wait = this.last + this.interval - performance.now();
    if (wait > 0) {
      this.timer = setTimeout(() => {
        this.timer = 0;
        this.next();
      }, wait);
      return;
    }
    const { value } = this.waiting;
    this.waiting = undefined;
    this.busy = true;
    this.last = performance.now();
    void this.send(value).finally(() => {
      this.busy = false;
      this.next();
    });
  }
}
