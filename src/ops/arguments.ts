/** Arguments and options that several commands share, parsed at the edge. */

import { InvalidArgumentError, type Command } from 'commander';
import { z } from 'zod';
import { MAX_DECISION_CHARS } from '../domain/limits.ts';
import { parseOrderNo } from '../domain/order.ts';
import type { Decision } from '../stores/mysql/rows/audit-log.ts';

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

function actor(text: string): string {
  if (!/^[\w.@+-]{1,128}$/.test(text))
    throw new InvalidArgumentError('It is a name: letters, digits and . _ @ + -, up to 128.');
  return text;
}

/** A command that changes something: it must say why, and the log of actions keeps who. */
export function asAction(command: Command, user: string): Command {
  return command
    .requiredOption('--reason <text>', 'why; kept in audit_log', reason)
    .option('--as <name>', 'who decides this; kept in audit_log', actor, user);
}

const decisionOptions = z.object({ reason: z.string(), as: z.string() });

export function readDecision(options: unknown): Decision {
  const { reason: why, as } = decisionOptions.parse(options);
  return { actor: as, reason: why };
}

/** A command that only reads: it can print JSON for machines. */
export function asRead(command: Command): Command {
  return command.option('--json', 'print JSON instead of text', false);
}
