// The notes as they stand on the board: drawn, dragged, typed in, moved by the keyboard, deleted and put back.
//
// What this window has in its hand is shown as the hand has it, and everything else as the database says. A note is
// chosen by a click or by Tab; a second click, a double click or Enter lets type.

import type { Board, Note } from './board';
import { MOVE_INTERVAL_MS, NOTES_MAX, TEXT_LENGTH_MAX, TYPE_INTERVAL_MS } from './limits';
import { element, icon, make, say, tell } from './page';
import { COLOURS } from './palette';
import { Newest } from './pending';
import type { Self } from './presence';

/** Pixels that a pointer may move and still mean a click. */
const CLICK_PX_MAX = 4;
/** Milliseconds for which a note is new. */
const NEW_MS = 200;
/** Pixels between a note and the edge of the board. */
const EDGE_PX = 8;
/** How far an arrow key moves a note, in parts of the board, and with Shift. */
const STEP = 0.02;
const LONG_STEP = 0.1;

interface Place {
  x: number;
  y: number;
  z: number;
}

class NoteView {
  readonly root: HTMLElement;
  private readonly text: HTMLParagraphElement;
  private readonly author = make('span', 'author');
  private area: HTMLTextAreaElement | undefined;
  private held = false;
  private place: Place;
  /** The text before it was edited, and the last that was sent. */
  private before = '';
  private sent = '';
  private readonly board: Board;
  private readonly moves: Newest<Place>;
  private readonly typing: Newest<string>;

  constructor(
    private readonly notes: Notes,
    public note: Note,
  ) {
    this.place = { x: note.x, y: note.y, z: note.z };
    this.board = notes.board;
    this.moves = new Newest(MOVE_INTERVAL_MS, place => this.board.move(this.note.id, place));
    this.typing = new Newest(TYPE_INTERVAL_MS, text => {
      this.sent = text;
      return this.board.write(this.note.id, text);
    });
    this.root = make('article', 'note');
    this.root.tabIndex = 0;
    this.root.dataset['id'] = note.id;
    // It comes where it is, and does not glide there.
    this.root.toggleAttribute('data-new', true);
    setTimeout(() => this.root.toggleAttribute('data-new', false), NEW_MS);
    this.text = make('p', 'text');
    const waiting = make('span', 'waiting');
    waiting.append(icon('waiting'), make('span', 'waiting-word', 'waiting'));
    waiting.title = 'Kept in this window until the server has it';
    const remove = make('button', 'delete');
    remove.type = 'button';
    remove.append(icon('delete'));
    remove.setAttribute('aria-label', 'Delete note');
    remove.addEventListener('click', () => this.remove());
    const foot = make('footer', '');
    foot.append(this.author, waiting, remove);
    this.root.append(this.text, foot);
    this.root.addEventListener('keydown', event => this.key(event));
    this.root.addEventListener('pointerdown', event => this.take(event));
    this.root.addEventListener('dblclick', event => {
      event.stopPropagation();
      this.edit();
    });
  }

  /** Shows this of it; where it stands is left to `draw` or `measure`. */
  update(note: Note): void {
    this.note = note;
    this.root.dataset['colour'] = note.colour;
    this.root.toggleAttribute('data-waiting', note.waiting);
    this.text.textContent = note.text;
    this.author.textContent = note.author;
    const waits = note.waiting ? ', waiting to be sent' : '';
    this.root.setAttribute('aria-label', `Note by ${note.author || 'somebody'}: ${note.text || 'empty'}${waits}`);
    // The hand is ahead of the database.
    if (!this.held && !this.moves.waits) this.place = { x: note.x, y: note.y, z: note.z };
  }

  /** Puts it where it belongs, and keeps all of it on the board. */
  draw(): void {
    this.measure()();
  }

  /**
   * Looks how large it is, and returns what puts it where it belongs. Of many notes all are measured before any is put,
   * so that the browser lays the page out once.
   */
  measure(): () => void {
    const { width, height } = this.notes.size;
    const keep = (middle: number, own: number, whole: number) =>
      Math.max(EDGE_PX, Math.min(middle * whole - own / 2, whole - own - EDGE_PX));
    const x = keep(this.place.x, this.root.offsetWidth, width);
    const y = keep(this.place.y, this.root.offsetHeight, height);
    const isLong = this.text.scrollHeight > this.text.clientHeight + 1;
    return () => {
      // Shows that there is more text than fits.
      this.root.toggleAttribute('data-long', isLong);
      this.root.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
      this.root.style.zIndex = String(this.held ? 2e9 : Math.min(Math.max(Math.round(this.place.z), 0), 1e9));
    };
  }

