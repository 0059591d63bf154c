// Every number that bounds what the page does, costs or waits for.

/** Milliseconds between two positions of the cursor, or of a note that is dragged: at most 20 a second. */
export const MOVE_INTERVAL_MS = 50;
/** Milliseconds between two sendings of a text that is being typed. */
export const TYPE_INTERVAL_MS = 150;

/** Milliseconds after which a visitor says again that they are here, if nothing else has said it. */
export const HEARTBEAT_MS = 4_000;
/** Milliseconds without a word, after which a visitor fades. */
export const FADES_AFTER_MS = 10_000;
/** Milliseconds without a word, after which a visitor is shown no longer. */
export const GONE_AFTER_MS = 16_000;
/** Milliseconds without a word, after which one of those who are here removes the visitor's document. */
export const REMOVED_AFTER_MS = 30_000;
/** Milliseconds that a heartbeat may take before the page asks whether the server is there, and before it says that it is
 * reconnecting whatever the answer was. */
export const HEARTBEAT_ANSWER_MS = 1_500;
export const HEARTBEAT_ANSWER_MS_MAX = 8_000;

/** Milliseconds between two looks whether a lost server is back. */
export const PROBE_INTERVAL_MS = 1_000;
/** Milliseconds that such a look waits for an answer. */
export const PROBE_MS_MAX = 3_000;

/** Milliseconds that a write may be on its way before the page calls it waiting: what is quick should not flicker. */
export const CALM_MS = 250;

/** Notes that a board shows, and that can be added. */
export const NOTES_MAX = 200;
/** Visitors that a board shows. */
export const PEOPLE_MAX = 100;
/** Characters of a note, of a visitor's name, and of a board's name. */
export const TEXT_LENGTH_MAX = 280;
export const NAME_LENGTH_MAX = 24;
export const BOARD_LENGTH_MAX = 40;

/** Windows of one browser that ask for the server by the name that the page came from: see host.ts. */
export const WINDOWS_AT_HOST_MAX = 2;
