/** The figures of a sale for a console: in all, and over time. Ten consoles cost as much as one. */

import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import { SALE_ID_PATTERN } from '../../limits.ts';
import type { Pool } from '../../mysql/connection.ts';
import { PAID_WITHIN_SECONDS, STEPS, STEP_SECONDS, type Step } from '../../sales/figures.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import { amount, count, time } from '../http/replies.ts';
import type { AdminCalls, AdminContext, BackOffice } from './call.ts';
import { saleUnknown } from './sales.ts';

/** A day by minute; the answer has some 200 KB, and some thousand fields of Redis are read for it. */
const POINTS_MAX = 1_440;
const POINTS_USUAL = 60;

const moment = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text) / 1_000);
const figuresQuery = z.strictObject({
  by: z.enum(STEPS).default('minute').describe('The step from one point to the next.'),
  from: moment
    .optional()
    .describe(`The first point has this moment; unless given, ${POINTS_USUAL} points before \`until\`.`),
  until: moment
    .optional()
    .describe(`The last point ends there or after it; unless given, now. At most ${POINTS_MAX} points.`),
});

const byReason = z.record(z.string(), count);

export const figuresReply = z.strictObject({
  saleId: z.string(),
  currency: z.string().length(3),
  /** When these figures were read, up to a second ago. */
  at: time,
  skus: z.array(
    z.strictObject({
      sku: z.string(),
      total: count,
      available: count,
      held: count,
      sold: count,
      /** For good: no order takes it any more. */
      calledOff: z.literal(true).optional(),
      /** The units of paid orders at their price. */
      taken: amount,
    }),
  ),
  /** Of the orders that were paid. What went back is not taken off `taken`. */
  money: z.strictObject({
    taken: amount,
    refunded: z.int(),
    charges: z.array(z.strictObject({ code: z.string(), taken: z.int() })),
  }),
  orders: z.strictObject({
    /** Stored ones, by when they were accepted. */
    accepted: count,
    paid: count,
    endedUnpaid: byReason,
    /** Every change up to then is counted. */
    countedUntil: time,
  }),
  /** Paid orders by the seconds from their acceptance; null: all slower ones. Free orders are left out. */
  timeToPay: z.array(z.strictObject({ underSeconds: z.int().nullable(), orders: count })),
  /** What Redis alone has; null while it does not answer. */
  live: z
    .strictObject({
      /** Accepted and not stored; they are in no other figure but the holds and the stock. */
      notStored: count,
      /** Of the one that waits the longest; null: none does. */
      notStoredSince: time.nullable(),
      unpaidHolds: z.strictObject({
        /** Their deadline has passed, and they are being ended. */
        overdue: count,
        /** Of the next hour, by the minute in which they end. */
        byMinute: z.array(z.strictObject({ at: time, holds: count })),
        later: count,
      }),
      refused: z.strictObject({ byReason, pointsSince: time }),
    })
    .nullable(),
  by: z.enum(STEPS),
  /** Those in which anything was; refusals are counted when they are. */
  points: z.array(
    z.strictObject({ at: time, accepted: count, paid: count, endedUnpaid: byReason, refused: byReason }),
  ),
});
type FiguresReply = z.infer<typeof figuresReply>;

export const figuresCalls = {
  'GET /v1/admin/sales/:saleId/figures': {
    id: 'getSaleFigures',
    does: 'Stock, orders, money and refusals of a sale, in all and over time',
    scope: 'sales:read',
    query: figuresQuery,
    replies: { 200: figuresReply },
    refuses: ['sale_not_found', 'sale_unavailable'],
    handle: getFigures,
  },
} satisfies AdminCalls;

/** Seconds, Unix time, on whole steps. */
interface Range {
  step: Step;
  fromS: number;
  untilS: number;
}

async function getFigures(office: BackOffice, ctx: AdminContext): Promise<void> {
  const saleId = ctx.params['saleId'] ?? '';
  if (!SALE_ID_PATTERN.test(saleId)) throw saleUnknown();
  const range = rangeOf(parseInput(figuresQuery, { ...ctx.query }));
  ctx.set('Cache-Control', 'no-store');
  const { by, from, until } = ctx.query;
  const key = JSON.stringify([saleId, by, from, until]);
  ctx.body = await shared(office.pool, key, () => read(office, saleId, range).catch(failToRead));
}

function rangeOf({ by, from, until = Date.now() / 1_000 }: z.infer<typeof figuresQuery>): Range {
  const seconds = STEP_SECONDS[by];
  const untilS = seconds * Math.ceil(until / seconds);
  const fromS = from === undefined ? untilS - POINTS_USUAL * seconds : seconds * Math.floor(from / seconds);
  const points = (untilS - fromS) / seconds;
  if (points >= 0 && points <= POINTS_MAX) return { step: by, fromS, untilS };
  const message = points < 0 ? 'not after until' : `at most ${POINTS_MAX} points before until`;
  throw new Problem('invalid_request', 'The request is not as it must be.', {
    extra: { faults: [{ path: 'from', message }] },
  });
}

