/** Finds what is answered about an order: its projection, what MySQL has of it, or why neither knows it. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { decodeTime } from 'ulidx';
import { z } from 'zod';
import type { OrderEngine } from '../../engine/order-engine.ts';
import type { Metrics } from '../../metrics.ts';
import { showOrder, type VisibleOrder, carriedText } from '../../orders/content.ts';
import { isFinal, parseOrderNo, type OrderState, type OrderNoParts } from '../../orders/order.ts';
import type { ReservedOrder, OrderLook } from '../../orders/reservations.redis.ts';
import type { StoredOrder } from '../../orders/rows.sql.ts';
import type { SaleEpoch } from '../../reconcile/rebuild.sql.ts';
import { wholeSale } from '../../redis/keys.ts';
import { isDamaged } from '../../redis/script.ts';
import type { Stores } from '../../stores/open.ts';
import type { Lane } from '../http/http-server.ts';
import { orderNotFound, unavailable } from '../http/problem.ts';
import { createBoundedLog } from '../http/refusal-logs.ts';
import { type OrderReply, orderReply } from '../http/replies.ts';
import type { PollAdvice } from './poll-advice.ts';

/** An order where the caller asked for the workflow's view: with what answered. */
export const sourcedOrderReply = orderReply.extend({
  source: z
    .enum(['workflow', 'database', 'projection'])
    .describe(
      'What answered: the workflow of the order, MySQL, or the copy in Redis. Only with `source=workflow`.',
    ),
});
export type SourcedOrderReply = z.infer<typeof sourcedOrderReply>;

/** What an order is found with. */
export interface Finder extends Stores {
  projection: Projection;
  lostOrders: LostOrders;
  pollAdvice: PollAdvice;
}

/** `source`: where the state was read. */
export interface FoundOrder extends ReservedOrder {
  source: Exclude<SourcedOrderReply['source'], 'workflow'>;
}

/** Who asks, and by what the lines of the call are found. */
export interface Asker {
  userId: string;
  requestId: string;
  /** The newest version that the caller has seen. */
  knownVersion?: number;
}

/**
 * Orders of a user, from the projection or, where Redis has none or is away, from MySQL. Where the projection
 * is doubted, or a caller knows a newer version, it gets what MySQL has: a status never goes back. An order
 * that was lost with the data of Redis is answered as failed.
 * @throws Problem 404 for what is no order of this user
 */
export async function findOrder(finder: Finder, orderNo: string, asker: Asker): Promise<FoundOrder> {
  if (!parseOrderNo(orderNo)) throw orderNotFound();
  const found = await read(finder, orderNo, asker);
  if (found?.order.userId !== asker.userId) throw orderNotFound();
  return found;
}

async function read(finder: Finder, orderNo: string, asker: Asker): Promise<FoundOrder | undefined> {
  const { projection, orders } = finder;
  const answer = await projection.read(orderNo, asker.requestId);
  if (isBelieved(answer, asker.knownVersion) && !(await projection.isDoubted()))
    return { source: 'projection', ...answer.found };
  let end: FoundOrder | Missing;
  try {
    end = await decide(finder, orderNo, { answer, stored: await orders.read(orderNo) }, asker);
  } catch (error) {
    throw unavailable('status_unavailable', error);
  }
  if (end === 'undecided') throw unavailable('status_unavailable', undefined);
  return end === 'unknown' ? undefined : end;
}

type Answer = OrderLook | 'no-answer';

/** Unless projections are doubted. */
function isBelieved(answer: Answer, knownVersion = 0): answer is OrderLook & { found: ReservedOrder } {
  if (answer === 'no-answer' || !answer.found) return false;
  return answer.isCertain && answer.found.state.version >= knownVersion;
}

