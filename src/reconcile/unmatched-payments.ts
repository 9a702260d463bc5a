/**
 * Decides unmatched payments, those for an order that MySQL does not have. An order that Redis has is stored
 * and gets its payment. An order that the payment carries signed is reserved again while stock remains.
 * Otherwise the payment is refunded. It is parked for an operator when it names no sale of ours or carries an
 * order that we did not sign, or when nothing could be decided for an hour.
 */

import { ZodError } from 'zod';
import type { RefundReason } from '../money/payment.ts';
import type { UnmatchedPayment } from '../money/unmatched.sql.ts';
import { abandonOrder, storeWithHold } from '../orders/both-stores.ts';
import { withShown, type Order } from '../orders/content.ts';
import { follow } from '../orders/follow.ts';
import { isFinal, parseOrderNo } from '../orders/order.ts';
import type { ReservedOrder } from '../orders/reservations.redis.ts';
import type { OrderSigner } from '../providers/signed-order.ts';
import type { Stores } from '../stores/open.ts';
import type { StepReport } from '../workflows/contract.ts';

/** Payments decided at once: as many as MySQL's connections handle in the time that a stop leaves. */
const UNMATCHED_MAX = 200;
/**
 * Time since a payment came after which it is parked: what prevents a decision for so long needs an operator.
 */
const PARKED_AFTER_MS = 60 * 60_000;

export interface UnmatchedPaymentDeps extends Stores {
  signer: Pick<OrderSigner, 'verify'>;
}

type ParkCause = 'no_order_named' | 'order_damaged' | 'order_not_ours' | 'paid_order_refused';

/** wait: nothing can be decided now, and `why` is shown to an operator if it stays so. */
type Decision =
  | { kind: 'settled'; as: string }
  | { kind: 'refund'; reason: RefundReason }
  | { kind: 'park'; why: string; cause: ParkCause }
  | { kind: 'wait'; why: string; cause: 'undecided' };

type Applied = 'repaired' | 'parked' | 'undecided';

export async function decideUnmatchedPayments(deps: UnmatchedPaymentDeps): Promise<StepReport> {
  const { unmatchedPayments, sales, log } = deps;
  const found = await unmatchedPayments.list(UNMATCHED_MAX);
  if (found.length === 0) return { looked: 0, repaired: 0, parked: 0 };
  const saleIds = new Set(await sales.listIds());
  const results = await Promise.allSettled(
    found.map((unmatched) => decideAndApply(deps, saleIds, unmatched)),
  );
  const failures = results.flatMap((result, i) =>
    result.status === 'rejected' ? [{ error: result.reason as unknown, unmatched: found[i] }] : [],
  );
  // A single failure must not delay the others. When all fail, a store is away.
  if (failures.length === found.length) throw failures[0]?.error;
  for (const { error, unmatched } of failures)
    log.warn({ err: error, paymentId: unmatched?.paymentId }, 'an unmatched payment is still undecided');
  const applied = results.map((result) => (result.status === 'fulfilled' ? result.value : 'undecided'));
  const count = (as: Applied) => applied.filter((each) => each === as).length;
  return { looked: found.length, repaired: count('repaired'), parked: count('parked') };
}

async function decideAndApply(
  deps: UnmatchedPaymentDeps,
  saleIds: ReadonlySet<string>,
  unmatched: UnmatchedPayment,
): Promise<Applied> {
  const { unmatchedPayments, log } = deps;
  const { paymentId, providerPaymentId, orderNo } = unmatched;
  const decision = await decide(deps, saleIds, unmatched).catch((error: unknown): Decision => {
    // A payment that has failed for so long is parked instead of being left to another pass.
    if (!isOverdue(unmatched)) throw error;
    return { kind: 'wait', cause: 'undecided', why: `nothing could be decided: ${String(error)}` };
  });
  if (decision.kind === 'wait' && !isOverdue(unmatched)) return 'undecided';
  log.warn({ paymentId, orderNo, ...decision }, 'a payment had no stored order');
  if (decision.kind === 'refund') await unmatchedPayments.refund(paymentId, decision.reason);
  if (decision.kind === 'settled' || decision.kind === 'refund') return 'repaired';
  await unmatchedPayments.park(providerPaymentId, decision.why, decision.cause);
  return 'parked';
}

function isOverdue({ receivedAtMs }: UnmatchedPayment): boolean {
  return Date.now() - receivedAtMs >= PARKED_AFTER_MS;
}

