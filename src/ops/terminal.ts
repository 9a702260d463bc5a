/** What the commands print: tables, labelled lines and wrapped text, as wide as the terminal. */

/** Where a command prints to. */
export interface Terminal {
  out(text: string): void;
  /** A part of a long output, as it is. @returns when it is taken: a slow reader is waited for */
  write(text: string): Promise<void>;
  err(text: string): void;
  /** Replaces the line that shows what is going on; empty: takes it away. */
  progress(text: string): void;
  /** Columns that a line may take. */
  columns: number;
}

/** Where the output goes to a file or another program: what fits into a mail and a ticket. */
const DEFAULT_COLUMNS = 100;
/** Below this, wrapped text would be a word a line. */
const MIN_COLUMNS = 60;

export function openTerminal(): Terminal {
  return {
    out: (text) => void process.stdout.write(`${text}\n`),
    write: (text) =>
      new Promise((resolve, reject) => {
        process.stdout.write(text, (error) => (error ? reject(error) : resolve()));
      }),
    err: (text) => void process.stderr.write(`${text}\n`),
    progress(text) {
      if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`);
    },
    columns: Math.max(process.stdout.columns ?? DEFAULT_COLUMNS, MIN_COLUMNS),
  };
}

/** Columns are as wide as their content. A line that is too long for the terminal is cut at its end. */
export function formatTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns: number,
): string {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cut(
      cells
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
      columns,
    );
  return [line(head), ...rows.map(line)].join('\n');
}

/** Each label with its text, which is wrapped beside it. */
export function formatFields(fields: readonly (readonly [string, string])[], columns: number): string {
  const width = Math.max(...fields.map(([label]) => label.length)) + 4;
  return fields.map(([label, text]) => hang(`  ${label}`.padEnd(width), text, columns)).join('\n');
}

/** Wraps `text` at words; further lines begin below it, not below `head`. */
export function hang(head: string, text: string, columns: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && head.length + line.length + 1 + word.length > columns) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].map((part, i) => (i === 0 ? head : ' '.repeat(head.length)) + part).join('\n');
}

function cut(line: string, columns: number): string {
  return line.length <= columns ? line : `${line.slice(0, columns - 1)}…`;
}

/** `2026-11-22 12:00:01.123`, in UTC. */
export function formatTime(at: Date): string {
  return at.toISOString().replace('T', ' ').replace('Z', '');
}

/** `3 min`: in the greatest unit that fits. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3_600) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}
