/**
 * The money of a trial in the provider's book and in Holdfast's:
 * whether it has come to rest, and whether both agree.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import type { BookedPayment } from '../sandbox/test-wire.ts';
import { NO_PROVIDER, PAYMENT_STATUSES, type PaymentStatus } from '../src/money/payment.ts';
import { selectRows } from '../src/mysql/connection.ts';
import { listCallingOffs } from './called-off.ts';
import type { Violation } from './history.ts';
import type { System } from './system.ts';

/**
 * The slowest money is late, for an order that no store knows, and found by
 * reconciliation because its callback was dropped: it is back within three minutes.
 */
const REST_TIMEOUT_MS = 240_000;
const LOOK_EVERY_MS = 1_000;

type Deps = Pick<System, 'stores' | 'providerConsole'>;

/** Payments, and what they add up to in minor units. */
interface Sum {
  count: number;
  amount: number;
}

export interface Books {
  /** As the provider has it. `returned` counts the payments of which something went back. */
  collected: Sum;
  returned: Sum;
  /** As Holdfast has it, by status. */
  known: ReadonlyMap<PaymentStatus, Sum>;
  /** What Holdfast knows to have gone back. */
  knownReturned: Sum;
  /** Not parked by its status, and shown to an operator all the same. */
  shown: Sum;
  uneven: Violation[];
}

const paymentRow = z.object({
  provider_payment_id: z.string(),
  status: z.enum(PAYMENT_STATUSES),
  amount: z.int(),
  returned: z.coerce.number(),
  is_shown: z.coerce.boolean(),
});
type KnownPayment = z.infer<typeof paymentRow>;

/**
 * Waits until nothing moves any more, both books agree, and the stores were compared after the last fault.
 * @returns what still moves when the time is up
 */
export async function awaitRest(deps: Deps, saleId: string): Promise<string[]> {
  const untilMs = Date.now() + REST_TIMEOUT_MS;
  let sessions = await listSessions(deps, saleId);
  for (;;) {
    sessions = await filterPromised(deps, sessions);
    const [collected, known, refunds, notCompared, callingOffs] = await Promise.all([
      listCollected(deps, saleId),
      readKnown(deps, saleId),
      listOpenRefunds(deps, saleId),
      listNotCompared(deps),
      listCallingOffs(deps, saleId),
    ]);
    const moving = [
      ...sessions.map((session) => `money is promised in session ${session}`),
      ...known.filter(isMoving).map((row) => `payment ${row.provider_payment_id} is ${row.status}`),
      ...refunds.map((refundId) => `refund ${refundId} has not ended, or given nothing back`),
      ...notCompared.map((sale) => `the stores have not been compared for sale ${sale}`),
      ...callingOffs.map((sku) => `the calling-off of ${sku} has not ended`),
    ];
    const isAtRest = moving.length === 0 && compare(collected, known).length === 0;
    if (isAtRest || Date.now() >= untilMs) return moving;
    await delay(LOOK_EVERY_MS);
  }
}

/** Unless an operator has been shown it. */
const isMoving = ({ status, is_shown: isShown }: KnownPayment): boolean =>
  !isShown && (status === 'received' || status === 'refund_due');

export async function readBooks(deps: Deps, saleId: string): Promise<Books> {
  const [collected, known] = await Promise.all([listCollected(deps, saleId), readKnown(deps, saleId)]);
  const byStatus = PAYMENT_STATUSES.map((status) => {
    const ofStatus = known.filter((row) => row.status === status);
    return [status, sum(ofStatus.map(({ amount }) => amount))] as const;
  });
  const isShown = (row: KnownPayment) => row.is_shown && row.status !== 'parked';
  return {
    collected: sum(collected.map(({ amount }) => amount)),
    returned: sum(collected.map(({ returned }) => returned)),
    known: new Map(byStatus),
    knownReturned: sum(known.map(({ returned }) => returned)),
    shown: sum(known.filter(isShown).map(({ amount }) => amount)),
    uneven: compare(collected, known).map((found) => ({ check: 'both books agree', ...found })),
  };
}