/** @throws when MySQL cannot be asked: nothing is known */
async function decide(
  { projection, lostOrders }: Finder,
  orderNo: string,
  { answer, stored }: { answer: Answer; stored: StoredOrder | undefined },
  { userId, requestId }: Asker,
): Promise<FoundOrder | Missing> {
  const { found: projected, isCertain } = answer === 'no-answer' ? NO_LOOK : answer;
  if (stored) {
    if (projected && projected.state.version < stored.state.version)
      await projection.project(stored, requestId);
    return { source: 'database', ...stored };
  }
  if (projected) return { source: 'projection', ...projected };
  // Redis may hold an accepted order that is not stored yet: only its answer proves that there is none.
  if (isCertain) return 'unknown';
  const missing = answer === 'no-answer' ? 'undecided' : await lostOrders.judgeFor(orderNo, userId);
  return typeof missing === 'string' ? missing : { source: 'database', ...missing };
}

const NO_LOOK: OrderLook = { found: undefined, isCertain: false };

/**
 * Orders of one call of which neither store has anything: each asks MySQL twice, and Temporal. A shopper has
 * an order or two; more are made up.
 */
const JUDGED_MAX = 5;

/** Of the numbers that were asked for. */
export interface FoundOrders {
  orders: FoundOrder[];
  /** Those of no order of the user. */
  unknown: string[];
  /** False: of the others nothing is known now. */
  isWhole: boolean;
}

/**
 * Each as `findOrder` finds it, with one read of MySQL for all that the projection cannot answer.
 * @throws Problem 503 where nothing is known of any
 */
export async function findOrders(
  finder: Finder,
  orderNos: readonly string[],
  asker: Asker,
): Promise<FoundOrders> {
  const { projection } = finder;
  const answers = await projection.readAll(
    orderNos.filter((orderNo) => parseOrderNo(orderNo)),
    asker.requestId,
  );
  const isDoubted = answers.size > 0 && (await projection.isDoubted());
  const ends = new Map<string, FoundOrder | Missing>();
  const left = new Map<string, Answer>();
  for (const [orderNo, answer] of answers)
    if (isBelieved(answer) && !isDoubted) ends.set(orderNo, { source: 'projection', ...answer.found });
    else left.set(orderNo, answer);
  for (const [orderNo, end] of await askMysql(finder, left, asker)) ends.set(orderNo, end);
  const found: FoundOrders = { orders: [], unknown: [], isWhole: true };
  for (const orderNo of orderNos) {
    const end = ends.get(orderNo) ?? 'unknown';
    if (end === 'undecided') found.isWhole = false;
    else if (end === 'unknown' || end.order.userId !== asker.userId) found.unknown.push(orderNo);
    else found.orders.push(end);
  }
  if (found.orders.length + found.unknown.length === 0) throw unavailable('status_unavailable', undefined);
  return found;
}

/** Undecided are all where MySQL does not answer. */
async function askMysql(
  finder: Finder,
  answers: ReadonlyMap<string, Answer>,
  asker: Asker,
): Promise<[string, FoundOrder | Missing][]> {
  const orderNos = [...answers.keys()];
  if (orderNos.length === 0) return [];
  const failed = (error: unknown): void => {
    const { requestId } = asker;
    finder.log.warn({ err: error, requestId, orders: orderNos.length }, 'MySQL does not say what orders are');
  };
  const stored = await finder.orders.readAll(orderNos).catch(failed);
  if (!stored) return orderNos.map((orderNo) => [orderNo, 'undecided']);
  const byNumber = new Map(stored.map((each) => [each.order.orderNo, each]));
  let judged = 0;
  return Promise.all(
    [...answers].map(async ([orderNo, answer]): Promise<[string, FoundOrder | Missing]> => {
      const known = { answer, stored: byNumber.get(orderNo) };
      const isNowhere = !known.stored && answer !== 'no-answer' && !answer.found && !answer.isCertain;
      if (isNowhere) judged += 1;
      if (isNowhere && judged > JUDGED_MAX) return [orderNo, 'undecided'];
      return [orderNo, (await decide(finder, orderNo, known, asker).catch(failed)) ?? 'undecided'];
    }),
  );
}

