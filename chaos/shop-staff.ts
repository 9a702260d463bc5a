/**
 * What the shop's staff do over HTTP in mid-storm: they change the sale that is being bought from, refund
 * paid orders whose units go on sale again, extend deadlines, and call a SKU off. What was answered must be
 * so.
 */

import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { callOffReply } from '../src/api/calls/call-off.ts';
import { shopSaleReply, type ShopSaleReply } from '../src/api/calls/sales.ts';
import { orderFileReply } from '../src/api/calls/staff-orders.ts';
import { createCaller, type Calls, type Reply } from './caller.ts';
import type { History, Violation } from './history.ts';
import type { Random } from './random.ts';
import type { Cart } from './shopper.ts';

const STAFF = 'shop-staff';
/** Longer than any fault lasts, with the recovery from it. */
const PATIENCE_MS = 150_000;
const CHANGE_EVERY_MS = { min: 2_000, max: 5_000 };
/** Of a SKU's units. */
const RAISED_SHARE_MAX = 0.05;
/** Shorter than a shopper's patience by far. */
const PAUSED_MS = { min: 200, max: 800 };
const LOOK_EVERY_MS = 300;
/** Of the paid orders. */
const REFUNDED_SHARE = 0.1;
const REFUNDS_MAX = 40;
/** Of the orders that may be paid. */
const EXTENDED_SHARE = 0.12;
/** How long after its acceptance an order is extended, and by how much: the storm waits for its end. */
const EXTENDED_AFTER_MS = { min: 1_000, max: 30_000 };
const EXTENDED_BY_MS = { min: 5_000, max: 10_000 };

const orderFile = orderFileReply.pick({ refunds: true, history: true }).strip();
const refusal = z.object({ code: z.string() });
/** The order is not open any more, also the later deadline has passed, or the order was lost. */
const NOT_EXTENDED = ['not_extendable', 'deadline_out_of_range', 'order_not_found'];

export interface ShopStaffOptions {
  apiUrls: readonly string[];
  saleId: string;
  random: Random;
  calls: Calls;
  /** Gets when stock was lowered: from then on fewer units can be had than were seen before. */
  lowered: History['lowered'];
}

