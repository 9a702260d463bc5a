/** The figures of a sale for a console: in all, and over time. Ten consoles cost as much as one. */

import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import type { Pool } from '../../mysql/connection.ts';
import { saleIdSchema, skuSchema } from '../../orders/content.ts';
import { PAID_WITHIN_SECONDS, STEPS, STEP_SECONDS, type Step } from '../../sales/figures.ts';
import { calledOffMark } from '../../sales/sale.ts';
import { reply } from '../http/answer.ts';
import { Problem } from '../http/problem.ts';
import { amount, count, shownCurrency, time } from '../http/replies.ts';
import { moment } from '../http/request.ts';
import { adminCall, type AdminCalls, type BackOffice, ofSale } from './call.ts';

/** A day by minute; the answer has some 200 KB, and some thousand fields of Redis are read for it. */
const POINTS_MAX = 1_440;
const POINTS_USUAL = 60;

/** Unix time in seconds. */
const second = moment.transform((ms) => ms / 1_000);
const figuresQuery = z.strictObject({
  by: z.enum(STEPS).default('minute').describe('The step from one point to the next.'),
  from: second
    .optional()
    .describe(`The first point has this moment; unless given, ${POINTS_USUAL} points before \`until\`.`),
  until: second
    .optional()
    .describe(`The last point ends there or after it; unless given, now. At most ${POINTS_MAX} points.`),
});

const byReason = z.record(z.string(), count).meta({ examples: [{ time_out: 3 }] });

export const figuresReply = z
  .strictObject({
    saleId: saleIdSchema,
    currency: shownCurrency,
    at: time.describe('When these figures were read, up to a second ago.'),
    skus: z
      .array(
        z.strictObject({
          sku: skuSchema,
          total: count.describe('Units in all.'),
          available: count.describe('Units that are free now; 0 where the SKU is called off.'),
          held: count.describe('Units in unpaid orders.'),
          sold: count.describe('Units in paid orders.'),
          calledOff: calledOffMark.optional(),
          taken: amount.describe('The units of paid orders at their price, in minor units.'),
        }),
      )
      .describe('The SKUs.'),
    money: z
      .strictObject({
        taken: amount.describe('Of the orders that were paid. What went back is not taken off.'),
        refunded: z.int().meta({ description: 'What went back to payers, in minor units.', examples: [0] }),
        charges: z
          .array(
            z.strictObject({
              code: z.string().meta({ description: 'The code of the charge.', examples: ['shipping'] }),
              taken: z
                .int()
                .meta({ description: 'Its part of `taken`; a discount is negative.', examples: [490] }),
            }),
          )
          .describe('The part of `taken` that is for charges.'),
      })
      .describe('The money of the sale, in minor units of `currency`.'),
    orders: z
      .strictObject({
        accepted: count.describe('Stored orders.'),
        paid: count.describe('Paid orders.'),
        endedUnpaid: byReason.describe('Orders that ended without a payment, by reason.'),
        countedUntil: time.describe('Every change up to then is counted.'),
      })
      .describe('What became of the orders.'),
    timeToPay: z
      .array(
        z.strictObject({
          underSeconds: z
            .int()
            .nullable()
            .meta({
              description: 'Seconds from acceptance to payment; null: all slower ones.',
              examples: [60],
            }),
          orders: count.describe('Orders that were paid within them, and not within fewer.'),
        }),
      )
      .describe('How long paid orders took. Free orders are left out.'),
    live: z
      .strictObject({
        notStored: count.describe('Orders that are accepted and not stored yet. `orders` lacks them.'),
        notStoredSince: time.nullable().meta({
          description: 'Since when the oldest of them waits; null: there is none.',
          examples: [null],
        }),
        unpaidHolds: z
          .strictObject({
            overdue: count.describe('Holds whose deadline has passed, and which are being ended.'),
            byMinute: z
              .array(
                z.strictObject({
                  at: time.describe('The minute.'),
                  holds: count.describe('Holds that end in it.'),
                }),
              )
              .describe('Holds of the next hour.'),
            later: count.describe('Holds that end later.'),
          })
          .describe('Holds that are not paid, by when they end.'),
        refused: z
          .strictObject({
            byReason: byReason.describe('Purchases that were refused, by the code of the problem.'),
            pointsSince: time.describe('Since then the refusals of `points` are complete.'),
          })
          .describe('Purchases that were refused. Redis alone has them.'),
      })
      .nullable()
      .describe('What Redis alone has; null while it does not answer.'),
    by: z.enum(STEPS).describe('The step from one point to the next.'),
    points: z
      .array(
        z.strictObject({
          at: time.describe('When the point begins.'),
          accepted: count.describe('Orders that were accepted then.'),
          paid: count.describe('Orders that were paid then.'),
          endedUnpaid: byReason.describe('Orders that ended then without a payment, by reason.'),
          refused: byReason.describe('Purchases that were refused then, by the code of the problem.'),
        }),
      )
      .describe('The points in which anything was.'),
  })
  .meta({ id: 'SaleFigures', description: 'The figures of a sale.' });
