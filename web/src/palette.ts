// The colours and the names that visitors get. style.css knows the colours by the same names. They stand in the order in
// which they are given out: each is far from the one before.

export const COLOURS = ['ember', 'sky', 'moss', 'plum', 'amber', 'indigo', 'teal', 'rose'] as const;
export type Colour = (typeof COLOURS)[number];

const NAMES = [
  'Heron', 'Otter', 'Lynx', 'Wren', 'Badger', 'Marten', 'Plover', 'Hare', 'Tern', 'Vole', 'Finch', 'Stoat', 'Crane',
  'Newt', 'Robin', 'Seal', 'Swift', 'Toad', 'Ibex', 'Kestrel', 'Dormouse', 'Curlew', 'Beaver', 'Osprey',
];

/** What was sent, if it is a colour; else the first. */
export function colourOf(sent: unknown): Colour {
  return COLOURS.find(colour => colour === sent) ?? COLOURS[0];
}

/** Those that the fewest have. */
function rarest<T>(choices: readonly T[], taken: readonly T[]): T[] {
  const uses = choices.map(choice => taken.filter(other => other === choice).length);
  const least = Math.min(...uses);
  return choices.filter((_, index) => uses[index] === least);
}

export function rarestColour(taken: readonly Colour[]): Colour {
  return rarest(COLOURS, taken)[0] ?? COLOURS[0];
}

/** One at random, so that two who come at once seldom have the same. */
export function rarestName(taken: readonly string[]): string {
  const names = rarest(NAMES, taken);
  return names[Math.floor(Math.random() * names.length)] ?? 'Visitor';
}
