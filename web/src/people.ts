// The list of who is here, and everybody's cursor on the board.

import { element, icon, make, say } from './page';
import type { Person } from './presence';
import { NAME_LENGTH_MAX } from './limits';

class PersonView {
  readonly row = make('li', 'person');
  readonly cursor = make('div', 'cursor');
  private readonly initial = make('span', 'initial');
  private readonly name = make('span', 'name');
  private readonly word = make('span', 'word');
  private readonly label = make('span', 'label');
  private at: Person['cursor'];

  constructor(person: Person, rename: (name: string) => void) {
    this.initial.setAttribute('aria-hidden', 'true');
    this.row.append(this.initial);
    if (person.self) this.row.append(this.ownName(rename), this.word);
    else this.row.append(this.name, this.word);
    this.cursor.append(icon('cursor'), this.label);
    this.cursor.hidden = true;
  }

  update(person: Person): void {
    for (const shown of [this.row, this.cursor]) {
      shown.dataset['colour'] = person.colour;
      shown.toggleAttribute('data-fades', person.fades);
    }
    this.initial.textContent = [...person.name][0]?.toUpperCase() ?? '?';
    this.name.textContent = person.name;
    this.label.textContent = person.name;
    this.word.textContent = person.self ? 'you' : person.fades ? 'silent' : '';
    const input = this.row.querySelector('input');
    if (input && input !== document.activeElement) input.value = person.name;
    this.at = person.cursor;
    this.draw();
  }

  draw(): void {
    this.cursor.hidden = this.at === undefined;
    if (!this.at) return;
    const board = element('board');
    const x = this.at.x * board.clientWidth;
    const y = this.at.y * board.clientHeight;
    this.cursor.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
    // Near the right edge the name stands on the other side.
    this.cursor.toggleAttribute('data-left', this.at.x > 0.85);
  }

  private ownName(rename: (name: string) => void): HTMLInputElement {
    const input = make('input', 'name');
    input.setAttribute('aria-label', 'Your name');
    input.title = 'Your name: click to change it';
    input.maxLength = NAME_LENGTH_MAX;
    input.spellcheck = false;
    input.autocomplete = 'off';
    input.addEventListener('keydown', event => {
      event.stopPropagation();
      if (event.key === 'Enter' || event.key === 'Escape') input.blur();
    });
    input.addEventListener('change', () => {
      const name = input.value.trim();
      if (name) rename(name);
    });
    return input;
  }
}

export class People {
  private readonly views = new Map<string, PersonView>();
  private names = new Map<string, string>();

  constructor(private readonly rename: (name: string) => void) {
    new ResizeObserver(() => {
      for (const view of this.views.values()) view.draw();
    }).observe(element('board'));
  }

  show(people: Person[]): void {
    const list = element('people');
    const cursors = element('cursors');
    const here = new Set(people.map(person => person.id));
    for (const [id, view] of this.views) {
      if (here.has(id)) continue;
      this.views.delete(id);
      view.row.remove();
      view.cursor.remove();
    }
    people.forEach((person, index) => {
      let view = this.views.get(person.id);
      if (!view) {
        view = new PersonView(person, this.rename);
        this.views.set(person.id, view);
        if (!person.self) cursors.append(view.cursor);
      }
      view.update(person);
      if (list.children[index] !== view.row && !view.row.contains(document.activeElement)) {
        list.insertBefore(view.row, list.children[index] ?? null);
      }
    });
    element('people-count').textContent = String(people.length);
    element('alone').hidden = people.length !== 1;
    this.announce(people);
  }

  private announce(people: Person[]): void {
    const names = new Map(people.filter(person => !person.self).map(person => [person.id, person.name]));
    const came = [...names].filter(([id]) => !this.names.has(id)).map(([, name]) => name);
    const left = [...this.names].filter(([id]) => !names.has(id)).map(([, name]) => name);
    this.names = names;
    const words = [];
    if (came.length) words.push(`${came.join(', ')} ${came.length > 1 ? 'are' : 'is'} here.`);
    if (left.length) words.push(`${left.join(', ')} left.`);
    if (words.length) say(words.join(' '));
  }
}
