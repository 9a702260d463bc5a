/**
 * Money for an order that MySQL does not know. Redis may know the order: then it is stored now, and gets its money. Or the payment
 * carries the order's essentials, signed: then it is reserved again while stock remains. Otherwise the money goes back. Only a
 * payment that names no sale of ours, or whose stores stay silent about it, is left to a person.
 */

import type { Logger } from 'pino';
import { ZodError } from 'zod';
import { isFinal, parseOrderNo, type Order } from '../domain/order.ts';
import type { RefundReason } from '../domain/payment.ts';
import type { OrderSealer } from '../payments/sealed-order.ts';
import type { Orders } from '../stores/orders.ts';
import type { Orphan } from '../stores/orphans.ts';
import type { Payments } from '../stores/payments.ts';
import type { ReservedOrder, Reservations } from '../stores/reservations.ts';
import type { SaleStock } from '../stores/sale-stock.ts';
import type { Sales } from '../stores/sales.ts';
import { followInRedis, giveUp } from './give-up.ts';

/** Such money has waited for a minute, so a few seconds more cost nobody anything; an idle look is one query. */
const SWEEP_EVERY_MS = 5_000;
/** Settled side by side: as many as MySQL's connections take within the time that a stop leaves to a pass. */
const ORPHANS_MAX = 200;
/** Since it came: what stands in the way of a decision is gone sooner, or somebody must look why not. */
const PARKED_AFTER_MS = 60 * 60_000;

export type OrphanPayments = Pick<Payments, 'listOrphans' | 'refundOrphan' | 'parkOrphan'>;

export interface OrphanDeps {
  payments: OrphanPayments;
  orders: Pick<Orders, 'storeOrders' | 'abandon'>;
  reservations: Pick<Reservations, 'readOrder' | 'reserveAgain' | 'project' | 'release'>;
  sales: Pick<Sales, 'listIds'>;
  saleStock: Pick<SaleStock, 'read'>;
  sealer: Pick<OrderSealer, 'unseal'>;
  log: Logger;
}

/** wait: nothing can be decided now; `why` is what a person is told when it stays so. */
type Decision =
  | { kind: 'settled'; as: string }
  | { kind: 'refund'; reason: RefundReason }
  | { kind: 'park'; why: string }
  | { kind: 'wait'; why: string };

/** @returns one pass of the sweep's loop; it answers the pause before the next */
export function createOrphanSweep(deps: OrphanDeps): () => Promise<number> {
  const { payments, log } = deps;

  async function carryOut(orphan: Orphan, decision: Decision): Promise<void> {
    const { paymentId, providerPaymentId, orderNo } = orphan;
    if (decision.kind === 'wait' && !isOverdue(orphan)) return;
    log.warn({ paymentId, orderNo, ...decision }, 'money had no order');
    if (decision.kind === 'refund') await payments.refundOrphan(paymentId, decision.reason);
    if (decision.kind === 'park' || decision.kind === 'wait')
      await payments.parkOrphan(providerPaymentId, decision.why);
  }

  async function settle(saleIds: ReadonlySet<string>, orphan: Orphan): Promise<void> {
    const decision = await decide(deps, saleIds, orphan).catch((error: unknown): Decision => {
      // What fails for so long is not left to another pass, but to a person.
      if (!isOverdue(orphan)) throw error;
      return { kind: 'wait', why: `nothing could be decided: ${String(error)}` };
    });
    await carryOut(orphan, decision);
  }

  return async function pass(): Promise<number> {
    const orphans = await payments.listOrphans(ORPHANS_MAX);
    if (orphans.length === 0) return SWEEP_EVERY_MS;
    const saleIds = new Set(await deps.sales.listIds());
    const results = await Promise.allSettled(orphans.map((orphan) => settle(saleIds, orphan)));
    const failures = results.flatMap((result, i) =>
      result.status === 'rejected' ? [{ error: result.reason as unknown, orphan: orphans[i] }] : [],
    );
    // One alone must not hold up the others; when none could be settled, a store is away, and the loop backs off.
    if (failures.length === orphans.length) throw failures[0]?.error;
    for (const { error, orphan } of failures)
      log.warn({ err: error, paymentId: orphan?.paymentId }, 'undecided');
    return SWEEP_EVERY_MS;
  };
}

function isOverdue({ receivedAtMs }: Orphan): boolean {
  return Date.now() - receivedAtMs >= PARKED_AFTER_MS;
}

async function decide(deps: OrphanDeps, saleIds: ReadonlySet<string>, orphan: Orphan): Promise<Decision> {
  const { orderNo } = orphan;
  const saleId = parseOrderNo(orderNo)?.saleId;
  if (saleId === undefined || !saleIds.has(saleId)) {
    return { kind: 'park', why: `it names no order of any sale: ${orderNo}` };
  }
  const known = await readOrder(deps, orderNo);
  if (known === 'damaged') return { kind: 'park', why: `Redis has order ${orderNo}, but not whole` };
  if (known) return settleKnown(deps, known);
  const order = await unseal(deps.sealer, orphan);
  if (order) return restore(deps, order);
  // An empty Redis knows no order at all, and says nothing about this one.
  if (await deps.saleStock.read(saleId)) return { kind: 'refund', reason: 'order_unknown' };
  return saleAbsent(orderNo);
}

async function readOrder({ reservations }: OrphanDeps, orderNo: string) {
  try {
    return await reservations.readOrder(orderNo);
  } catch (error) {
    if (error instanceof ZodError) return 'damaged';
    throw error;
  }
}

/** Storing it matches it with its money; the starter tells its workflow. */
async function settleKnown(deps: OrphanDeps, { order, state }: ReservedOrder): Promise<Decision> {
  const { orderNo } = order;
  // It has ended unpaid, and its stock has gone back.
  if (isFinal(state.status) && state.status !== 'paid') return { kind: 'refund', reason: 'order_ended' };
  const outcome = (await deps.orders.storeOrders([order], 'due')).get(orderNo);
  if (!outcome) throw new Error(`no outcome for order ${orderNo}`);
  if (outcome.kind !== 'refused') {
    await followInRedis(deps, orderNo, outcome.state);
    return { kind: 'settled', as: outcome.kind };
  }
  if (state.status === 'paid')
    return { kind: 'park', why: `order ${orderNo} was paid, and cannot be stored again: ${outcome.reason}` };
  // Its own workflow may have been, and be over: then nobody else gives its stock back.
  await giveUp(deps, order, outcome.reason);
  return { kind: 'settled', as: 'given up' };
}

async function restore({ reservations }: OrphanDeps, order: Order): Promise<Decision> {
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
async function unseal(
  sealer: Pick<OrderSealer, 'unseal'>,
  { orderNo, sealedOrder }: Orphan,
): Promise<Order | undefined> {
  const order = sealedOrder === null ? undefined : await sealer.unseal(sealedOrder);
  return order?.orderNo === orderNo ? order : undefined;
}

function saleAbsent(orderNo: string): Decision {
  return { kind: 'wait', why: `order ${orderNo} is not known, and its sale is not in Redis` };
}
