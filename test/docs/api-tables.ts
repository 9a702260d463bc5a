/** Renders the tables of docs/api.md from what the calls and the codes say of themselves. */

import { PROBLEMS } from '../../src/api/http/problem-codes.ts';

const BEGIN = /<!-- rendered: ([\w ]+) -->/;
const END = '<!-- end of what is rendered -->';

/** The page with each of its tables as it is now. */
export function renderTables(page: string): string {
  const parts = page.split(BEGIN);
  return parts
    .map((part, i) => {
      // Names and what follows them take turns.
      if (i === 0) return part;
      if (i % 2 === 1) return `<!-- rendered: ${part} -->\n\n${renderTable(part)}\n\n`;
      const [, rest] = part.split(END);
      if (rest === undefined) throw new Error(`a table has no end: ${part.slice(0, 200)}`);
      return `${END}${rest}`;
    })
    .join('');
}

function renderTable(name: string): string {
  const render = new Map([['codes', renderCodes]]).get(name);
  if (!render) throw new Error(`there is no table of ${name}`);
  return render();
}

function renderCodes(): string {
  const rows = Object.entries(PROBLEMS).map(([code, { status, means, remedy }]) => [
    `\`${code}\``,
    String(status),
    means,
    remedy,
  ]);
  return tableOf(
    ['code', 'status', 'meaning', 'what to do'],
    rows.toSorted(([, one = ''], [, other = '']) => Number(one) - Number(other)),
  );
}

/** As oxfmt has it: each column as wide as its widest cell. */
function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((cell, i) =>
    Math.max(...[head, ...rows].map((row) => row[i]?.length ?? cell.length)),
  );
  const line = (cells: readonly string[], fill = ' ') =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0, fill)).join(' | ')} |`;
  const rule = line(
    head.map(() => ''),
    '-',
  );
  return [line(head), rule, ...rows.map((row) => line(row))].join('\n');
}