async function decide(
  deps: UnmatchedPaymentDeps,
  saleIds: ReadonlySet<string>,
  unmatched: UnmatchedPayment,
): Promise<Decision> {
  const { orderNo } = unmatched;
  const saleId = parseOrderNo(orderNo)?.saleId;
  if (saleId === undefined || !saleIds.has(saleId)) {
    return { kind: 'park', cause: 'no_order_named', why: `it names no order of any sale: ${orderNo}` };
  }
  const known = await readOrder(deps, orderNo);
  if (known === 'damaged')
    return { kind: 'park', cause: 'order_damaged', why: `Redis has order ${orderNo}, but not whole` };
  if (known) return decideKnown(deps, known);
  const order = await verify(deps.signer, unmatched);
  if (order === 'strange')
    return { kind: 'park', cause: 'order_not_ours', why: `it carries an order that is not ours: ${orderNo}` };
  if (order) return reserveAgain(deps, order);
  // In a Redis that has lost data a missing order means nothing, until they are made again from MySQL.
  if ((await deps.saleStock.checkLife(saleId)).kind === 'well')
    return { kind: 'refund', reason: 'order_unknown' };
  return saleAbsent(deps, orderNo);
}

async function readOrder({ reservations }: UnmatchedPaymentDeps, orderNo: string) {
  try {
    return await reservations.readOrder(orderNo);
  } catch (error) {
    if (error instanceof ZodError) return 'damaged';
    throw error;
  }
}

/** Stores the order, which matches it with its payment. The starter then starts or signals its workflow. */
async function decideKnown(deps: UnmatchedPaymentDeps, { order, state }: ReservedOrder): Promise<Decision> {
  const { orderNo } = order;
  // The order has ended unpaid, and its stock was released.
  if (isFinal(state.status) && state.status !== 'paid') return { kind: 'refund', reason: 'order_ended' };
  const outcome = await storeWithHold(deps, withShown(order, state), 'due');
  if (outcome.kind !== 'refused') {
    await follow(deps, [{ orderNo, state: outcome.state }]);
    return { kind: 'settled', as: outcome.kind };
  }
  if (state.status === 'paid')
    return {
      kind: 'park',
      cause: 'paid_order_refused',
      why: `order ${orderNo} was paid, and cannot be stored again: ${outcome.reason}`,
    };
  // Its workflow may have ended already, and then no other process releases its stock.
  await abandonOrder(deps, order, outcome.reason);
  return { kind: 'settled', as: 'abandoned' };
}

async function reserveAgain(deps: UnmatchedPaymentDeps, order: Order): Promise<Decision> {
  const { orderNo } = order;
  const outcome = await deps.reservations.reserveAgain(order);
  switch (outcome.kind) {
    case 'reserved':
      return { kind: 'settled', as: 'reserved again' };
    case 'known':
      // The order came since it was read, and the next pass decides it. Or it was restored before, has ended,
      // and its projection has expired.
      return {
        kind: 'wait',
        cause: 'undecided',
        why: `order ${orderNo} is ${outcome.hold} in Redis, and MySQL does not know it`,
      };
    case 'sold-out':
    case 'unknown-sku':
      return { kind: 'refund', reason: 'sold_out' };
    case 'sale-absent':
    // For a lost hold alone.
    case 'too-late':
      return saleAbsent(deps, orderNo);
    default:
      return outcome satisfies never;
  }
}

/**
 * Undefined when the payment carries no signed order. 'strange': it is signed with none of our secrets, or is
 * another order than the payment names.
 */
async function verify(
  signer: Pick<OrderSigner, 'verify'>,
  { orderNo, signedOrder }: UnmatchedPayment,
): Promise<Order | 'strange' | undefined> {
  if (signedOrder === null) return undefined;
  const order = await signer.verify(signedOrder);
  return order?.orderNo === orderNo ? order : 'strange';
}

/** The data of a sale that is long over do not come back, so no order of it can be restored. */
async function saleAbsent({ sales }: UnmatchedPaymentDeps, orderNo: string): Promise<Decision> {
  if (!(await sales.isWatched(parseOrderNo(orderNo)?.saleId ?? '')))
    return { kind: 'refund', reason: 'order_unknown' };
  return {
    kind: 'wait',
    cause: 'undecided',
    why: `order ${orderNo} is not known, and its sale is not in Redis`,
  };
}
