/** What of a sale's figures Redis alone has: refused purchases, and when unpaid holds end. */

import { readClockMs, transact, type RedisClient } from '../redis/connection.ts';
import { saleKeys, wholeSale } from '../redis/keys.ts';
import { lookAtOutbox } from '../redis/outbox.ts';
import { isDamaged } from '../redis/script.ts';
import { STEP_SECONDS, STEPS, type SaleStock, type Step } from './figures.ts';
import { buyableOf } from './sale.ts';
import { listCourses, read } from './stock.redis.ts';

const HOUR_SECONDS = STEP_SECONDS.hour;
/**
 * How long refusals are kept, in seconds. A busy day has some 100,000 fields by second and reason, which are
 * some ten megabytes for a sale: so seconds are kept for two hours.
 */
const KEPT_SECONDS: Readonly<Record<Step, number>> = { second: 7_200, minute: 86_400, hour: 86_400 };
/** The sums of a sale have a field a reason. Retention removes them with the sale, or this does. */
const SUMS_KEPT_SECONDS = 30 * 86_400;
/** A field of the sums: since then no count was lost (Unix seconds). No refusal has this code. */
const SINCE = 'since';
/** Fields that one command reads: less than a millisecond of Redis. */
const FIELDS_AT_ONCE = 1_000;

const refusedKey = (saleId: string) => saleKeys(wholeSale(saleId)).refused;
const beginOf = (atS: number, seconds: number): number => atS - (atS % seconds);

/**
 * Adds refused purchases of a sale to the second, minute and hour of now, by Redis' clock.
 * @param isIncomplete earlier counts were lost
 */
export async function noteRefused(
  redis: RedisClient,
  saleId: string,
  counts: ReadonlyMap<string, number>,
  isIncomplete: boolean,
): Promise<void> {
  const nowS = Math.floor((await readClockMs(redis)) / 1_000);
  const sums = refusedKey(saleId)('sums', 0);
  const keyOf = (step: Step) => refusedKey(saleId)(step, beginOf(nowS, HOUR_SECONDS));
  const multi = redis.multi();
  for (const [reason, count] of counts) {
    multi.hincrby(sums, reason, count);
    for (const step of STEPS)
      multi.hincrby(keyOf(step), `${beginOf(nowS, STEP_SECONDS[step])}:${reason}`, count);
  }
  if (isIncomplete) multi.hset(sums, SINCE, nowS);
  for (const step of STEPS) multi.pexpire(keyOf(step), KEPT_SECONDS[step] * 1_000);
  try {
    await transact(multi.pexpire(sums, SUMS_KEPT_SECONDS * 1_000));
  } catch (error) {
    // Nothing makes these keys again, so that they begin anew.
    if (isDamaged(error)) await redis.unlink(sums, ...STEPS.map(keyOf));
    throw error;
  }
}

interface RefusedPurchases {
  /** Since then no point is missing (Unix ms). */
  sinceMs: number;
  /** By the code of the refusal. */
  sums: Record<string, number>;
  /** By when each point begins, in Unix seconds. */
  points: Map<number, Record<string, number>>;
}

/** The refused purchases of a sale in all, and by point from one time until before another. */
async function readRefused(
  redis: RedisClient,
  saleId: string,
  step: Step,
  fromS: number,
  untilS: number,
): Promise<RefusedPurchases> {
  const key = refusedKey(saleId);
  const [{ [SINCE]: lostAtS, ...sums }, nowMs] = await Promise.all([
    redis.hgetall(key('sums', 0)),
    readClockMs(redis),
  ]);
  const nowS = nowMs / 1_000;
  const seconds = STEP_SECONDS[step];
  const keptSinceS = beginOf(Math.ceil(nowS - KEPT_SECONDS[step]), seconds);
  const endS = Math.min(untilS, nowS);
  const reasons = Object.keys(sums);
  const points: RefusedPurchases['points'] = new Map();

  async function readFields(hourS: number, fields: readonly (readonly [number, string])[]): Promise<void> {
    const found = await redis.hmget(key(step, hourS), ...fields.map(([atS, reason]) => `${atS}:${reason}`));
    for (const [i, [atS, reason]] of fields.entries()) {
      const count = Number(found[i] ?? 0);
      if (count > 0) points.set(atS, { ...points.get(atS), [reason]: count });
    }
  }

  let fields: [number, string][] = [];
  for (let atS = Math.max(fromS, keptSinceS); atS < endS; atS += seconds) {
    for (const reason of reasons) fields.push([atS, reason]);
    const hourS = beginOf(atS, HOUR_SECONDS);
    const isLast = atS + seconds >= Math.min(endS, hourS + HOUR_SECONDS);
    if (fields.length === 0 || (fields.length < FIELDS_AT_ONCE && !isLast)) continue;
    await readFields(hourS, fields);
    fields = [];
  }
  return {
    sinceMs: 1_000 * Math.max(nowS - KEPT_SECONDS[step], Number(lostAtS ?? 0)),
    sums: toCounts(sums),
    points,
  };
}

