/**
 * Where the processes of the crash tests die, or freeze: at a call to Redis, MySQL or the provider, as it is
 * on the wire. Only these compositions know of it; the product has no such switch.
 */

import assert from 'node:assert/strict';
import { writeSync } from 'node:fs';
import { listen, type Call } from './wires.ts';

/** What is sent. `about`: text that it carries; where that is missing, the call is not meant. */
type Aim =
  /** A command of Redis, or the script of this name. Its reply may carry the text as well. */
  | { command: string; about?: string }
  /** The beginning of a statement. Its values stand in it. */
  | { statement: string; about?: string }
  /** The COMMIT of a transaction that had statements with these beginnings. */
  | { commitOf: readonly string[]; about?: string }
  /** A call to the provider, as its contract names it: docs/provider-openapi.json. */
  | { request: string };

/** before: nothing of it is sent. after: it is answered, and its caller does not know yet. */
export type Cue = Aim & {
  moment: 'before' | 'after';
  /** The cue is one only after this was answered. */
  once?: Aim;
};

/** Of an order, whatever of it changes. */
const CHANGE = 'UPDATE orders SET version = version +';

export const CUES = {
  reserved: { command: 'reserve', moment: 'after' },
  // Redis answers also when it has no entry.
  'outbox-read': { command: 'xreadgroup', about: 'order_no', moment: 'after' },
  // Once a page has its slots, a relay asks for the time and stores the page. Every orderNo has a dash.
  'about-to-store': { command: 'server-time', once: { command: 'admit', about: '-' }, moment: 'after' },
  storing: { commitOf: ['INSERT INTO order_items'], moment: 'before' },
  stored: { commitOf: ['INSERT INTO order_items'], moment: 'after' },
  // The relay has stored the order, and its workflow's persistOrder finds it.
  persisted: { commitOf: ['UPDATE orders SET workflow_started_at = NOW(3)'], moment: 'after' },
  'order-started': {
    statement: 'UPDATE orders SET engine_due_at = NULL, workflow_started_at =',
    moment: 'before',
  },
  // Where no workflow runs, the relay alone projects.
  'projected-ahead': { command: 'project', moment: 'after' },
  // A page of notices. It pays for the orders.
  'paid-by-notice': {
    commitOf: ['INSERT INTO payment_events', "UPDATE payments SET status = 'applied'"],
    moment: 'after',
  },
  // What the provider has answered to a void pays for the order.
  'paid-by-void': { commitOf: ["UPDATE payments SET status = 'applied'"], moment: 'after' },
  'about-to-follow': { command: 'confirm', moment: 'before' },
  followed: { statement: 'UPDATE orders SET end_due_at = NULL', moment: 'before' },
  'before-signal': { command: 'admit', about: '-', moment: 'before' },
  cancelled: { commitOf: [CHANGE], about: "'cancelled'", moment: 'after' },
  // Where no workflow ends an order, the ender releases it.
  'ended-unbegun': { command: 'release', moment: 'before' },
  'session-void': { request: 'POST /v1/payment_sessions/{id}/void', moment: 'after' },
  abandoned: { commitOf: ['INSERT INTO orders ('], about: "'failed'", moment: 'after' },
  'cancel-requested': {
    commitOf: [CHANGE],
    about: "'shopper_request'",
    moment: 'after',
  },
  'session-at-provider': { request: 'POST /v1/payment_sessions', moment: 'after' },
  'refund-made': { request: 'POST /v1/refunds', moment: 'after' },
  'refund-recorded': { commitOf: ['INSERT INTO reversals'], moment: 'after' },
  'give-back-booked': { commitOf: ['UPDATE refunds SET given_back = TRUE'], moment: 'after' },
  // A claim that is released or taken gets a time.
  'refund-started': { statement: 'UPDATE payments SET engine_due_at =', about: '= NULL', moment: 'before' },
  // A pass that finds nothing commits too.
  'numbering-events': { commitOf: ['UPDATE event_dispatch'], moment: 'before' },
  pushed: { statement: "UPDATE push_deliveries SET status = 'delivered'", moment: 'before' },
  // A warm-up is a change as well.
  'change-recorded': { commitOf: ['INSERT INTO sale_changes'], about: "'put'", moment: 'after' },
  // The sales of these tests are warm before the process begins.
  'change-decided': { command: 'change-sale', moment: 'after' },
  'reserved-again': { command: 'reserve-again', moment: 'after' },
} as const satisfies Record<string, Cue>;

export type CueName = keyof typeof CUES;

/** The last line of the dead process's log. */
export const lastWords = (cue: CueName): string => `killed at its cue: ${cue}`;

/** The last line of the log of a process that freezes there. */
export const frozenAt = (cue: CueName): string => `frozen at its cue: ${cue}`;

/** From now on this process dies when it reaches the cue, or freezes when it first does. */
export function armCue(name: string | undefined, fate: 'dies' | 'freezes' = 'dies'): void {
  assert(isCueName(name), `no such cue: ${name}`);
  const cue: Cue = CUES[name];
  const { once } = cue;
  let isNear = once === undefined;
  let isSpent = false;
  const meetFate = (): void => {
    if (fate === 'dies') die(name);
    if (!isSpent) freeze(name);
    isSpent = true;
  };
  listen({
    sending(call) {
      if (cue.moment === 'before' && isNear && isMeant(call, cue)) meetFate();
    },
    answered(call) {
      if (cue.moment === 'after' && isNear && isMeant(call, cue)) meetFate();
      if (once && isMeant(call, once)) isNear = true;
    },
  });
}

function isCueName(name: string | undefined): name is CueName {
  return name !== undefined && Object.hasOwn(CUES, name);
}

function isMeant(call: Call, aim: Aim): boolean {
  if ('request' in aim) return call.wire === 'http' && isRequest(call.request, aim.request);
  const { about = '' } = aim;
  if ('command' in aim)
    return call.wire === 'redis' && call.command === aim.command && call.text.includes(about);
  if (call.wire !== 'mysql') return false;
  const isOne = (beginning: string, statement: string) =>
    statement.startsWith(beginning) && statement.includes(about);
  if ('statement' in aim) return isOne(aim.statement, call.statement);
  const { statement: last, transaction } = call;
  return (
    last === 'COMMIT' &&
    aim.commitOf.every((beginning) => transaction.some((statement) => isOne(beginning, statement)))
  );
}

/** @param pattern with the names of what varies in its path, in braces */
function isRequest(request: string, pattern: string): boolean {
  return new RegExp(`^${pattern.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(request);
}

/** At once, as a power cut does it: no handler runs, nothing is flushed or closed. */
function die(cue: CueName): never {
  writeSync(process.stdout.fd, `${lastWords(cue)}\n`);
  process.kill(process.pid, 'SIGKILL');
  throw new Error('still alive after SIGKILL');
}

/** Until it gets SIGCONT. The signal comes before the call returns. */
function freeze(cue: CueName): void {
  writeSync(process.stdout.fd, `${frozenAt(cue)}\n`);
  process.kill(process.pid, 'SIGSTOP');
}