/** The one shape of an order in every answer. `closing`: its end is under way, and payment can still win. */
export function viewOrder(
  { pollAdvice }: Pick<Finder, 'pollAdvice'>,
  order: VisibleOrder,
  state: OrderState,
): OrderReply {
  const { status, reason } = state;
  // V8 makes a slow object of a spread to which keys are added: that took 3.4 us here, and this 0.8.
  return Object.assign(showOrder(order, state), {
    closing: reason !== null && !isFinal(status),
    pollAfterMs: pollAdvice.pollAfterMs(order, state),
  });
}

/**
 * The workflows repeat what they could not project at most a minute apart, and a step takes seconds. A
 * doubted read costs one read of MySQL by primary key.
 */
const DOUBTED_FOR_MS = 2 * 60_000;
/** A doubt is recorded for longer, so that it is recorded once a minute, however many answers need it. */
const RECORDED_FOR_MS = 3 * 60_000;
/**
 * So long a process goes by its look at what is recorded. One that records a doubt answers nothing before
 * all looks from before it have run out.
 */
const LOOK_HOLDS_MS = 500;
/** A timer may fire early by a fraction of a millisecond; clocks of two machines run alike. */
const MARGIN_MS = 50;
type Projection = ReturnType<typeof createProjection>;

export function createProjection({ reservations, projectionDoubts, log }: Stores) {
  const doubt = createDoubt(projectionDoubts);

  async function doubtForAll(): Promise<void> {
    try {
      await doubt.spread();
    } catch (error) {
      throw unavailable('status_unavailable', error);
    }
  }

  return {
    /** It may be older than what was answered, by this process or another. */
    isDoubted: doubt.isDoubted,
    /** As far as this process knows, without asking a store. */
    isKnownDoubted: doubt.isKnown,

    /**
     * Where Redis does not answer, MySQL may be asked: all APIs doubt the projection from then on.
     * @throws Problem 503 when the doubt cannot be recorded
     */
    async read(orderNo: string, requestId: string): Promise<Answer> {
      try {
        return await reservations.lookUp(orderNo);
      } catch (error) {
        log.warn({ err: error, requestId, orderNo }, 'no answer from Redis; asking MySQL');
        // What is damaged is so for every API.
        if (!isDamaged(error)) await doubtForAll();
        return 'no-answer';
      }
    },

    /** As `read`, of each; one line of the log tells of all that had no answer. */
    async readAll(orderNos: readonly string[], requestId: string): Promise<Map<string, Answer>> {
      const looks = await Promise.allSettled(orderNos.map(reservations.lookUp));
      const errors = looks.flatMap((look) => (look.status === 'rejected' ? [look.reason as unknown] : []));
      if (errors.length > 0)
        log.warn({ err: errors[0], requestId, orders: errors.length }, 'no answer from Redis; asking MySQL');
      if (errors.some((error) => !isDamaged(error))) await doubtForAll();
      return new Map(
        looks.map((look, i) => [orderNos[i] ?? '', look.status === 'fulfilled' ? look.value : 'no-answer']),
      );
    },

    /**
     * Projects what MySQL has before it is answered, so that no later answer is older. Where Redis does not
     * answer, all APIs doubt the projection until the workflows have projected again.
     * @throws Problem 503 when the doubt cannot be recorded
     */
    async project({ order: { orderNo }, state }: ReservedOrder, requestId: string): Promise<void> {
      try {
        await reservations.project(orderNo, state);
      } catch (error) {
        log.warn({ err: error, requestId, orderNo }, 'answered and not projected');
        if (!isDamaged(error)) await doubtForAll();
      }
    },
  };
}

