// The colours and the names that visitors get. style.css knows the colours by the same names.

export const COLOURS = ['ember', 'amber', 'moss', 'teal', 'sky', 'indigo', 'plum', 'rose'] as const;
export type Colour = (typeof COLOURS)[number];

const NAMES = [
  'Heron', 'Otter', 'Lynx', 'Wren', 'Badger', 'Marten', 'Plover', 'Hare', 'Tern', 'Vole', 'Finch', 'Stoat', 'Crane',
  'Newt', 'Robin', 'Seal', 'Swift', 'Toad', 'Ibex', 'Kestrel', 'Dormouse', 'Curlew', 'Beaver', 'Osprey',
];

/** What was sent, if it is a colour; else the first. */
export function colourOf(sent: unknown): Colour {
  return COLOURS.find(colour => colour === sent) ?? COLOURS[0];
}

/** One of those that the fewest have. */
function rarest<T>(choices: readonly T[], taken: readonly T[]): T {
  const uses = choices.map(choice => taken.filter(other => other === choice).length);
  const least = Math.min(...uses);
  const rare = choices.filter((_, index) => uses[index] === least);
  return rare[Math.floor(Math.random() * rare.length)] as T;
}

export const rarestColour = (taken: readonly Colour[]): Colour => rarest(COLOURS, taken);
export const rarestName = (taken: readonly string[]): string => rarest(NAMES, taken);