export async function createShopStaff({ apiUrls, saleId, random, calls, lowered }: ShopStaffOptions) {
  const { call, persist } = await createCaller({ userId: STAFF, roles: ['admin'], random, calls });
  const counts = new Map<string, number>();
  const violations: Violation[] = [];
  /** The keys of requests for refunds, by their orders. */
  const refunded = new Map<string, string>();
  /** Until when, in Unix ms, by their orders. */
  const extended = new Map<string, number>();
  const calledOff = new Set<string>();
  const count = (what: string): unknown => counts.set(what, (counts.get(what) ?? 0) + 1);
  const foundWrong = (check: string, subject: string, detail: string): unknown =>
    violations.push({ check, subject, detail });

  function send(method: string, path: string, body?: object, headers = {}): Promise<Reply | undefined> {
    const json = { 'content-type': 'application/json', ...headers };
    return persist(Date.now() + PATIENCE_MS, () =>
      call(method, new URL(`/v1/admin/${path}`, random.pick(apiUrls)), {
        headers: json,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    );
  }

  async function readSale(): Promise<ShopSaleReply> {
    const reply = await send('GET', `sales/${saleId}`);
    if (reply?.status !== 200) throw new Error(`the sale cannot be read: ${JSON.stringify(reply?.body)}`);
    return shopSaleReply.parse(reply.body);
  }

  /** What is recorded is made within a second as a rule, and Redis may be about to get it again. */
  async function waitToBe(wanted: readonly Document[]): Promise<boolean> {
    const texts = wanted.map((document) => JSON.stringify(document));
    for (const untilMs = Date.now() + PATIENCE_MS; Date.now() < untilMs; await delay(LOOK_EVERY_MS)) {
      const shown = await readSale();
      if (!shown.pending && texts.includes(JSON.stringify(documentOf(shown)))) return true;
    }
    return false;
  }

  /** By its version, so that a process that thaws makes no older change. */
  async function change(shown: ShopSaleReply): Promise<void> {
    const before = documentOf(shown);
    const after = changed(before, random);
    const spans = lowerings(before, after).map((sku) => ({ sku, startMs: Date.now(), endMs: Infinity }));
    lowered.push(...spans);
    const reply = await send('PUT', `sales/${saleId}`, after, { 'if-match': `"${shown.version}"` });
    const outcome = outcomeOf(reply);
    count(`changes ${outcome}`);
    const wanted = { made: [after], refused: [before], unknown: [before, after] }[outcome];
    if (!(await waitToBe(wanted))) {
      const detail = `${reply?.status}, and it is ${JSON.stringify(documentOf(await readSale()))}, not ${JSON.stringify(wanted)}`;
      foundWrong('a change of the sale is as it was answered', saleId, detail);
    }
    for (const span of spans) span.endMs = Date.now();
  }

  async function pause(): Promise<void> {
    count('pauses');
    await send('POST', `sales/${saleId}/pause`);
    await delay(random.int(PAUSED_MS.min, PAUSED_MS.max));
  }

  return {
    counts,

    /** Changes the sale again and again until `signal` aborts. It is not left paused. */
    async changeSale(signal: AbortSignal): Promise<void> {
      while (!signal.aborted) {
        await delay(random.int(CHANGE_EVERY_MS.min, CHANGE_EVERY_MS.max));
        if (random.next() < 0.2) await pause();
        // A process that thaws may pause it again, so this is looked at each time.
        const shown = await readSale();
        if (shown.paused) await send('POST', `sales/${saleId}/resume`);
        else if (!signal.aborted) await change(shown);
      }
      await send('POST', `sales/${saleId}/resume`);
    },

    /** Now and then: all of a paid order goes back, or one unit of it. @returns whether it was requested */
    async maybeRefund(orderNo: string, cart: readonly Cart[], chance: Random): Promise<boolean> {
      if (chance.next() >= REFUNDED_SHARE || refunded.size >= REFUNDS_MAX) return false;
      const [line] = cart;
      const lines = line && chance.next() < 0.5 ? { lines: [{ sku: line.sku, quantity: 1 }] } : {};
      const idempotencyKey = randomUUID();
      refunded.set(orderNo, idempotencyKey);
      count('lines' in lines ? 'refunds of a line' : 'refunds of all');
      const body = { ...lines, restock: true, reason: `the storm, ${idempotencyKey}` };
      const reply = await send('POST', `orders/${orderNo}/refunds`, body, {
        'idempotency-key': idempotencyKey,
      });
      if (reply?.status === 202 || reply?.status === 200) return true;
      foundWrong('a paid order is refunded', orderNo, `${reply?.status} ${JSON.stringify(reply?.body)}`);
      return true;
    },

    /** Now and then an order gets more time. @returns whether it did */
    async maybeExtend(orderNo: string, deadlineMs: number, chance: Random): Promise<boolean> {
      if (chance.next() >= EXTENDED_SHARE) return false;
      await delay(chance.int(EXTENDED_AFTER_MS.min, EXTENDED_AFTER_MS.max));
      const untilMs = deadlineMs + chance.int(EXTENDED_BY_MS.min, EXTENDED_BY_MS.max);
      const reply = await send('POST', `orders/${orderNo}/deadline`, {
        until: new Date(untilMs).toISOString(),
      });
      if (reply?.status === 200) {
        count('deadlines extended');
        extended.set(orderNo, untilMs);
        return true;
      }
      const code = refusal.safeParse(reply?.body).data?.code ?? '';
      if (!NOT_EXTENDED.includes(code))
        foundWrong('a deadline is extended or not', orderNo, JSON.stringify(reply?.body));
      return false;
    },

    /** For good, with the units back on sale. */
    async callOff(sku: string): Promise<void> {
      calledOff.add(sku);
      const reply = await send('POST', `sales/${saleId}/call-off`, { sku, restock: true });
      if (reply?.status === 202 || reply?.status === 200) return;
      foundWrong('a SKU is called off', sku, `${reply?.status} ${JSON.stringify(reply?.body)}`);
    },

    /** When all has come to rest: what was answered has come about. */
    async judge(): Promise<Violation[]> {
      await judgeRefunds();
      await judgeExtended();
      for (const sku of calledOff) await judgeCalledOff(sku);
      return violations;
    },
  };

  /** Each has succeeded, once, and its units are on sale again. */
  async function judgeRefunds(): Promise<void> {
    for (const [orderNo, key] of refunded) {
      const reply = await send('GET', `orders/${orderNo}`);
      const { refunds } = orderFile.parse(reply?.body);
      const [refund, another] = refunds.filter(({ reason }) => reason?.includes(key));
      if (refund?.status === 'succeeded' && refund.restocked && another === undefined) continue;
      foundWrong('a refund ends, and its units are sold again', orderNo, JSON.stringify(refunds));
    }
  }

  /** The deadline was so, and no time-out came before. */
  async function judgeExtended(): Promise<void> {
    for (const [orderNo, untilMs] of extended) {
      const reply = await send('GET', `orders/${orderNo}`);
      const { history } = orderFile.parse(reply?.body);
      const isExtended = history.some(({ extendedUntil }) => Date.parse(extendedUntil ?? '') === untilMs);
      const end = history.find(({ status }) => status === 'cancelled');
      if (end?.reason === 'payment_timeout') count('extended orders that ended at their later deadline');
      const isTooEarly = end?.reason === 'payment_timeout' && Date.parse(end.occurredAt) < untilMs;
      if (isExtended && !isTooEarly) continue;
      foundWrong('an extended order has its time', orderNo, JSON.stringify({ untilMs, history }));
    }
  }

  /** It is over: nothing is open or on its way, and nothing had to be left out. */
  async function judgeCalledOff(sku: string): Promise<void> {
    const reply = await send('GET', `sales/${saleId}/call-off?sku=${sku}`);
    const report = callOffReply.parse(reply?.body);
    const { endedAt, open, requested, withdrawn, exceptions, cancelled, refunded: back } = report;
    counts.set('orders cancelled as called off', cancelled.orders);
    counts.set('orders refunded as called off', back.orders);
    const left = open.orders + requested.orders + withdrawn.orders + exceptions.length;
    if (endedAt === null || left > 0) foundWrong('what is called off is over', sku, JSON.stringify(report));
  }
}

/** Another version than was named: a first try may have made it, whose answer was lost. */
function outcomeOf(reply: Reply | undefined): 'made' | 'refused' | 'unknown' {
  if (reply === undefined || reply.status === 412) return 'unknown';
  return reply.status === 200 ? 'made' : 'refused';
}

/** What the shop decides of a sale, as it is sent: all but what comes of it. */
function documentOf(shown: ShopSaleReply) {
  const { name, currency, opensAt, closesAt, paymentWindowMs, refundRestoresLimit, limitPerUser } = shown;
  const { expiringNoticeMs } = shown;
  const rules = {
    currency,
    opensAt,
    closesAt,
    paymentWindowMs,
    expiringNoticeMs,
    refundRestoresLimit,
    limitPerUser,
  };
  const skus = shown.skus.map(({ sku, name: skuName, unitPrice, total, limitPerUser: limit }) => ({
    sku,
    name: skuName,
    unitPrice,
    total,
    limitPerUser: limit,
  }));
  return { name, ...rules, skus };
}

type Document = ReturnType<typeof documentOf>;

/** Limits are wide: the crowd of a trial is small, and must go on buying. */
function changed(document: Document, random: Random): Document {
  const at = random.int(0, document.skus.length - 1);
  const withSku = (change: (total: number) => Partial<Document['skus'][number]>): Document => ({
    ...document,
    skus: document.skus.map((sku, i) => (i === at ? { ...sku, ...change(sku.total) } : sku)),
  });
  return random.pick<() => Document>([
    // By a small share, so that what is scarce sells out in a short storm too.
    () => withSku((total) => ({ total: total + random.int(1, Math.ceil(total * RAISED_SHARE_MAX)) })),
    // Of what is scarce often below what is held and sold, which is refused.
    () => withSku((total) => ({ total: Math.max(1, total - random.int(1, 40)) })),
    () => withSku(() => ({ limitPerUser: random.pick([null, 100, 200]) })),
    () => ({ ...document, limitPerUser: random.pick([null, 300, 400]) }),
    () => ({ ...document, name: `Trial ${random.int(1, 1_000_000)}` }),
  ])();
}

function lowerings(before: Document, after: Document): string[] {
  const totals = new Map(before.skus.map(({ sku, total }) => [sku, total]));
  return after.skus.filter(({ sku, total }) => total < (totals.get(sku) ?? 0)).map(({ sku }) => sku);
}
