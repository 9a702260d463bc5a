/** Puts what is rendered into its places on a page that is otherwise written by hand. */

import assert from 'node:assert/strict';

/** Renders the text of each place, by the name in the place's first marker. */
export type Blocks = Readonly<Record<string, () => string>>;

const BEGIN = /<!-- rendered: ([\w ]+) -->/;
const END = '<!-- end of what is rendered -->';

/** @returns the page with each of these blocks in its place; it has places for no other */
export function fillPlaces(page: string, blocks: Blocks): string {
  const [start = '', ...parts] = page.split(BEGIN);
  const filled = new Set<string>();
  let text = start;
  // Names and what follows them take turns.
  for (let i = 0; i < parts.length; i += 2) {
    const [name = '', following = ''] = parts.slice(i);
    const [, rest, ...more] = following.split(END);
    const render = blocks[name];
    assert(render, `there is nothing to render for "${name}"`);
    assert(rest !== undefined && more.length === 0, `the place for "${name}" has one end`);
    text += `<!-- rendered: ${name} -->\n\n${render()}\n\n${END}${rest}`;
    filled.add(name);
  }
  assert.deepEqual([...filled].toSorted(), Object.keys(blocks).toSorted(), 'each block has its place');
  return text;
}

/** The formatter makes its columns as wide as their widest cells. */
export function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [head, head.map(() => '-'), ...rows].map(line).join('\n');
}
