// The page /demo: a shared board on the published web SDK, as it is. Here its parts meet, and what is said in words of
// the connection and of waiting writes stands here.
//
// The database is where the page came from: nobody else is asked for anything.

import './style.css';
import { initializeApp } from 'firebase/app';
import { initializeFirestore, setLogLevel } from 'firebase/firestore';
import { Board, boardName, fitName } from './board';
import { Connection, type State } from './connection';
import { serverHost } from './host';
import { CALM_MS } from './limits';
import { Notes } from './notes';
import { element, say } from './page';
import { onPending, pendingCount, refusal } from './pending';
import { People } from './people';
import { Presence, Self } from './presence';

// What goes wrong with the connection is said on the page.
setLogLevel('error');
const app = initializeApp({ projectId: 'demo', apiKey: 'none' });
const db = initializeFirestore(app, { host: await serverHost(), ssl: location.protocol === 'https:' });

const self = new Self();
const connection = new Connection(db);
const people = new People(name => presence.rename(name));
let board = new Board(db, boardName(location.hash));
const notes = new Notes(board, self);
let presence: Presence;
let close = (): void => {};

function open(): void {
  close();
  board = new Board(db, boardName(location.hash));
  document.title = `${board.name} · Watchfire`;
  element<HTMLInputElement>('board-name').value = board.name;
  element('board').setAttribute('aria-label', `Board ${board.name}`);
  element('ask').hidden = true;
  document.body.toggleAttribute('data-ready', false);
  notes.open(board);
  showCount(0, false);
  connection.begin();
  const stop = board.listen({
    notes: shown => {
      notes.show(shown);
      document.body.toggleAttribute('data-empty', shown.length === 0);
    },
    count: count => showCount(count.value, count.waiting),
    source: fromCache => {
      connection.heard(fromCache);
      if (!fromCache) ready();
    },
    refused: error => {
      element('ask-text').textContent = refusal(error);
      element('ask').hidden = false;
      say(refusal(error));
    },
  });
  const opened = new Presence(db, board.name, self, connection, shown => people.show(shown));
  presence = opened;
  close = () => {
    stop();
    opened.end();
  };
}

/** The board is what the server has: from here on it can be used. */
function ready(): void {
  if (document.body.hasAttribute('data-ready')) return;
  document.body.toggleAttribute('data-ready', true);
  element<HTMLButtonElement>('add').disabled = false;
  element<HTMLButtonElement>('increment').disabled = false;
  if (!performance.getEntriesByName('usable').length) performance.mark('usable');
}

function showCount(value: number, waiting: boolean): void {
  const output = element('count');
  const shown = value.toLocaleString('en');
  if (output.textContent !== shown) output.textContent = shown;
  element('counter').toggleAttribute('data-waiting', waiting);
}

const STATE_WORDS: Record<State, readonly [string, string]> = {
  connecting: ['Connecting', 'Looking for the server.'],
  live: ['Live', 'Everybody here sees what you do as you do it.'],
  reconnecting: [
    'Reconnecting',
    'The server does not answer. Go on: what you do is kept in this window and sent when it is back.',
  ],
  offline: ['Offline', 'What you do is kept in this window, and sent when you go online.'],
};

function showState(state: State): void {
  const [word, meaning] = STATE_WORDS[state];
  document.body.dataset['state'] = state;
  element('state').textContent = word;
  element('meaning').textContent = meaning;
  const offline = state === 'offline';
  element('offline').setAttribute('aria-checked', String(offline));
  if (state !== 'connecting') say(`${word}. ${meaning}`);
  if (state === 'live') presence?.speak();
}

let calm = 0;
function showPending(count: number): void {
  const show = () => {
    const now = pendingCount();
    element('pending').textContent = String(now);
    element('pending-words').textContent = now === 1 ? 'write waiting' : 'writes waiting';
    document.body.toggleAttribute('data-pending', now > 0);
    if (now > 0) void connection.doubt();
  };
  clearTimeout(calm);
  // A write that is answered at once is not worth a word; one that cannot be sent is.
  if (count === 0 || connection.state !== 'live' || document.body.hasAttribute('data-pending')) show();
  else calm = setTimeout(show, CALM_MS);
}

function listenToPointer(): void {
  const surface = element('board');
  const place = (event: MouseEvent) => {
    const box = surface.getBoundingClientRect();
    const within = (value: number) => Math.min(Math.max(value, 0), 1);
    return {
      x: within((event.clientX - box.left) / box.width),
      y: within((event.clientY - box.top) / box.height),
    };
  };
  surface.addEventListener('pointermove', event => presence.point(place(event)));
  surface.addEventListener('pointerdown', event => presence.point(place(event)));
  surface.addEventListener('pointerleave', () => presence.point(undefined));
  surface.addEventListener('dblclick', event => {
    if ((event.target as Element).closest('.note, button')) return;
    if (!element<HTMLButtonElement>('add').disabled) notes.add(place(event));
  });
}

function listenToControls(): void {
  element('add').addEventListener('click', () => notes.add());
  element('increment').addEventListener('click', () => board.increment());
  element('offline').addEventListener('click', () => void connection.setOffline(connection.state !== 'offline'));
  element('ask-again').addEventListener('click', open);
  element('message-close').addEventListener('click', () => (element('message').hidden = true));
  const name = element<HTMLInputElement>('board-name');
  element('board-form').addEventListener('submit', event => {
    event.preventDefault();
    location.hash = `board=${fitName(name.value) || 'lobby'}`;
    name.blur();
  });
  name.addEventListener('blur', () => (name.value = board.name));
  const another = element<HTMLAnchorElement>('another');
  const follow = () => (another.href = `${location.pathname}${location.hash}`);
  follow();
  addEventListener('hashchange', () => {
    follow();
    if (boardName(location.hash) !== board.name) open();
  });
  addEventListener('keydown', event => {
    const typing = (event.target as Element).closest?.('input, textarea');
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.key === 'n') {
      event.preventDefault();
      element('add').click();
    } else if (event.key === '+') {
      element('increment').click();
    } else if (event.key === 'o') {
      element('offline').click();
    }
  });
  // Writes that wait are lost with the window: it keeps them in memory.
  addEventListener('beforeunload', event => {
    if (pendingCount() > 0 && connection.state !== 'live') event.preventDefault();
  });
}

connection.onChange(showState);
listenToControls();
listenToPointer();
open();
onPending(showPending);
connection.onChange(() => showPending(pendingCount()));
