/**
 * Orders that were accepted and lost with Redis' data before they were stored. Their numbers are of an older
 * epoch than their sale, and no store and no workflow knows them.
 */

import type { Logger } from 'pino';
import { decodeTime } from 'ulidx';
import { parseOrderNo, type OrderState } from '../../domain/order.ts';
import type { OrderEngine } from '../../engine/order-engine.ts';
import type { Metrics } from '../../metrics.ts';
import type { SaleEpochs } from '../../stores/mysql/rebuild/sale-epochs.ts';
import type { ReservedOrder } from '../../stores/redis/reservations.ts';
import { createBoundedLog } from '../http/bounded-log.ts';

/** A query needs a live worker; its caller waits no longer than this. */
const QUERY_TIMEOUT_MS = 2_000;
/** Orders that are counted once although they are asked for again; a loss catches far fewer in a process. */
const COUNTED_MAX = 10_000;

const LOST: OrderState = { status: 'failed', version: 1, payment: 'none', reason: 'lost_before_stored' };

export interface LostOrderDeps {
  saleEpochs: Pick<SaleEpochs, 'readLife'>;
  engine: Pick<OrderEngine, 'queryStatus'>;
  metrics: Pick<Metrics, 'orderLost'>;
  log: Logger;
}

/** unknown: there never was such an order. undecided: it may still come back. */
export type Missing = ReservedOrder | 'unknown' | 'undecided';

export type LostOrders = ReturnType<typeof createLostOrders>;

export function createLostOrders({ saleEpochs, engine, metrics, log }: LostOrderDeps) {
  const counted = new Set<string>();
  const report = createBoundedLog((orders) =>
    log.error({ orders }, 'accepted orders were lost with the data of Redis'),
  );

  function count(orderNo: string): void {
    if (counted.has(orderNo) || counted.size >= COUNTED_MAX) return;
    counted.add(orderNo);
    metrics.orderLost();
    report();
  }

  /**
   * Judges an order that MySQL does not have, and that Redis does not have (any more).
   * @throws when MySQL or Temporal cannot be asked: nothing is known
   */
  return async function judge(orderNo: string, userId: string): Promise<Missing> {
    const parts = parseOrderNo(orderNo);
    if (!parts) return 'unknown';
    const life = await saleEpochs.readLife(parts.saleId);
    if (!life?.isWatched || parts.epoch > life.epoch) return 'unknown';
    // Of the present epoch: Redis has lost the sale's data and is about to get them again.
    if (parts.epoch === life.epoch || !life.isSettled) return 'undecided';
    if (await engine.queryStatus(orderNo, QUERY_TIMEOUT_MS)) return 'undecided';
    count(orderNo);
    const { currency, paymentWindowMs } = life;
    const rest = { items: [], total: 0, idempotencyKey: '', ip: '', userAgent: '' };
    const reservedAtMs = decodeTime(parts.ulid);
    const order = { orderNo, saleId: parts.saleId, userId, currency, reservedAtMs, paymentWindowMs, ...rest };
    return { order, state: LOST };
  };
}