type FiguresReply = z.infer<typeof figuresReply>;

export const figuresCalls = {
  'GET /v1/admin/sales/:saleId/figures': adminCall({
    id: 'getSaleFigures',
    does: 'Stock, orders, money and refusals of a sale, in all and over time',
    scope: 'sales:read',
    params: ofSale,
    query: figuresQuery,
    replies: { 200: figuresReply },
    away: 'sale_unavailable',
    refuses: { unknown: 'sale_not_found' },
    async answer(office, { params: { saleId }, query, ctx }) {
      const range = rangeOf(query);
      const key = JSON.stringify([saleId, query.by, ctx.query['from'], ctx.query['until']]);
      const found = await shared(office.pool, key, () => read(office, saleId, range));
      return found ? reply(found) : { kind: 'unknown' };
    },
  }),
} satisfies AdminCalls;

/** Seconds, Unix time, on whole steps. */
interface Range {
  step: Step;
  fromS: number;
  untilS: number;
}

function rangeOf({ by, from, until = Date.now() / 1_000 }: z.infer<typeof figuresQuery>): Range {
  const seconds = STEP_SECONDS[by];
  const untilS = seconds * Math.ceil(until / seconds);
  const fromS = from === undefined ? untilS - POINTS_USUAL * seconds : seconds * Math.floor(from / seconds);
  const points = (untilS - fromS) / seconds;
  if (points >= 0 && points <= POINTS_MAX) return { step: by, fromS, untilS };
  const message = points < 0 ? 'not after until' : `at most ${POINTS_MAX} points before until`;
  throw new Problem('invalid_request', { extra: { faults: [{ path: 'from', message }] } });
}

/** Undefined: there is no such sale. */
type Answer = Promise<FiguresReply | undefined>;

/** The age of figures that are given again. */
const FRESH_MS = 1_000;
/** Answers of a process: of as many sales and ranges as its consoles look at. */
const ANSWERS_MAX = 100;

/** By what they are read from. */
const answers = new WeakMap<Pool, LRUCache<string, Answer>>();

/** Those who ask for the same within a second get the same, also while it is being read. */
function shared(pool: Pool, key: string, begin: () => Answer): Answer {
  const known = answers.get(pool) ?? new LRUCache<string, Answer>({ max: ANSWERS_MAX, ttl: FRESH_MS });
  answers.set(pool, known);
  const found = known.get(key);
  if (found) return found;
  const begun = begin();
  known.set(key, begun);
  begun.catch(() => known.delete(key));
  return begun;
}

/** MySQL is asked one thing after the other: that takes one of the connections that shoppers need. */
async function read(office: BackOffice, saleId: string, { step, fromS, untilS }: Range): Answer {
  const { sales, saleStock, saleFigures, liveFigures } = office;
  const reading = liveFigures.readLive(saleId, step, fromS, untilS).catch(() => undefined);
  const found = await sales.read(saleId);
  if (!found) return undefined;
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
      return calledOff ? { ...units, available: 0, calledOff } : units;
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
