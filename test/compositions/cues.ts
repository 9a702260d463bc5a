/**
 * Where the processes of the crash tests die: at a call into a store or to the provider. Only these compositions know of it;
 * the product has no such switch.
 */

import { strict as assert } from 'node:assert';
import { writeSync } from 'node:fs';
import type { PaymentProvider } from '../../src/payments/provider.ts';
import { createMysqlPool, type Pool } from '../../src/stores/mysql.ts';
import type { Stores } from '../../src/stores/open.ts';
import { createOrders } from '../../src/stores/orders.ts';
import { createPayments } from '../../src/stores/payments.ts';

type Parts = Pick<Stores, 'redis' | 'reservations' | 'budget' | 'orders' | 'payments' | 'refunds'> & {
  provider: PaymentProvider;
};

/** before: the call is not made. at-commit: its statements are done, its transaction is open. after: it has answered. */
type Moment = 'before' | 'at-commit' | 'after';

type CueOf<P extends keyof Parts, M extends Moment> = {
  part: P;
  call: keyof Parts[P] & string;
  moment: M;
  /** Not every such call is the one: what must be in what it was asked. */
  about?: string;
};
type Cue =
  | { [P in keyof Parts]: CueOf<P, 'before' | 'after'> }[keyof Parts]
  | { [P in 'orders' | 'payments']: CueOf<P, 'at-commit'> }['orders' | 'payments'];

const CUES = {
  reserved: { part: 'reservations', call: 'reserve', moment: 'after' },
  // Nobody but the relay reads an order from Redis in the worker's process, and nobody else deletes from a stream there.
  'outbox-read': { part: 'reservations', call: 'readOrder', moment: 'before' },
  'before-acknowledge': { part: 'redis', call: 'xdel', moment: 'before' },
  storing: { part: 'orders', call: 'storeOrders', moment: 'at-commit' },
  stored: { part: 'orders', call: 'storeOrders', moment: 'after' },
  'receiving-notice': { part: 'payments', call: 'receive', moment: 'at-commit' },
  'notice-received': { part: 'payments', call: 'receive', moment: 'after' },
  'before-signal': { part: 'budget', call: 'acquire', moment: 'before' },
  'marked-paid': { part: 'orders', call: 'markPaid', moment: 'after' },
  cancelled: { part: 'orders', call: 'cancel', moment: 'after' },
  abandoned: { part: 'orders', call: 'abandon', moment: 'after' },
  'cancel-requested': { part: 'orders', call: 'requestCancel', moment: 'after' },
  'reversal-received': { part: 'payments', call: 'receive', moment: 'after', about: 'payment_reversed' },
  'session-begun': { part: 'payments', call: 'beginSession', moment: 'after' },
  'session-at-provider': { part: 'provider', call: 'openSession', moment: 'after' },
  'refund-made': { part: 'provider', call: 'refund', moment: 'after' },
  'refund-recorded': { part: 'refunds', call: 'recordReversals', moment: 'after' },
  'refund-started': { part: 'refunds', call: 'handedOver', moment: 'before' },
  'reserved-again': { part: 'reservations', call: 'reserveAgain', moment: 'after' },
} as const satisfies Record<string, Cue>;

export type CueName = keyof typeof CUES;

/** What the log's last line says. */
export const lastWords = (cue: CueName): string => `killed at its cue: ${cue}`;

/** From now on this process dies when it comes to the cue; `parts` must not be in use yet. */
export function armCue(name: string | undefined, parts: Parts, mysqlUrl: string): void {
  assert(isCueName(name), `no such cue: ${name}`);
  const cue: Cue = CUES[name];
  const original: unknown = Reflect.get(
    originalPart(cue, parts, () => die(name), mysqlUrl),
    cue.call,
  );
  assert(typeof original === 'function', `${cue.part} has no call ${cue.call}`);
  const owner = parts[cue.part];
  Reflect.set(owner, cue.call, async (...args: unknown[]): Promise<unknown> => {
    const isMeant = cue.about === undefined || JSON.stringify(args).includes(cue.about);
    if (isMeant && cue.moment === 'before') die(name);
    const answer: unknown = await Reflect.apply(original, owner, args);
    if (isMeant && cue.moment === 'after') die(name);
    return answer;
  });
}

function isCueName(name: string | undefined): name is CueName {
  return name !== undefined && Object.hasOwn(CUES, name);
}

/** To die at its commit, a call gets a pool of its own: other transactions of the process must not meet the cue. */
function originalPart(cue: Cue, parts: Parts, dieNow: () => never, mysqlUrl: string): object {
  if (cue.moment !== 'at-commit') return parts[cue.part];
  const pool = dyingAtCommit(createMysqlPool(mysqlUrl), dieNow);
  return cue.part === 'orders' ? createOrders(pool) : createPayments(pool);
}

function dyingAtCommit(pool: Pool, dieNow: () => never): Pool {
  const getConnection = pool.getConnection.bind(pool);
  pool.getConnection = async () => Object.assign(await getConnection(), { commit: async () => dieNow() });
  return pool;
}

/** At once, as a power cut does it: no handler runs, nothing is flushed or closed. */
function die(cue: CueName): never {
  writeSync(process.stdout.fd, `${lastWords(cue)}\n`);
  process.kill(process.pid, 'SIGKILL');
  throw new Error('still alive after SIGKILL');
}
