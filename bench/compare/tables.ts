/** The tables of the comparison, in Markdown that is as readable on a screen. */

import type { Judgement, Medians } from './judgement.ts';
import type { Column, Role } from './part.ts';

const ROLE_NAMES: Record<Role, string> = {
  ours: 'Holdfast',
  limit: 'limit of the machine',
  reference: 'reference',
  peer: 'peer',
  variant: 'variant',
};

export interface Cell {
  text: string;
  align: 'left' | 'right';
}

export function figuresTable(
  contestants: readonly { name: string; role: Role }[],
  columns: readonly Column[],
  medians: Medians,
): string[] {
  const left = (text: string): Cell => ({ text, align: 'left' });
  const right = (text: string): Cell => ({ text, align: 'right' });
  const header = [left('contestant'), left('role'), ...columns.map(({ label }) => right(label))];
  const rows = contestants.map(({ name, role }) => {
    const figures = medians.get(name) ?? {};
    return [
      left(role === 'ours' ? `**${name}**` : name),
      left(ROLE_NAMES[role]),
      ...columns.map((column) => right(formatFigure(figures[column.key], column))),
    ];
  });
  return alignTable([header, ...rows]);
}

export function judgementsTable(judgements: readonly (Judgement & { part?: string })[]): string[] {
  const left = (text: string): Cell => ({ text, align: 'left' });
  const right = (text: string): Cell => ({ text, align: 'right' });
  const isOfSeveral = judgements.some(({ part }) => part !== undefined);
  const header = [
    ...(isOfSeveral ? [left('part')] : []),
    left('target'),
    right('measured'),
    left('goal'),
    left('verdict'),
  ];
  const rows = judgements.map(({ part = '', text, value, against, goal, verdict }) => [
    ...(isOfSeveral ? [left(part)] : []),
    left(text),
    right(value === null ? '–' : formatValue(value)),
    left(against === null ? goal : `${goal} × ${against}`),
    left(verdict === 'met' ? 'met' : `**${verdict}**`),
  ]);
  return alignTable([header, ...rows]);
}

/** With its unit, as in "12,300/s" and "4.1 ms". */
export function formatFigure(
  value: number | undefined,
  { unit, digits }: Pick<Column, 'unit' | 'digits'>,
): string {
  if (value === undefined) return '–';
  const number = value.toLocaleString('en-US', {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
  return unit === '' || unit.startsWith('/') ? `${number}${unit}` : `${number} ${unit}`;
}

/** Of a judgement: a ratio, or the figure itself. */
function formatValue(value: number): string {
  return value.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}

/** The first row is the header. */
export function alignTable(rows: readonly (readonly Cell[])[]): string[] {
  const [header = [], ...body] = rows;
  const widths = header.map((_, column) => Math.max(3, ...rows.map((row) => row[column]?.text.length ?? 0)));
  const line = (row: readonly Cell[]): string =>
    `| ${row.map(({ text, align }, column) => pad(text, widths[column] ?? 0, align)).join(' | ')} |`;
  const rule = header.map(({ align }, column) => {
    const dashes = '-'.repeat((widths[column] ?? 0) - (align === 'right' ? 1 : 0));
    return align === 'right' ? `${dashes}:` : dashes;
  });
  return [line(header), `| ${rule.join(' | ')} |`, ...body.map(line)];
}

function pad(text: string, width: number, align: Cell['align']): string {
  return align === 'right' ? text.padStart(width) : text.padEnd(width);
}