  edit(): void {
    if (this.area) return;
    const area = make('textarea', 'text');
    this.before = this.note.text;
    this.sent = this.note.text;
    area.value = this.note.text;
    area.maxLength = TEXT_LENGTH_MAX;
    area.setAttribute('aria-label', 'Text of the note');
    area.placeholder = 'Write something';
    area.addEventListener('input', () => {
      fit(area);
      this.draw();
      this.typing.offer(area.value);
    });
    area.addEventListener('blur', () => this.edited());
    area.addEventListener('keydown', event => {
      event.stopPropagation();
      if (event.key === 'Escape' || (event.key === 'Enter' && (event.ctrlKey || event.metaKey))) {
        event.preventDefault();
        this.root.focus();
      }
    });
    this.area = area;
    this.text.replaceWith(area);
    this.root.toggleAttribute('data-edited', true);
    fit(area);
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
    this.draw();
  }

  private edited(): void {
    const area = this.area;
    if (!area) return;
    this.area = undefined;
    area.replaceWith(this.text);
    this.root.toggleAttribute('data-edited', false);
    if (area.value.trim() === '') {
      this.typing.forget();
      const note = { ...this.note, text: this.before };
      this.board.remove(note.id);
      if (this.before) tell('Note deleted, as it was empty.', 'Put it back', () => this.board.add(note));
      return;
    }
    if (area.value !== this.sent) this.typing.finish(area.value);
    else this.typing.forget();
    this.text.textContent = area.value;
    this.draw();
  }

  /** Somebody else has deleted it: what this window holds of it is let go, or offered to be put back. */
  gone(): void {
    this.moves.forget();
    this.typing.forget();
    const text = this.area?.value.trim();
    this.area = undefined;
    this.root.remove();
    if (text) {
      tell('Somebody deleted the note you were writing.', 'Put it back', () => this.board.add({ ...this.note, text }));
    }
  }

  remove(): void {
    const { note } = this;
    const next = (this.root.nextElementSibling ?? this.root.previousElementSibling) as HTMLElement | null;
    if (this.root.contains(document.activeElement)) (next ?? element('add')).focus();
    this.board.remove(note.id);
    tell('Note deleted.', 'Put it back', () => this.board.add(note));
  }

