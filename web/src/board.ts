// What a board is in the database, and every call that the page makes of it: notes in `boards/NAME/notes`, and the
// counter in `boards/NAME` itself. What others have sent is made fit to show here, and nowhere else.

import {
  type Firestore, type Unsubscribe, collection, deleteDoc, doc, increment, limit, onSnapshot, orderBy, query,
  serverTimestamp, setDoc, updateDoc,
} from 'firebase/firestore';
import { BOARD_LENGTH_MAX, NAME_LENGTH_MAX, NOTES_MAX, TEXT_LENGTH_MAX } from './limits';
import { type Colour, colourOf } from './palette';
import { pending } from './pending';

export interface Note {
  readonly id: string;
  readonly text: string;
  /** The middle of the note, in parts of the board's width and height, so that it is in the same place in any window. */
  readonly x: number;
  readonly y: number;
  /** Which of two that overlap lies above. */
  readonly z: number;
  readonly colour: Colour;
  readonly author: string;
  /** Whether the server has not acknowledged all of it yet. */
  readonly waiting: boolean;
}

export interface Count {
  readonly value: number;
  readonly waiting: boolean;
}

export interface Heard {
  notes(notes: Note[]): void;
  count(count: Count): void;
  /** Whether what is shown is held against the server. */
  source(fromCache: boolean): void;
  refused(error: unknown): void;
}

/** The board that the address names: `#board=NAME`, by letters, digits and dashes. */
export function boardName(hash: string): string {
  const asked = new URLSearchParams(hash.replace(/^#/, '')).get('board') ?? '';
  return fitName(asked) || 'lobby';
}

export function fitName(asked: string): string {
  return asked
    .toLowerCase()
    .replace(/[^\p{Letter}\p{Number}]+/gu, '-')
    .replace(/^-|-$/g, '')
    .slice(0, BOARD_LENGTH_MAX);
}

/** A number that was sent, between 0 and 1. */
export function part(sent: unknown): number {
  return typeof sent === 'number' && sent >= 0 ? Math.min(sent, 1) : 0;
}

export function text(sent: unknown, lengthMax: number): string {
  return typeof sent === 'string' ? sent.slice(0, lengthMax) : '';
}

const number = (sent: unknown): number => (typeof sent === 'number' && Number.isFinite(sent) ? sent : 0);

const LOST = 'The note that you changed was deleted meanwhile.';

export class Board {
  private readonly path: string;

  constructor(
    private readonly db: Firestore,
    readonly name: string,
  ) {
    this.path = `boards/${name}`;
  }

  /** Follows the board until the returned function is called. */
  listen(heard: Heard): Unsubscribe {
    const options = { includeMetadataChanges: true };
    const newest = query(collection(this.db, `${this.path}/notes`), orderBy('at', 'desc'), limit(NOTES_MAX));
    const notes = onSnapshot(
      newest,
      options,
      snapshot => {
        // The oldest first, which is the order in which the keyboard visits them.
        const shown = snapshot.docs.map(document => {
          const data = document.data();
          return {
            id: document.id,
            text: text(data['text'], TEXT_LENGTH_MAX),
            x: part(data['x']),
            y: part(data['y']),
            z: number(data['z']),
            colour: colourOf(data['colour']),
            author: text(data['author'], NAME_LENGTH_MAX),
            waiting: document.metadata.hasPendingWrites,
          };
        });
        heard.notes(shown.reverse());
        heard.source(snapshot.metadata.fromCache);
      },
      heard.refused,
    );
    const count = onSnapshot(
      doc(this.db, this.path),
      options,
      snapshot => {
        heard.count({ value: number(snapshot.get('count')), waiting: snapshot.metadata.hasPendingWrites });
      },
      heard.refused,
    );
    return () => {
      notes();
      count();
    };
  }

  add(note: Pick<Note, 'text' | 'x' | 'y' | 'z' | 'colour' | 'author'>): string {
    const added = doc(collection(this.db, `${this.path}/notes`));
    const { text, x, y, z, colour, author } = note;
    void pending(setDoc(added, { text, x, y, z, colour, author, at: serverTimestamp() }));
    return added.id;
  }

  move(id: string, place: { x: number; y: number; z: number }): Promise<void> {
    return pending(updateDoc(this.note(id), place), LOST);
  }

  write(id: string, text: string): Promise<void> {
    return pending(updateDoc(this.note(id), { text }), LOST);
  }

  remove(id: string): void {
    void pending(deleteDoc(this.note(id)));
  }

  /** Adds to the counter. The server does the sum, so that none of those who add at once is lost. */
  increment(): void {
    void pending(setDoc(doc(this.db, this.path), { count: increment(1) }, { merge: true }));
  }

  private note(id: string) {
    return doc(this.db, `${this.path}/notes/${id}`);
  }
}