/** Payment by payment, to the cent. */
function compare(
  collected: readonly BookedPayment[],
  known: readonly KnownPayment[],
): { subject: string; detail: string }[] {
  const rows = new Map(known.map((row) => [row.provider_payment_id, row]));
  const differences = collected.flatMap(({ id: subject, amount, returned }) => {
    const row = rows.get(subject);
    rows.delete(subject);
    if (!row) return [{ subject, detail: `${amount} collected, and not known` }];
    const isOver = row.status === 'refunded' && row.returned !== row.amount;
    if (row.amount === amount && row.returned === returned && !isOver) return [];
    const detail = `${row.status}, ${row.amount} known and ${row.returned} of it returned; the provider took ${amount} and returned ${returned}`;
    return [{ subject, detail }];
  });
  const invented = [...rows.keys()].map((subject) => ({ subject, detail: 'the provider did not take it' }));
  return [...differences, ...invented];
}

function sum(amounts: readonly number[]): Sum {
  return {
    count: amounts.filter((amount) => amount !== 0).length,
    amount: amounts.reduce((total, amount) => total + amount, 0),
  };
}

async function listCollected({ providerConsole }: Deps, saleId: string): Promise<BookedPayment[]> {
  return (await providerConsole.listPayments()).filter(({ reference }) => reference.startsWith(`${saleId}-`));
}

/** Of the shop's staff: the money is on its way, or the units are not on sale again. */
async function listOpenRefunds({ stores }: Deps, saleId: string): Promise<number[]> {
  const rows = await selectRows(
    stores.pool,
    z.object({ refund_id: z.coerce.number() }),
    `SELECT refund_id FROM refunds WHERE order_no LIKE ?
       AND (status = 'requested' OR (status = 'succeeded' AND NOT given_back AND items IS NOT NULL))`,
    [`${saleId}-%`],
  );
  return rows.map(({ refund_id: refundId }) => refundId);
}

/** A fault has kept a run of the reconciliation from it; the next one does it. */
async function listNotCompared({ stores }: Deps): Promise<string[]> {
  const rows = await selectRows(
    stores.pool,
    z.object({ reference: z.string() }),
    "SELECT reference FROM parked WHERE cause = 'sale_not_compared' AND resolved_at IS NULL",
  );
  return rows.map(({ reference }) => reference);
}

/** But for the payments of free orders, which are of no provider. */
function readKnown({ stores }: Deps, saleId: string): Promise<KnownPayment[]> {
  return selectRows(
    stores.pool,
    paymentRow,
    `SELECT p.provider_payment_id, p.status, p.amount,
       (SELECT COALESCE(SUM(r.amount), 0) FROM reversals r WHERE r.provider = p.provider
          AND r.provider_payment_id = p.provider_payment_id AND r.status = 'succeeded') AS returned,
       EXISTS (SELECT 1 FROM parked k WHERE k.kind IN ('payment', 'refund') AND k.reference = p.provider_payment_id
          AND k.resolved_at IS NULL) AS is_shown
     FROM payments p WHERE p.order_no LIKE ? AND p.provider <> ?`,
    [`${saleId}-%`, NO_PROVIDER],
  );
}

async function listSessions({ stores }: Deps, saleId: string): Promise<string[]> {
  const rows = await selectRows(
    stores.pool,
    z.object({ provider_session_id: z.string() }),
    'SELECT provider_session_id FROM payment_sessions WHERE order_no LIKE ? AND provider_session_id IS NOT NULL',
    [`${saleId}-%`],
  );
  return rows.map((row) => row.provider_session_id);
}

/**
 * Those in which the shopper has paid and the money is not
 * collected yet. One by one: the provider is one small process.
 */
async function filterPromised({ providerConsole }: Deps, sessions: readonly string[]): Promise<string[]> {
  const isPromised = async (session: string): Promise<boolean> =>
    (await providerConsole.readSession(session)).status === 'processing';
  const promised: string[] = [];
  for (const session of sessions) if (await isPromised(session)) promised.push(session);
  return promised;
}