/** The age of figures that are given again. */
const FRESH_MS = 1_000;
/** Answers of a process: of as many sales and ranges as its consoles look at. */
const ANSWERS_MAX = 100;

/** By what they are read from. */
const answers = new WeakMap<Pool, LRUCache<string, Promise<FiguresReply>>>();

/** Those who ask for the same within a second get the same, also while it is being read. */
function shared(pool: Pool, key: string, begin: () => Promise<FiguresReply>): Promise<FiguresReply> {
  const known =
    answers.get(pool) ?? new LRUCache<string, Promise<FiguresReply>>({ max: ANSWERS_MAX, ttl: FRESH_MS });
  answers.set(pool, known);
  const found = known.get(key);
  if (found) return found;
  const begun = begin();
  known.set(key, begun);
  begun.catch(() => known.delete(key));
  return begun;
}

/** MySQL is asked one thing after the other: that takes one of the connections that shoppers need. */
async function read(
  office: BackOffice,
  saleId: string,
  { step, fromS, untilS }: Range,
): Promise<FiguresReply> {
  const { sales, saleStock, saleFigures, liveFigures } = office;
  const reading = liveFigures.readLive(saleId, step, fromS, untilS).catch(() => undefined);
  const found = await sales.read(saleId);
  if (!found) throw saleUnknown();
  const stock = found.isWarm && !found.isCleaned ? saleStock.read(saleId).catch(() => undefined) : undefined;
  const [totals] = await saleFigures.readTotals([saleId]);
  const states = await saleFigures.readPoints(saleId, step, fromS, untilS);
  const { nowMs, countedUntilMs, redisSinceMs } = await saleFigures.readComplete(saleId);
  // As in a sale's view: MySQL's own counts lag behind, and are better than no answer.
  const counts = new Map(((await stock)?.skus ?? found.stock).map((sku) => [sku.sku, sku]));
  const live = await reading;
  const points = new Map(states.map((point) => [point.beginsS, point]));
  const times = [...new Set([...points.keys(), ...(live?.refused.points.keys() ?? [])])];
  return {
    saleId,
    currency: found.sale.currency,
    at: toTime(nowMs),
    skus: found.sale.skus.map(({ sku, total: all, calledOff }) => {
      const { total = all, available = all, held = 0, sold = 0 } = counts.get(sku) ?? {};
      const units = { sku, total, available, held, sold, taken: totals?.skus[sku] ?? 0 };
      return calledOff ? { ...units, calledOff } : units;
    }),
    money: {
      taken: totals?.taken ?? 0,
      refunded: totals?.refunded ?? 0,
      charges: Object.entries(totals?.charges ?? {}).map(([code, taken]) => ({ code, taken })),
    },
    orders: {
      accepted: totals?.accepted ?? 0,
      paid: totals?.paid ?? 0,
      endedUnpaid: totals?.endedUnpaid ?? {},
      countedUntil: toTime(countedUntilMs),
    },
    timeToPay: [...PAID_WITHIN_SECONDS, null].map((underSeconds, i) => {
      return { underSeconds, orders: totals?.paidWithin[i] ?? 0 };
    }),
    live: live ? viewLive(live, redisSinceMs ?? nowMs) : null,
    by: step,
    points: times
      .toSorted((a, b) => a - b)
      .map((beginsS) => {
        const { accepted = 0, paid = 0, endedUnpaid = {} } = points.get(beginsS) ?? {};
        const refused = live?.refused.points.get(beginsS) ?? {};
        return { at: toTime(beginsS * 1_000), accepted, paid, endedUnpaid, refused };
      }),
  };
}

type Live = Awaited<ReturnType<BackOffice['liveFigures']['readLive']>>;

/** Refusals are lost with Redis: they are complete since it has the data that it has. */
function viewLive({ refused, holds, outbox }: Live, redisSinceMs: number): FiguresReply['live'] {
  const { overdue, minutes, later } = holds;
  const oldestMs = outbox?.oldestAtMs;
  return {
    notStored: outbox?.waiting ?? 0,
    notStoredSince: oldestMs === undefined ? null : toTime(oldestMs),
    unpaidHolds: {
      overdue,
      byMinute: minutes.map(({ beginsMs, holds: ending }) => ({ at: toTime(beginsMs), holds: ending })),
      later,
    },
    refused: { byReason: refused.sums, pointsSince: toTime(Math.max(refused.sinceMs, redisSinceMs)) },
  };
}

const toTime = (ms: number): string => new Date(ms).toISOString();

function failToRead(error: unknown): never {
  if (error instanceof Problem) throw error;
  throw unavailable('sale_unavailable', 'The sale cannot be read right now.', error);
}
