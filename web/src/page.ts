// What the page's parts share of the document: finding an element that the page is known to have, making one, saying
// something aloud, and a short message that goes away by itself.

/** The element of this id, which index.html has. */
export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no element #${id}`);
  return found as T;
}

/** A new element with a class, and a text if there is one. */
export function make<K extends keyof HTMLElementTagNameMap>(
  kind: K,
  className: string,
  text?: string,
): HTMLElementTagNameMap[K] {
  const made = document.createElement(kind);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** An icon of index.html's sheet. */
export function icon(name: string): SVGSVGElement {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(space, 'use');
  use.setAttribute('href', `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Reads this to those who listen to the page. */
export function say(text: string): void {
  element('aloud').textContent = text;
}

const MESSAGE_MS = 7_000;
let messageTimer = 0;

/** A message at the lower edge, with something to do about it if there is. The next one takes its place. */
export function tell(text: string, label?: string, act?: () => void): void {
  const box = element('message');
  element('message-text').textContent = text;
  const button = element<HTMLButtonElement>('message-act');
  button.hidden = label === undefined;
  button.textContent = label ?? '';
  button.onclick = () => {
    box.hidden = true;
    act?.();
  };
  box.hidden = false;
  clearTimeout(messageTimer);
  messageTimer = setTimeout(() => (box.hidden = true), MESSAGE_MS);
}
