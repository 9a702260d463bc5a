/**
 * Where the processes of the crash tests die, or freeze: at a call into a store or to the
 * provider. Only these compositions know of it; the product has no such switch.
 */

import assert from 'node:assert/strict';
import { writeSync } from 'node:fs';
import type { PaymentProvider } from '../../src/payments/provider.ts';
import { createMysqlPool, type Pool } from '../../src/stores/mysql/connection.ts';
import { createEventDispatch } from '../../src/stores/mysql/events/event-dispatch.ts';
import { createPayments } from '../../src/stores/mysql/money/payments.ts';
import { createOrders } from '../../src/stores/mysql/orders/orders.ts';
import { createSaleChanges } from '../../src/stores/mysql/sales/sale-changes.ts';
import type { Stores } from '../../src/stores/open.ts';

type Parts = Pick<
  Stores,
  | 'redis'
  | 'reservations'
  | 'orderClaims'
  | 'budget'
  | 'orders'
  | 'endings'
  | 'payments'
  | 'paymentSessions'
  | 'refunds'
  | 'refundClaims'
  | 'eventDispatch'
  | 'deliveryClaims'
  | 'endpointFeed'
  | 'saleChanges'
  | 'saleStock'
> & {
  provider: PaymentProvider;
};

/**
 * before: the call is not made. at-commit: its statements
 * are done, its transaction is open. after: it has answered.
 */
type Moment = 'before' | 'at-commit' | 'after';

type CueOf<P extends keyof Parts, M extends Moment> = {
  part: P;
  /** One of these methods; whichever is called first. */
  calls: readonly (keyof Parts[P] & string)[];
  moment: M;
  /** Text that the call's arguments must contain; where it is missing, the call is not the cue. */
  about?: string;
  /** A statement that a transaction must have had before its commit is the cue. */
  having?: string;
};
type Committing = 'orders' | 'payments' | 'eventDispatch' | 'saleChanges';
type Cue =
  | { [P in keyof Parts]: CueOf<P, 'before' | 'after'> }[keyof Parts]
  | { [P in Committing]: CueOf<P, 'at-commit'> }[Committing];

const CUES = {
  reserved: { part: 'reservations', calls: ['reserve'], moment: 'after' },
  // In the worker's process the relay alone reads orders
  // from Redis.
  'outbox-read': { part: 'reservations', calls: ['readOrders'], moment: 'before' },
  'about-to-store': { part: 'orders', calls: ['storeOrders'], moment: 'before', about: '-' },
  storing: { part: 'orders', calls: ['storeOrders', 'storeOrder'], moment: 'at-commit' },
  stored: { part: 'orders', calls: ['storeOrders', 'storeOrder'], moment: 'after' },
  // The relay stores pages; a single order is stored by its workflow's persistOrder.
  persisting: { part: 'orders', calls: ['storeOrder'], moment: 'at-commit' },
  persisted: { part: 'orders', calls: ['storeOrder'], moment: 'after' },
  // Called with no order it ends no claim; every orderNo has a dash.
  'order-started': { part: 'orderClaims', calls: ['complete'], moment: 'before', about: '-' },
  'projected-ahead': { part: 'reservations', calls: ['projectAll'], moment: 'after' },
  'receiving-notice': { part: 'payments', calls: ['receive'], moment: 'at-commit' },
  'notice-received': { part: 'payments', calls: ['receive'], moment: 'after' },
  'before-signal': { part: 'budget', calls: ['acquire'], moment: 'before' },
  'marked-paid': { part: 'orders', calls: ['markPaid'], moment: 'after' },
  'stock-sold': { part: 'reservations', calls: ['confirm'], moment: 'after' },
  'stock-released': { part: 'reservations', calls: ['release'], moment: 'after' },
  cancelled: { part: 'orders', calls: ['cancel'], moment: 'after' },
  // Where no workflow ends an order, the ender releases it.
  'ended-unbegun': { part: 'reservations', calls: ['release'], moment: 'before' },
  'end-in-redis': { part: 'endings', calls: ['complete'], moment: 'before', about: '-' },
  'session-void': { part: 'provider', calls: ['voidSession'], moment: 'after' },
  abandoned: { part: 'orders', calls: ['abandon'], moment: 'after' },
  'cancel-requested': { part: 'orders', calls: ['requestCancel'], moment: 'after' },
  'reversal-received': { part: 'payments', calls: ['receive'], moment: 'after', about: 'payment_reversed' },
  'session-begun': { part: 'paymentSessions', calls: ['begin'], moment: 'after' },
  'session-at-provider': { part: 'provider', calls: ['openSession'], moment: 'after' },
  'refund-made': { part: 'provider', calls: ['refund'], moment: 'after' },
  'refund-recorded': { part: 'refunds', calls: ['recordReversals'], moment: 'after' },
  'give-back-booked': { part: 'refunds', calls: ['bookGiveBacks'], moment: 'after' },
  'units-given-back': { part: 'reservations', calls: ['giveBack'], moment: 'after' },
  'refund-started': { part: 'refundClaims', calls: ['complete'], moment: 'before' },
  // A pass that finds nothing commits too.
  'numbering-events': {
    part: 'eventDispatch',
    calls: ['numberEvents'],
    moment: 'at-commit',
    having: 'UPDATE event_dispatch',
  },
  pushed: { part: 'deliveryClaims', calls: ['complete'], moment: 'before' },
  fed: { part: 'endpointFeed', calls: ['advance'], moment: 'after', about: 'eventId' },
  'change-recorded': { part: 'saleChanges', calls: ['record'], moment: 'after' },
  // A warm-up is a change as well.
  'change-decided': { part: 'saleStock', calls: ['change'], moment: 'after', about: '"put"' },
  'change-settling': { part: 'saleChanges', calls: ['complete'], moment: 'at-commit', about: '"put"' },
  'reserved-again': { part: 'reservations', calls: ['reserveAgain'], moment: 'after' },
} as const satisfies Record<string, Cue>;

