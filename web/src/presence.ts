// Who is here: one document for each visitor, with a name, a colour, a cursor, and when the visitor has last said so.
//
// A visitor's word is a write with the server's time. Who has been silent for some seconds fades, and is then shown no
// longer: the ages are measured by the server's clock, which this window knows from the answers to its own words. One
// of those who are here, the first by id, removes the documents of who has long been gone, so that a board costs what
// its visitors cost and each removal is made once. A word is said only while there is a connection, and only when the
// one before was answered: nothing of it piles up in a window that is offline.

import {
  type Firestore, type Unsubscribe, Timestamp, collection, deleteDoc, doc, limit, onSnapshot, query, serverTimestamp,
  setDoc,
} from 'firebase/firestore';
import { part, text } from './board';
import type { Connection } from './connection';
import {
  FADES_AFTER_MS, GONE_AFTER_MS, HEARTBEAT_ANSWER_MS, HEARTBEAT_ANSWER_MS_MAX, HEARTBEAT_MS, MOVE_INTERVAL_MS,
  NAME_LENGTH_MAX, PEOPLE_MAX, REMOVED_AFTER_MS,
} from './limits';
import { type Colour, colourOf, rarestColour, rarestName } from './palette';
import { Newest } from './pending';

export interface Person {
  readonly id: string;
  readonly name: string;
  readonly colour: Colour;
  /** In parts of the board; none while the pointer is elsewhere. */
  readonly cursor: { readonly x: number; readonly y: number } | undefined;
  readonly self: boolean;
  readonly fades: boolean;
}

interface Seen extends Omit<Person, 'fades'> {
  /** Milliseconds since 1970 by the server's clock. */
  readonly at: number;
}

/** Who this window is. It survives a reload, and not a copy of the window, which is somebody else. */
export class Self {
  readonly id: string;
  name: string;
  colour: Colour | undefined;

  constructor() {
    const { id, name, colour } = Self.kept();
    this.id = typeof id === 'string' && id ? id : crypto.getRandomValues(new Uint32Array(3)).join('-');
    this.name = text(name, NAME_LENGTH_MAX);
    this.colour = typeof colour === 'string' ? colourOf(colour) : undefined;
    // A copied window has the storage of the first as it was: without this.
    Self.keep(undefined);
    addEventListener('pageshow', () => Self.keep(undefined));
    addEventListener('pagehide', () => Self.keep({ id: this.id, name: this.name, colour: this.colour }));
  }

  private static kept(): Record<string, unknown> {
    try {
      return JSON.parse(sessionStorage.getItem(Self.KEY) ?? '{}') as Record<string, unknown>;
    } catch {
      return {};
    }
  }

  private static keep(self: object | undefined): void {
    try {
      if (self) sessionStorage.setItem(Self.KEY, JSON.stringify(self));
      else sessionStorage.removeItem(Self.KEY);
    } catch {
      // A browser that keeps nothing: a reload is then somebody else.
    }
  }

  private static readonly KEY = 'watchfire-self';
}

export class Presence {
  private readonly path: string;
  private readonly seen = new Map<string, Seen>();
  private readonly unsubscribe: Unsubscribe;
  private readonly timer: number;
  private readonly word: Newest<void>;
  private cursor: Person['cursor'];
  /** The server's clock less this window's. */
  private clockAhead = 0;
  private lastSaid = -Infinity;
  private unanswered: number | undefined;
  private known = false;
  private ended = false;
  private left = false;

  constructor(
    private readonly db: Firestore,
    board: string,
    private readonly self: Self,
    private readonly connection: Connection,
    private readonly show: (people: Person[]) => void,
  ) {
    this.path = `boards/${board}/people`;
    this.word = new Newest(MOVE_INTERVAL_MS, () => this.say());
    const people = query(collection(db, this.path), limit(PEOPLE_MAX));
    this.unsubscribe = onSnapshot(
      people,
      // The state is told aloud by the notes, which are refused alike.
      snapshot => {
        for (const change of snapshot.docChanges()) {
          if (change.type === 'removed') {
            this.seen.delete(change.doc.id);
            continue;
          }
          const data = change.doc.data();
          const own = change.doc.id === self.id;
          const at = data['at'] instanceof Timestamp ? data['at'].toMillis() : Date.now() + this.clockAhead;
          if (own && !change.doc.metadata.hasPendingWrites) this.clockAhead = at - Date.now();
          const { x, y } = data;
          this.seen.set(change.doc.id, {
            id: change.doc.id,
            name: text(data['name'], NAME_LENGTH_MAX) || 'Somebody',
            colour: colourOf(data['colour']),
            cursor: typeof x === 'number' && typeof y === 'number' ? { x: part(x), y: part(y) } : undefined,
            self: own,
            at,
          });
        }
        if (!snapshot.metadata.fromCache && !this.known) {
          this.known = true;
          this.choose();
          this.speak();
        }
        this.refresh();
      },
      () => this.refresh(),
    );
    this.timer = setInterval(() => this.tick(), 1_000);
    document.addEventListener('visibilitychange', this.speak);
    addEventListener('pagehide', this.leave);
    addEventListener('pageshow', this.comeBack);
    this.refresh();
  }

