/**
 * Money for an order that MySQL does not know. Redis may know the order: then it is stored now, and gets its money. Or the payment
 * carries the order's essentials, signed: then it is reserved again while stock remains. Otherwise the money goes back. Only a
 * payment that names no sale of ours, or whose stores stay silent about it, is left to a person.
 */

import type { Logger } from 'pino';
import { ZodError } from 'zod';
import { isFinal, parseOrderNo, type Order } from '../domain/order.ts';
import type { RefundReason } from '../domain/payment.ts';
import type { OrderSigner } from '../payments/signed-order.ts';
import type { UnmatchedPayment, UnmatchedPayments } from '../stores/mysql/money/unmatched-payments.ts';
import type { Orders } from '../stores/mysql/orders/orders.ts';
import type { Sales } from '../stores/mysql/sales.ts';
import type { ReservedOrder, Reservations } from '../stores/redis/reservations.ts';
import type { SaleStock } from '../stores/redis/sale-stock.ts';
import { projectAndRelease, abandonOrder } from './abandon.ts';

/** Such money has waited for a minute, so a few seconds more cost nobody anything; an idle look is one query. */
const SWEEP_EVERY_MS = 5_000;
/** Settled side by side: as many as MySQL's connections take within the time that a stop leaves to a pass. */
const UNMATCHED_MAX = 200;
/** Since it came: what stands in the way of a decision is gone sooner, or somebody must look why not. */
const PARKED_AFTER_MS = 60 * 60_000;

export interface UnmatchedPaymentDeps {
  unmatchedPayments: UnmatchedPayments;
  orders: Pick<Orders, 'storeOrder' | 'abandon'>;
  reservations: Pick<Reservations, 'readOrder' | 'reserveAgain' | 'project' | 'release'>;
  sales: Pick<Sales, 'listIds'>;
  saleStock: Pick<SaleStock, 'read'>;
  signer: Pick<OrderSigner, 'verify'>;
  log: Logger;
}

/** wait: nothing can be decided now; `why` is what a person is told when it stays so. */
type Decision =
  | { kind: 'settled'; as: string }
  | { kind: 'refund'; reason: RefundReason }
  | { kind: 'park'; why: string }
  | { kind: 'wait'; why: string };

/** @returns one pass of the sweep's loop; it answers the pause before the next */
export function createUnmatchedPaymentSweep(deps: UnmatchedPaymentDeps): () => Promise<number> {
  const { unmatchedPayments, log } = deps;

  async function applyDecision(unmatched: UnmatchedPayment, decision: Decision): Promise<void> {
    const { paymentId, providerPaymentId, orderNo } = unmatched;
    if (decision.kind === 'wait' && !isOverdue(unmatched)) return;
    log.warn({ paymentId, orderNo, ...decision }, 'money had no order');
    if (decision.kind === 'refund') await unmatchedPayments.refund(paymentId, decision.reason);
    if (decision.kind === 'park' || decision.kind === 'wait')
      await unmatchedPayments.park(providerPaymentId, decision.why);
  }

  async function settle(saleIds: ReadonlySet<string>, unmatched: UnmatchedPayment): Promise<void> {
    const decision = await decide(deps, saleIds, unmatched).catch((error: unknown): Decision => {
      // What fails for so long is not left to another pass, but to a person.
      if (!isOverdue(unmatched)) throw error;
      return { kind: 'wait', why: `nothing could be decided: ${String(error)}` };
    });
    await applyDecision(unmatched, decision);
  }

  return async function pass(): Promise<number> {
    const found = await unmatchedPayments.list(UNMATCHED_MAX);
    if (found.length === 0) return SWEEP_EVERY_MS;
    const saleIds = new Set(await deps.sales.listIds());
    const results = await Promise.allSettled(found.map((unmatched) => settle(saleIds, unmatched)));
    const failures = results.flatMap((result, i) =>
      result.status === 'rejected' ? [{ error: result.reason as unknown, unmatched: found[i] }] : [],
    );
    // One alone must not hold up the others; when none could be settled, a store is away, and the loop backs off.
    if (failures.length === found.length) throw failures[0]?.error;
    for (const { error, unmatched } of failures)
      log.warn({ err: error, paymentId: unmatched?.paymentId }, 'undecided');
    return SWEEP_EVERY_MS;
  };
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
    return { kind: 'park', why: `it names no order of any sale: ${orderNo}` };
  }
  const known = await readOrder(deps, orderNo);
  if (known === 'damaged') return { kind: 'park', why: `Redis has order ${orderNo}, but not whole` };
  if (known) return settleKnown(deps, known);
  const order = await verify(deps.signer, unmatched);
  if (order) return restore(deps, order);
  // An empty Redis knows no order at all, and says nothing about this one.
  if (await deps.saleStock.read(saleId)) return { kind: 'refund', reason: 'order_unknown' };
  return saleAbsent(orderNo);
}

async function readOrder({ reservations }: UnmatchedPaymentDeps, orderNo: string) {
  try {
    return await reservations.readOrder(orderNo);
  } catch (error) {
    if (error instanceof ZodError) return 'damaged';
    throw error;
  }
}

/** Storing it matches it with its money; the starter tells its workflow. */
async function settleKnown(deps: UnmatchedPaymentDeps, { order, state }: ReservedOrder): Promise<Decision> {
  const { orderNo } = order;
  // It has ended unpaid, and its stock has gone back.
  if (isFinal(state.status) && state.status !== 'paid') return { kind: 'refund', reason: 'order_ended' };
  const outcome = await deps.orders.storeOrder(order, 'due');
  if (outcome.kind !== 'refused') {
    await projectAndRelease(deps, orderNo, outcome.state);
    return { kind: 'settled', as: outcome.kind };
  }
  if (state.status === 'paid')
    return { kind: 'park', why: `order ${orderNo} was paid, and cannot be stored again: ${outcome.reason}` };
  // Its own workflow may have been, and be over: then nobody else gives its stock back.
  await abandonOrder(deps, order, outcome.reason);
  return { kind: 'settled', as: 'given up' };
}

async function restore({ reservations }: UnmatchedPaymentDeps, order: Order): Promise<Decision> {
  const { orderNo } = order;
  const outcome = await reservations.reserveAgain(order);
  switch (outcome.kind) {
    case 'reserved':
      return { kind: 'settled', as: 'reserved again' };
    case 'known':
      // It has come since we asked, and the next pass settles it; or it was restored, ended and expired before.
      return {
        kind: 'wait',
        why: `order ${orderNo} is ${outcome.hold} in Redis, and MySQL does not know it`,
      };
    case 'sold-out':
    case 'unknown-sku':
      return { kind: 'refund', reason: 'sold_out' };
    case 'sale-absent':
      return saleAbsent(orderNo);
    default:
      return outcome satisfies never;
  }
}

/** Undefined unless the essentials are authentic, and of the order that the payment names. */
async function verify(
  signer: Pick<OrderSigner, 'verify'>,
  { orderNo, signedOrder }: UnmatchedPayment,
): Promise<Order | undefined> {
  const order = signedOrder === null ? undefined : await signer.verify(signedOrder);
  return order?.orderNo === orderNo ? order : undefined;
}

function saleAbsent(orderNo: string): Decision {
  return { kind: 'wait', why: `order ${orderNo} is not known, and its sale is not in Redis` };
}