export type CueName = keyof typeof CUES;

/** The last line of the dead process's log. */
export const lastWords = (cue: CueName): string => `killed at its cue: ${cue}`;

/** The last line of the log of a process that freezes there. */
export const frozenAt = (cue: CueName): string => `frozen at its cue: ${cue}`;

/**
 * From now on this process dies when it reaches the cue, or freezes when it first does; `parts` must not be
 * in use yet.
 */
export function armCue(
  name: string | undefined,
  parts: Parts,
  mysqlUrl: string,
  fate: 'dies' | 'freezes' = 'dies',
): void {
  assert(isCueName(name), `no such cue: ${name}`);
  const cue: Cue = CUES[name];
  let isSpent = false;
  const meetFate = (): void => {
    if (fate === 'dies') die(name);
    if (!isSpent) freeze(name);
    isSpent = true;
  };
  const originals = originalPart(cue, parts, meetFate, mysqlUrl);
  const owner = parts[cue.part];
  for (const call of cue.calls) {
    const original: unknown = Reflect.get(originals, call);
    assert(typeof original === 'function', `${cue.part} has no call ${call}`);
    Reflect.set(owner, call, async (...args: unknown[]): Promise<unknown> => {
      const isMeant = cue.about === undefined || JSON.stringify(args).includes(cue.about);
      if (isMeant && cue.moment === 'before') meetFate();
      const answer: unknown = await Reflect.apply(original, owner, args);
      if (isMeant && cue.moment === 'after') meetFate();
      return answer;
    });
  }
}

function isCueName(name: string | undefined): name is CueName {
  return name !== undefined && Object.hasOwn(CUES, name);
}

/**
 * To die at its commit, a call gets a pool of its own:
 * other transactions of the process must not meet the cue.
 */
function originalPart(cue: Cue, parts: Parts, meetFate: () => void, mysqlUrl: string): object {
  if (cue.moment !== 'at-commit') return parts[cue.part];
  const pool = dyingAtCommit(createMysqlPool(mysqlUrl), cue.having, meetFate);
  if (cue.part === 'eventDispatch') return createEventDispatch(pool);
  if (cue.part === 'saleChanges') return createSaleChanges(pool);
  return cue.part === 'orders' ? createOrders(pool) : createPayments(pool);
}

function dyingAtCommit(pool: Pool, having: string | undefined, meetFate: () => void): Pool {
  const getConnection = pool.getConnection.bind(pool);
  pool.getConnection = async () => {
    const connection = await getConnection();
    const [query, commit] = [connection.query.bind(connection), connection.commit.bind(connection)];
    let isCue = having === undefined;
    return Object.assign(connection, {
      query: (sql: string, ...rest: unknown[]): unknown => {
        if (having !== undefined && sql.startsWith(having)) isCue = true;
        return Reflect.apply(query, connection, [sql, ...rest]);
      },
      commit: async () => {
        if (isCue) meetFate();
        return commit();
      },
    });
  };
  return pool;
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
