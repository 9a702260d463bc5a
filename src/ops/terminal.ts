/** How a command reads its arguments, and writes to a terminal. */

import type { Writable } from 'node:stream';
import { InvalidArgumentError, type Command } from 'commander';
import { z } from 'zod';
import { MAX_DECISION_CHARS } from '../limits.ts';
import { parseOrderNo } from '../orders/order.ts';

/** The command was understood and could not be carried out: exit code 1. */
export class OpsError extends Error {
  override name = 'OpsError';
}

/** The command was not understood: exit code 2. */
export class UsageError extends Error {
  override name = 'UsageError';
}

// What the commands print: tables, labelled lines and wrapped text, as wide as the terminal.

/** Where a command prints to. */
export interface Terminal {
  out(text: string): void;
  /** A part of a long output, as it is. @returns when it is taken: a slow reader is waited for */
  write(text: string): Promise<void>;
  err(text: string): void;
  /** Replaces the line that shows what is going on; empty: takes it away. */
  progress(text: string): void;
  /** Shows a screen that is shown again and again, until `stopped` aborts. */
  openScreen(): Screen;
  /** Columns that a line may take. */
  columns: number;
}

export interface Screen {
  /** Instead of what was shown before; after it, where the output is no terminal. */
  show(text: string): void;
  /** The terminal is as it was, with what was shown last below. */
  close(): void;
  /** The operator ends it, or no one reads it any more. */
  stopped: AbortSignal;
}

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** The other screen, as an editor has it, without the cursor. */
const ENTER_SCREEN = '\u001B[?1049h\u001B[?25l';
const LEAVE_SCREEN = '\u001B[?25h\u001B[?1049l';
const CLEAR = '\u001B[H\u001B[2J';

/** @param output standard output */
export function openScreen(output: Writable & { isTTY: boolean }): Screen {
  const stopping = new AbortController();
  const stop = () => stopping.abort();
  for (const signal of STOP_SIGNALS) process.on(signal, stop);
  // A reader that goes, such as `head`, would end the process with an error.
  output.on('error', stop);
  let last = '';
  if (output.isTTY) output.write(ENTER_SCREEN);
  return {
    stopped: stopping.signal,
    show(text) {
      last = text;
      output.write(output.isTTY ? `${CLEAR}${text}\n` : `${text}\n`);
    },
    close() {
      for (const signal of STOP_SIGNALS) process.off(signal, stop);
      if (output.isTTY) output.write(`${LEAVE_SCREEN}${last}\n`);
    },
  };
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
    openScreen: () => openScreen(process.stdout),
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

// Arguments and options that several commands share, parsed at the edge.

/** As MySQL numbers rows, and no longer than JavaScript's numbers are exact. */
const ROW_ID = /^[1-9]\d{0,14}$/;

export function rowId(text: string): number {
  if (!ROW_ID.test(text)) throw new InvalidArgumentError('It is a whole number, as the list shows it.');
  return Number(text);
}

export function orderNo(text: string): string {
  if (!parseOrderNo(text))
    throw new InvalidArgumentError('It looks like demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG.');
  return text;
}

export function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,4}$/.test(text)) throw new InvalidArgumentError('It is a whole number from 1 to 99999.');
  return Number(text);
}

function reason(text: string): string {
  const trimmed = text.trim();
  if (trimmed === '' || trimmed.length > MAX_DECISION_CHARS)
    throw new InvalidArgumentError(`It has 1 to ${MAX_DECISION_CHARS} characters.`);
  return trimmed;
}

/** A command that changes something: it must say why. */
export function asAction(command: Command): Command {
  return command.requiredOption('--reason <text>', 'why; the audit log keeps it', reason);
}

const reasonOption = z.object({ reason: z.string() });

/** As the body of a call has it. */
export const readReason = (options: unknown): { reason: string } => reasonOption.parse(options);

export function toJson(value: unknown): string {
  return JSON.stringify(value, undefined, 2);
}

/** A command that only reads: it can print JSON for machines. */
export function asRead(command: Command): Command {
  return command.option('--json', 'print JSON instead of text', false);
}

// A line that shows that something long is going on, on a terminal alone.

const TICK_MS = 1_000;

/** Shows `what` with the seconds that it has taken so far; the line is gone afterwards. */
export async function withProgress<T>(terminal: Terminal, what: string, work: () => Promise<T>): Promise<T> {
  const beganMs = Date.now();
  const show = () => terminal.progress(`${what} … ${Math.round((Date.now() - beganMs) / 1_000)} s`);
  show();
  const ticking = setInterval(show, TICK_MS);
  try {
    return await work();
  } finally {
    clearInterval(ticking);
    terminal.progress('');
  }
}