/** What this process knows of the doubt that all share. Its times are of `performance.now()`. */
function createDoubt(doubts: Stores['projectionDoubts']) {
  let doubtedUntilMs = 0;
  /** When the latest look began that was answered, or ended that was not. */
  let lookedAtMs = -Infinity;
  /** By the latest look. No caller waits for a store that does not answer. */
  let isMysqlAway = false;
  let looking: Promise<void> | undefined;
  /** Until when all doubt, as this process has recorded it. */
  let recordedUntilMs = 0;
  let recording: Promise<void> | undefined;

  async function look(): Promise<void> {
    const begunMs = performance.now();
    try {
      const leftMs = await doubts.readLeftMs();
      isMysqlAway = false;
      lookedAtMs = begunMs;
      doubtedUntilMs = Math.max(doubtedUntilMs, performance.now() + leftMs);
    } catch {
      // MySQL is away for this process, which has the projection alone. The next look comes as soon.
      isMysqlAway = true;
      lookedAtMs = performance.now();
    }
  }

  function lookTogether(): Promise<void> {
    looking ??= look().finally(() => (looking = undefined));
    return looking;
  }

  /** A look that is under way already may have begun too early for a caller who comes now. */
  async function isDoubtedAfterLook(nowMs: number): Promise<boolean> {
    await lookTogether();
    if (lookedAtMs <= nowMs - LOOK_HOLDS_MS) await lookTogether();
    return performance.now() < doubtedUntilMs;
  }

  async function record(): Promise<void> {
    const begunMs = performance.now();
    await doubts.record(RECORDED_FOR_MS);
    // Where the doubt before this one still holds, no look in between has found none.
    if (performance.now() >= recordedUntilMs) await delay(LOOK_HOLDS_MS + MARGIN_MS);
    recordedUntilMs = begunMs + RECORDED_FOR_MS;
  }

  return {
    isKnown: (): boolean => performance.now() < doubtedUntilMs,

    /** At once where the latest look still holds. The next one begins before, so that few callers wait. */
    isDoubted(): boolean | Promise<boolean> {
      const nowMs = performance.now();
      if (nowMs < doubtedUntilMs) return true;
      const ageMs = nowMs - lookedAtMs;
      if (ageMs < LOOK_HOLDS_MS || isMysqlAway) {
        if (ageMs > LOOK_HOLDS_MS / 2) void lookTogether();
        return false;
      }
      return isDoubtedAfterLook(nowMs);
    },

    /**
     * Has all APIs doubt the projection. Returns once none of them believes it any more.
     * @throws when MySQL does not take it
     */
    async spread(): Promise<void> {
      if (recordedUntilMs - performance.now() < DOUBTED_FOR_MS) {
        recording ??= record().finally(() => (recording = undefined));
        // Where it fails nothing is answered, so that there is nothing to doubt.
        await recording;
      }
      doubtedUntilMs = Math.max(doubtedUntilMs, performance.now() + DOUBTED_FOR_MS);
    },
  };
}

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
export const CLOCKS_DIFFER_MAX_MS = 5 * 60_000;
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
type Missing = 'unknown' | 'undecided';

export type LostOrders = ReturnType<typeof createLostOrders>;

export function createLostOrders(deps: LostOrderDeps) {
  const { saleEpochs, unmatchedPayments, queryWorkflow, metrics, log } = deps;
  /** The numbers that were counted, by user; the user who was counted last comes last. */
  const counted = new Map<string, Set<string>>();
  const report = createBoundedLog((orders) =>
    log.error({ orders }, 'accepted orders were lost with the data of Redis'),
  );

  /** A caller with a token can make numbers up, so one user counts a few times at most. */
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
    // MySQL has lost it as well, and its payment has come.
    if (await unmatchedPayments.hasUndecided(orderNo)) return 'undecided';
    const answer = await queryWorkflow(orderNo);
    return answer === 'no-such-workflow' ? 'lost' : 'undecided';
  }

  return {
    /**
     * Judges an order that MySQL does not have, and that Redis does not have (any more).
     * @throws when MySQL cannot be asked: nothing is known
     */
    async judge(orderNo: string): Promise<Missing | 'lost'> {
      const found = await readLife(orderNo);
      return found ? judge(orderNo, found) : 'unknown';
    },

    /** As `judge`, for the user who asks for it: a lost order is counted, and answered as failed. */
    async judgeFor(orderNo: string, userId: string): Promise<Missing | ReservedOrder> {
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