  private key(event: KeyboardEvent): void {
    if (event.target !== this.root || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? LONG_STEP : STEP;
    switch (event.key) {
      case 'Enter':
      case 'F2':
        this.edit();
        break;
      case 'Delete':
      case 'Backspace':
        this.remove();
        break;
      case 'ArrowLeft':
        this.shift(-step, 0);
        break;
      case 'ArrowRight':
        this.shift(step, 0);
        break;
      case 'ArrowUp':
        this.shift(0, -step);
        break;
      case 'ArrowDown':
        this.shift(0, step);
        break;
      default:
        return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  private shift(x: number, y: number): void {
    const within = (value: number) => Math.min(Math.max(value, 0), 1);
    this.place = { x: within(this.place.x + x), y: within(this.place.y + y), z: this.notes.top(this.place.z) };
    this.draw();
    this.moves.offer(this.place);
  }

  private take(event: PointerEvent): void {
    const target = event.target as Element;
    if (event.button !== 0 || target.closest('button, textarea')) return;
    const wasChosen = document.activeElement === this.root;
    const { width, height } = this.notes.size;
    const from = { x: event.clientX, y: event.clientY };
    const start = { ...this.middle() };
    const move = (event: PointerEvent) => {
      const by = { x: event.clientX - from.x, y: event.clientY - from.y };
      if (!this.held && Math.hypot(by.x, by.y) <= CLICK_PX_MAX) return;
      if (!this.held) {
        this.held = true;
        this.place.z = this.notes.top(this.place.z);
        this.root.toggleAttribute('data-held', true);
      }
      const within = (value: number) => Math.min(Math.max(value, 0), 1);
      this.place = { x: within(start.x + by.x / width), y: within(start.y + by.y / height), z: this.place.z };
      this.draw();
      this.moves.offer(this.place);
    };
    const drop = (event: PointerEvent) => {
      this.root.removeEventListener('pointermove', move);
      this.root.removeEventListener('pointerup', drop);
      this.root.removeEventListener('pointercancel', drop);
      if (this.held) {
        this.held = false;
        this.root.toggleAttribute('data-held', false);
        this.moves.finish(this.place);
        this.draw();
      } else if (event.type === 'pointerup' && wasChosen) {
        this.edit();
      }
    };
    this.root.setPointerCapture(event.pointerId);
    this.root.addEventListener('pointermove', move);
    this.root.addEventListener('pointerup', drop);
    this.root.addEventListener('pointercancel', drop);
  }

  /** Where its middle is seen, which is not where it was put when that was too near to the edge. */
  private middle(): { x: number; y: number } {
    const { width, height } = this.notes.size;
    const within = (middle: number, own: number, whole: number) =>
      Math.max(own / 2 + EDGE_PX, Math.min(middle * whole, whole - own / 2 - EDGE_PX)) / whole;
    return {
      x: within(this.place.x, this.root.offsetWidth, width),
      y: within(this.place.y, this.root.offsetHeight, height),
    };
  }
}

function putAll(views: NoteView[]): void {
  for (const put of views.map(view => view.measure())) put();
}

/** Measuring a note costs the browser something, and most notes have not changed since the last result. */
function isSame(a: Note, b: Note): boolean {
  return (Object.keys(a) as (keyof Note)[]).every(field => a[field] === b[field]);
}

/** As high as its text. */
function fit(area: HTMLTextAreaElement): void {
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight}px`;
}

export class Notes {
  size = { width: 1, height: 1 };
  private readonly views = new Map<string, NoteView>();
  private readonly home = element('notes');
  private editNext: string | undefined;

  constructor(
    public board: Board,
    private readonly self: Self,
  ) {
    const surface = element('board');
    const measure = () => {
      this.size = { width: surface.clientWidth, height: surface.clientHeight };
      putAll([...this.views.values()]);
    };
    new ResizeObserver(measure).observe(surface);
    measure();
  }

  /** Shows another board, of which nothing is known yet. */
  open(board: Board): void {
    this.board = board;
    this.editNext = undefined;
    for (const view of this.views.values()) view.root.remove();
    this.views.clear();
  }

  show(notes: Note[]): void {
    const shown = new Set(notes.map(note => note.id));
    for (const [id, view] of this.views) {
      if (shown.has(id)) continue;
      this.views.delete(id);
      view.gone();
    }
    const changed: NoteView[] = [];
    let after: Element | null = null;
    for (const note of notes) {
      let view = this.views.get(note.id);
      const isNew = view === undefined;
      if (!view) {
        view = new NoteView(this, note);
        this.views.set(note.id, view);
      }
      const place: Element | null = after ? after.nextElementSibling : this.home.firstElementChild;
      // Moving an element takes the keyboard away from it, so that only what is new is put in.
      if (!view.root.isConnected) this.home.insertBefore(view.root, place);
      if (isNew || !isSame(view.note, note)) {
        view.update(note);
        changed.push(view);
      }
      after = view.root;
    }
    putAll(changed);
    if (this.editNext && shown.has(this.editNext)) {
      this.views.get(this.editNext)?.edit();
      this.editNext = undefined;
    }
  }

  /** A new note at a place, or somewhere near the middle; its writer may type at once. */
  add(at?: { x: number; y: number }): void {
    if (this.views.size >= NOTES_MAX) {
      tell(`This board is full: it holds ${NOTES_MAX} notes. Delete one first, or open another board.`);
      return;
    }
    const near = (middle: number) => middle + (Math.random() - 0.5) * 0.4;
    const { x, y } = at ?? { x: near(0.5), y: near(0.45) };
    const { name, colour = COLOURS[0] } = this.self;
    this.editNext = this.board.add({ text: '', x, y, z: this.top(-1), colour, author: name });
    say('Note added. Type its text; Escape ends.');
  }

  /** A height above all notes; what lies at the top already stays there. */
  top(own: number): number {
    let highest = 0;
    let count = 0;
    for (const { note } of this.views.values()) {
      if (note.z > highest) [highest, count] = [note.z, 1];
      else if (note.z === highest) count += 1;
    }
    return own === highest && count <= 1 ? own : highest + 1;
  }
}
