/**
 * Order numbers that no store has: of orders that were accepted and lost with Redis' data before they were
 * stored, or that may still come back, or that were made up.
 */

import type { Logger } from 'pino';
import { decodeTime } from 'ulidx';
import { carriedText } from '../../domain/content.ts';
import { parseOrderNo, type OrderNoParts, type OrderState } from '../../domain/order.ts';
import type { OrderEngine } from '../../engine/order-engine.ts';
import type { Metrics } from '../../metrics.ts';
import type { SaleEpoch } from '../../stores/mysql/rebuild/rebuild.ts';
import type { Stores } from '../../stores/open.ts';
import { wholeSale } from '../../stores/redis/keys.ts';
import type { ReservedOrder } from '../../stores/redis/reservations.ts';
import type { Lane } from '../http/load-shed.ts';
import { createBoundedLog } from '../http/refusal-logs.ts';

// Queries of the workflows of orders. Any caller can cause one, and each keeps Temporal and a worker busy:
// so a few are under way at once, and no caller waits for more.

/** A query needs a live worker; its caller waits no longer than this. */
const QUERY_TIMEOUT_MS = 2_000;

/** no-answer: no worker answers in time, Temporal is away, or too many ask already. Never throws. */
export type QueryWorkflow = (orderNo: string) => Promise<OrderState | 'no-such-workflow' | 'no-answer'>;

/** @param lane bounds them */
export function createWorkflowQueries(
  engine: Pick<OrderEngine, 'queryStatus'>,
  lane: Lane,
  log: Logger,
): QueryWorkflow {
  let latest = '';
  const report = createBoundedLog((queries) =>
    log.warn({ queries, reason: latest }, 'workflows did not answer'),
  );

  return async (orderNo) => {
    if (lane.isFull()) {
      lane.shed();
      return 'no-answer';
    }
    let answer: Awaited<ReturnType<QueryWorkflow>> = 'no-answer';
    await lane.enter({ res: { closed: false } }, async () => {
      try {
        answer = (await engine.queryStatus(orderNo, QUERY_TIMEOUT_MS)) ?? 'no-such-workflow';
      } catch (error) {
        latest = error instanceof Error ? error.message : 'unknown';
        report();
      }
    });
    return answer;
  };
}

/** An order number has the time of the process that made it; the clocks of servers differ by far less. */
const CLOCKS_DIFFER_MAX_MS = 5 * 60_000;
/** Losses of one user that are counted. A shopper has an order or two; more are made up. */
const COUNTED_OF_USER_MAX = 5;
/** Users whose losses are remembered, the latest; a loss catches far fewer in a process. */
const COUNTED_USERS_MAX = 10_000;

const LOST: OrderState = { status: 'failed', version: 1, payment: 'none', reason: 'lost_before_stored' };

export interface LostOrderDeps extends Stores {
  queryWorkflow: QueryWorkflow;
  metrics: Pick<Metrics, 'orderLost'>;
}

/** unknown: there never was such an order. undecided: it may still come back. */
export type Missing = 'unknown' | 'undecided' | 'lost';

export type LostOrders = ReturnType<typeof createLostOrders>;

export function createLostOrders({ saleEpochs, queryWorkflow, metrics, log }: LostOrderDeps) {
  /** The numbers that were counted, by user; the user who was counted last comes last. */
  const counted = new Map<string, Set<string>>();
  const report = createBoundedLog((orders) =>
    log.error({ orders }, 'accepted orders were lost with the data of Redis'),
  );

  /** Whoever has a token can make numbers up, so that one user counts a few times at most. */
  function count(orderNo: string, userId: string): void {
    const ofUser = counted.get(userId) ?? new Set();
    if (ofUser.has(orderNo) || ofUser.size >= COUNTED_OF_USER_MAX) return;
    const [oldest] = counted.keys();
    if (ofUser.size === 0 && counted.size >= COUNTED_USERS_MAX && oldest !== undefined)
      counted.delete(oldest);
    counted.delete(userId);
    counted.set(userId, ofUser.add(orderNo));
    metrics.orderLost();
    report();
  }

  async function readLife(orderNo: string): Promise<{ parts: OrderNoParts; life: SaleEpoch } | undefined> {
    const parts = parseOrderNo(orderNo);
    const life = parts && (await saleEpochs.readLife(parts.saleId));
    return parts && life && canHaveBeen(parts, life) ? { parts, life } : undefined;
  }

  async function judge(orderNo: string, { parts, life }: { parts: OrderNoParts; life: SaleEpoch }) {
    // Of the present epoch: Redis has lost the sale's data and is about to get them again.
    if (parts.epoch === life.epoch || !life.isSettled) return 'undecided';
    const answer = await queryWorkflow(orderNo);
    return answer === 'no-such-workflow' ? 'lost' : 'undecided';
  }

  return {
    /**
     * Judges an order that MySQL does not have, and that Redis does not have (any more).
     * @throws when MySQL cannot be asked: nothing is known
     */
    async judge(orderNo: string): Promise<Missing> {
      const found = await readLife(orderNo);
      return found ? judge(orderNo, found) : 'unknown';
    },

    /** As `judge`, for the user who asks for it: a lost order is counted, and answered as failed. */
    async judgeFor(orderNo: string, userId: string): Promise<Exclude<Missing, 'lost'> | ReservedOrder> {
      const found = await readLife(orderNo);
      if (!found) return 'unknown';
      const missing = await judge(orderNo, found);
      if (missing !== 'lost') return missing;
      count(orderNo, userId);
      const { parts, life } = found;
      const { currency, paymentWindowMs } = life;
      const rest = { ...carriedText.inRedis.schema.parse({}), items: [], total: 0, idempotencyKey: '' };
      const reservedAtMs = decodeTime(parts.ulid);
      const order = {
        orderNo,
        saleId: parts.saleId,
        userId,
        currency,
        reservedAtMs,
        paymentWindowMs,
        ...rest,
      };
      return { order, state: LOST };
    },
  };
}

/** Whether an order of this number can have been accepted. */
function canHaveBeen({ saleId, shard, epoch, ulid }: OrderNoParts, life: SaleEpoch): boolean {
  const madeAtMs = decodeTime(ulid);
  return (
    life.isWatched &&
    epoch <= life.epoch &&
    shard === wholeSale(saleId).shard &&
    madeAtMs >= life.createdAtMs - CLOCKS_DIFFER_MAX_MS &&
    madeAtMs <= life.nowMs + CLOCKS_DIFFER_MAX_MS
  );
}