  /** The pointer is there now, or nowhere on the board. */
  point(cursor: Person['cursor']): void {
    this.cursor = cursor;
    this.speak();
  }

  rename(name: string): void {
    this.self.name = name;
    this.refresh();
    this.speak();
  }

  /** Leaves the board. */
  end(): void {
    this.ended = true;
    this.unsubscribe();
    clearInterval(this.timer);
    this.word.forget();
    document.removeEventListener('visibilitychange', this.speak);
    removeEventListener('pagehide', this.leave);
    removeEventListener('pageshow', this.comeBack);
    if (this.connection.state === 'live') void deleteDoc(doc(this.db, this.path, this.self.id)).catch(() => {});
  }

  /** The colour and the name that the fewest of those who are here have, unless this window has them already. */
  private choose(): void {
    const others = this.present().filter(person => !person.self);
    this.self.colour ??= rarestColour(others.map(person => person.colour));
    this.self.name ||= rarestName(others.map(person => person.name));
  }

  /** Says that this window is here, and where its pointer is, if it can be said now. */
  readonly speak = (): void => {
    if (this.known && !this.ended && !this.left && this.connection.state === 'live') this.word.offer(undefined);
  };

  private readonly comeBack = (): void => {
    this.left = false;
    this.speak();
  };

  private async say(): Promise<void> {
    if (this.ended || this.left || this.connection.state !== 'live') return;
    const said = performance.now();
    this.lastSaid = said;
    this.unanswered = said;
    const { name, colour } = this.self;
    try {
      await setDoc(doc(this.db, this.path, this.self.id), {
        name,
        colour: colour ?? null,
        x: this.cursor?.x ?? null,
        y: this.cursor?.y ?? null,
        at: serverTimestamp(),
      });
      this.connection.answered();
    } catch {
      // Refused: who cannot say that they are here can still look on.
    } finally {
      this.unanswered = undefined;
    }
    if (this.ended) void deleteDoc(doc(this.db, this.path, this.self.id)).catch(() => {});
  }

  /** The page goes away, and takes its pending writes along; a request of its own outlives it. */
  private readonly leave = (): void => {
    // A word that is said after this would bring the visitor back.
    this.left = true;
    const { projectId } = this.db.app.options;
    const document = `/v1/projects/${projectId}/databases/(default)/documents/${this.path}/${this.self.id}`;
    if (this.connection.state === 'live') {
      void fetch(encodeURI(document), { method: 'DELETE', keepalive: true }).catch(() => {});
    }
  };

  private tick(): void {
    const now = performance.now();
    const unanswered = this.unanswered === undefined ? 0 : now - this.unanswered;
    if (unanswered > HEARTBEAT_ANSWER_MS_MAX) this.connection.silent();
    else if (unanswered > HEARTBEAT_ANSWER_MS) void this.connection.doubt();
    if (now - this.lastSaid >= HEARTBEAT_MS) this.speak();
    this.refresh();
    if (this.connection.state === 'live' && this.known) this.sweep();
  }

  private present(): Person[] {
    // Without a connection nobody is heard, which says nothing about them.
    const live = this.connection.state === 'live';
    const now = Date.now() + this.clockAhead;
    const present: Person[] = [];
    for (const person of this.seen.values()) {
      const age = live && !person.self ? now - person.at : 0;
      if (age < GONE_AFTER_MS) present.push({ ...person, fades: age >= FADES_AFTER_MS });
    }
    return present;
  }

  private refresh(): void {
    const { id, name, colour } = this.self;
    const others = this.present().filter(person => !person.self);
    others.sort((a, b) => a.name.localeCompare(b.name) || a.id.localeCompare(b.id));
    const self: Person[] =
      colour === undefined ? [] : [{ id, name, colour, cursor: undefined, self: true, fades: false }];
    this.show([...self, ...others]);
  }

  private sweep(): void {
    const now = Date.now() + this.clockAhead;
    const here = this.present().filter(person => !person.fades);
    if (here.some(person => person.id < this.self.id)) return;
    for (const person of this.seen.values()) {
      if (person.self || now - person.at < REMOVED_AFTER_MS) continue;
      this.seen.delete(person.id);
      void deleteDoc(doc(this.db, this.path, person.id)).catch(() => {});
    }
  }
}