const toCounts = (hash: Record<string, string>): Record<string, number> =>
  Object.fromEntries(Object.entries(hash).map(([name, count]) => [name, Number(count)]));

const MINUTE_MS = 60_000;
/** A payment window is some minutes long; holds that end later are counted together. */
const MINUTES_AHEAD = 60;

interface UnpaidHolds {
  /** Their deadline has passed, and they are being ended. */
  overdue: number;
  /** By the minute in which they end, those of an hour. */
  minutes: { beginsMs: number; holds: number }[];
  later: number;
}

/** Each count is a search in the sorted set of the sale's deadlines, however many holds there are. */
async function countHolds(redis: RedisClient, saleId: string): Promise<UnpaidHolds> {
  const { deadlines } = saleKeys(wholeSale(saleId));
  const nowMs = await readClockMs(redis);
  const firstMs = nowMs - (nowMs % MINUTE_MS);
  const minuteMs = (i: number): number => firstMs + i * MINUTE_MS;
  const [overdue, later, ...holds] = await Promise.all([
    redis.zcount(deadlines, '-inf', `(${firstMs}`),
    redis.zcount(deadlines, minuteMs(MINUTES_AHEAD), '+inf'),
    ...Array.from({ length: MINUTES_AHEAD }, (_, i) =>
      redis.zcount(deadlines, minuteMs(i), `(${minuteMs(i + 1)}`),
    ),
  ]);
  const minutes = holds.map((count, i) => ({ beginsMs: minuteMs(i), holds: count }));
  return { overdue, minutes: minutes.filter((minute) => minute.holds > 0), later };
}

/** What Redis tells of a sale beside its stock. `outbox`: accepted orders that are not stored yet. */
export async function readLive(
  redis: RedisClient,
  saleId: string,
  step: Step,
  fromS: number,
  untilS: number,
) {
  const [refused, holds, outbox] = await Promise.all([
    readRefused(redis, saleId, step, fromS, untilS),
    countHolds(redis, saleId),
    lookAtOutbox(redis, wholeSale(saleId)),
  ]);
  return { refused, holds, outbox };
}

/** Sales that metrics show: each has a sample for every SKU and reason. */
const SHOWN_MAX = 20;
const SHOWN_AFTER_CLOSE_MS = 60 * MINUTE_MS;

/** The sales that are open or ended within the hour; of too many, those that opened last. */
export async function listShown(redis: RedisClient): Promise<string[]> {
  const courses = await listCourses(redis);
  return courses
    .filter(({ opensInMs, closesInMs }) => opensInMs <= 0 && closesInMs > -SHOWN_AFTER_CLOSE_MS)
    .toSorted((a, b) => b.opensInMs - a.opensInMs)
    .slice(0, SHOWN_MAX)
    .map(({ saleId }) => saleId);
}

/** The stocks of the sales that metrics show. */
export async function readStocks(redis: RedisClient): Promise<SaleStock[]> {
  const found = await Promise.allSettled(
    (await listShown(redis)).map(async (saleId): Promise<SaleStock[]> => {
      const [view, { [SINCE]: _, ...sums }] = await Promise.all([
        read(redis, saleId),
        redis.hgetall(refusedKey(saleId)('sums', 0)),
      ]);
      if (!view) return [];
      const skus = view.skus.map((sku) => ({ ...sku, available: buyableOf(sku) }));
      return [{ saleId, skus, refused: toCounts(sums) }];
    }),
  );
  // A damaged key of one sale hides no other.
  return found.flatMap((sale) => (sale.status === 'fulfilled' ? sale.value : []));
}
