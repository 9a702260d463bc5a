/** The shop's sales: made, changed, paused, closed and shown. */

import type { Context } from 'koa';
import { z } from 'zod';
import { SALE_ID_PATTERN, WARM_UP_AHEAD_MS } from '../../limits.ts';
import { MAX_SALE_TIME_MS, MIN_SALE_TIME_MS } from '../../limits.ts';
import { saleIdSchema } from '../../orders/content.ts';
import type { Decision } from '../../parked/parked.sql.ts';
import type { PendingChange, Ask, Recorded, Refusal } from '../../sales/changes.sql.ts';
import { priceFaults } from '../../sales/create-sale.ts';
import { DEFAULT_PAYMENT_WINDOW_MS } from '../../sales/sale.ts';
import { SHOP_SALE_STATES, shopSku, skusOf, snapshotSale, saleSchema, type Sale } from '../../sales/sale.ts';
import type { ShownSale } from '../../sales/sales.sql.ts';
import type { Stores } from '../../stores/open.ts';
import { Problem, parseInput, unavailable } from '../http/problem.ts';
import { count, nextPage } from '../http/replies.ts';
import { pageLimit } from '../http/request.ts';
import { decisionBody, type AdminCalls, type AdminContext, type BackOffice } from './call.ts';
import { skuReply, saleReply } from './sale-views.ts';

/**
 * Bytes of a sale as the shop sends it: 200 SKUs, each with a name of 200 characters, a reference and full
 * metadata, are 450 KiB.
 */
export const MAX_SALE_BODY_BYTES = 512 * 1024;

/** Sales in one page of a list: each comes with its SKUs, so a page is at most some megabytes. */
const MAX_SALES_LISTED = 50;

const { shape } = saleSchema;
const draftSchema = z.boolean().describe('The sale is a draft: it is not for shoppers yet.');

export const shopSaleReply = saleReply
  .extend({
    state: z.enum(SHOP_SALE_STATES).meta({ description: 'The state of the sale.', examples: ['open'] }),
    draft: draftSchema,
    refundRestoresLimit: shape.refundRestoresLimit.removeDefault(),
    expiringNoticeMs: shape.expiringNoticeMs,
    version: z.int().min(1).describe('The version of what the shop decided: the `ETag`.'),
    pending: z.boolean().describe('A change is recorded, and not made yet.'),
    skus: z
      .array(
        skuReply.extend({
          unsold: count.optional().describe('Units that the closed sale has not sold.'),
        }),
      )
      .describe('The SKUs. For each `total = available + held + sold`.'),
  })
  .meta({ id: 'ShopSale', description: 'A sale with all that its shop decided, and its stock.' });
export type ShopSaleReply = z.infer<typeof shopSaleReply>;

const salesReply = z
  .strictObject({
    sales: z.array(shopSaleReply).describe('The sales, by their ids.'),
    next: nextPage,
  })
  .meta({ id: 'ShopSaleList', description: 'A page of sales.' });
type SalesReply = z.infer<typeof salesReply>;

// The conditions that a caller puts on a change (RFC 9110, 13.1).

/**
 * `If-Match`: the versions that the caller knows; `any`: whichever, if it exists. A tag that is not ours
 * matches nothing, and neither does a weak one.
 */
function ifMatchOf(ctx: Context): readonly number[] | 'any' | undefined {
  const { 'if-match': header } = ctx.req.headers;
  if (header === undefined) return undefined;
  if (header.trim() === '*') return 'any';
  return header.split(',').flatMap((tag) => {
    const version = /^"(\d{1,9})"$/.exec(tag.trim())?.[1];
    return version === undefined ? [] : [Number(version)];
  });
}

/** `If-None-Match: *`: only where there is none yet. */
function isNewAsked(ctx: Context): boolean {
  const { 'if-none-match': header } = ctx.req.headers;
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  const faults = [{ path: 'If-None-Match', message: 'only *' }];
  throw new Problem('invalid_request', { extra: { faults } });
}

// A sale as the shop sends it.

const time = z.iso
  .datetime({ offset: true })
  .transform((text) => Date.parse(text))
  .pipe(z.int().min(MIN_SALE_TIME_MS, 'not before 2000').max(MAX_SALE_TIME_MS, 'not after 2100'));

const saleBody = z
  .strictObject({
    name: shape.name,
    currency: shape.currency,
    opensAt: time.describe('When the sale opens: RFC 3339, with any offset.'),
    closesAt: time.describe('When the sale closes: RFC 3339, with any offset.'),
    paymentWindowMs: shape.paymentWindowMs.default(DEFAULT_PAYMENT_WINDOW_MS),
    refundRestoresLimit: shape.refundRestoresLimit,
    expiringNoticeMs: shape.expiringNoticeMs,
    limitPerUser: shape.limitPerUser,
    maxUnpaidHolds: shape.maxUnpaidHolds,
    addressPurchasesPerMinute: shape.addressPurchasesPerMinute,
    ticketRequired: shape.ticketRequired,
    verification: shape.verification,
    draft: draftSchema.default(false),
    reference: shape.reference,
    metadata: shape.metadata,
    skus: skusOf(shopSku).describe('The SKUs, in the order in which they are shown.'),
  })
  // One that is no time is a fault of its own, and later than nothing.
  .refine(({ opensAt, closesAt }) => !(opensAt >= closesAt), {
    message: 'a sale opens before it closes',
    path: ['closesAt'],
  })
  .refine(({ ticketRequired, verification }) => !(ticketRequired && verification), {
    message: 'not beside ticketRequired: no ticket that is worked for stands for one of yours',
    path: ['verification'],
  })
  .meta({
    id: 'SaleTerms',
    description: 'A sale as its shop decides it.',
    examples: [
      {
        name: 'Autumn lamps',
        currency: 'EUR',
        opensAt: '2026-11-27T10:00:00Z',
        closesAt: '2026-11-27T22:00:00Z',
        limitPerUser: 4,
        skus: [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4900, total: 1000, limitPerUser: 2 }],
      },
    ],
  });

const saleIdInput = z.object({ saleId: saleIdSchema });

/** @throws Problem 400 that lists what is wrong */
function parseSale(saleIdText: string | undefined, body: unknown): { sale: Sale; isDraft: boolean } {
  const { saleId } = parseInput(saleIdInput, { saleId: saleIdText });
  const { opensAt, closesAt, draft, ...rules } = parseInput(saleBody, body);
  // The pause has calls of its own; it is not part of what is sent here.
  return {
    sale: { saleId, ...rules, opensAtMs: opensAt, closesAtMs: closesAt, paused: false },
    isDraft: draft,
  };
}

// Changes a sale through its three steps, and says what came of it.

/** Changes of others that are completed before this one. More are no accident, and the caller may repeat. */
const EARLIER_MAX = 5;

/** @throws Problem when it was not made; `sale_change_unavailable`: it may yet be */
export async function changeSale(
  { saleChanges, saleStock, log }: Stores,
  ask: Ask,
  decision: Decision,
): Promise<Done['kind']> {
  /**
   * Settles the change. A refusal concerns the caller only if it is the caller's own.
   * @returns whether it was made; otherwise it was withdrawn
   */
  async function complete(change: PendingChange, isOwn: boolean): Promise<boolean> {
    const end = await saleChanges.complete(change, saleStock).catch(failLater);
    if (!end) failLater(undefined);
    if (end.kind === 'withdrawn') {
      const { saleId, changeNo, action } = change;
      log.error(
        { saleId, changeNo, action },
        'MySQL had lost changes of a sale; they were taken over from Redis',
      );
    }
    if (end.kind === 'ended' && isOwn) throw refusalOf(end);
    if (end.kind === 'refused' && isOwn) {
      const { sku, committed } = end;
      throw new Problem('stock_below_committed', {
        extra: { sku, committed },
      });
    }
    return end.kind !== 'withdrawn';
  }

  for (let earlier = 0; earlier <= EARLIER_MAX; earlier += 1) {
    const recorded = await saleChanges.record(ask, decision).catch(failUnrecorded);
    if (isDone(recorded)) return recorded.kind;
    if (recorded.kind === 'recorded') {
      if (await complete(recorded.change, true)) return 'changed';
      continue;
    }
    if (recorded.kind !== 'pending') throw refusalOf(recorded);
    await complete(recorded.change, false);
  }
  return failUnrecorded(undefined);
}

type Done = Extract<Recorded, { kind: 'created' | 'changed' | 'unchanged' }>;

function isDone(recorded: Recorded): recorded is Done {
  return ['created', 'changed', 'unchanged'].includes(recorded.kind);
}

function refusalOf(recorded: Refusal): Problem {
  switch (recorded.kind) {
    case 'unknown':
      return saleUnknown();
    case 'ended':
      return new Problem('sale_ended');
    case 'draft':
      return new Problem('sale_is_draft');
    case 'conflict':
      return new Problem('version_conflict', {
        extra: { version: recorded.version ?? null },
      });
    case 'fixed': {
      const { path, message, sku } = recorded.rule;
      return new Problem('sale_rule_fixed', {
        detail: message,
        extra: { path, ...(sku === undefined ? {} : { sku }) },
      });
    }
    case 'rebuilding':
      return new Problem('sale_change_unavailable', {
        retryAfterSeconds: 1,
      });
    default:
      return recorded satisfies never;
  }
}

function failUnrecorded(error: unknown): never {
  throw unavailable('sale_change_unavailable', error);
}

function failLater(error: unknown): never {
  throw unavailable('sale_change_unavailable', error);
}

/** Not "not on yet": the back office sees every sale. */
export function saleUnknown(): Problem {
  return new Problem('sale_not_found');
}

const listQuery = z.strictObject({
  state: z
    .enum(SHOP_SALE_STATES)
    .optional()
    .describe('Those in this state alone; unless given, all but archived ones.'),
  after: saleIdSchema.optional().describe('Those after the page whose `next` this is.'),
  limit: pageLimit(MAX_SALES_LISTED),
});

/** What the calls that change a sale by a word have in common. */
const change = {
  scope: 'sales:write',
  body: { schema: decisionBody, isOptional: true },
  replies: { 200: shopSaleReply },
  gives: { 200: ['ETag'] },
  refuses: ['sale_not_found', 'sale_ended', 'sale_is_draft', 'sale_change_unavailable', 'sale_unavailable'],
} as const;

/** Each call that changes something answers the same when it is repeated. */
export const saleCalls = {
  'GET /v1/admin/sales': {
    id: 'listSales',
    does: 'The sales by their ids, a page at a time',
    scope: 'sales:read',
    query: listQuery,
    replies: { 200: salesReply },
    refuses: ['sale_unavailable'],
    handle: listSales,
  },
  'GET /v1/admin/sales/:saleId': {
    id: 'getShopSale',
    does: 'A sale with all that its shop decided, and its stock',
    scope: 'sales:read',
    replies: { 200: shopSaleReply },
    gives: { 200: ['ETag'] },
    refuses: ['sale_not_found', 'sale_unavailable'],
    handle: (office, ctx) => answer(office, ctx, saleIdOf(ctx)),
  },
  'PUT /v1/admin/sales/:saleId': {
    id: 'putSale',
    does: 'Makes a sale, or changes it to what is sent',
    scope: 'sales:write',
    body: { schema: saleBody, bytesMax: MAX_SALE_BODY_BYTES },
    reads: ['If-Match', 'If-None-Match'],
    replies: { 200: shopSaleReply, 201: shopSaleReply },
    gives: { 200: ['ETag'], 201: ['ETag', 'Location'] },
    refuses: [
      'sale_rule_fixed',
      'stock_below_committed',
      'sale_ended',
      'version_conflict',
      'sale_change_unavailable',
      'sale_unavailable',
    ],
    handle: putSale,
  },
  'POST /v1/admin/sales/:saleId/pause': {
    id: 'pauseSale',
    does: 'Accepts no order until the sale is resumed',
    ...change,
    handle: act('pause'),
  },
  'POST /v1/admin/sales/:saleId/resume': {
    id: 'resumeSale',
    does: 'Ends the pause of a sale',
    ...change,
    handle: act('resume'),
  },
  'POST /v1/admin/sales/:saleId/close': {
    id: 'closeSale',
    does: 'Closes a sale now, for good',
    ...change,
    handle: act('close'),
  },
  'POST /v1/admin/sales/:saleId/archive': {
    id: 'archiveSale',
    does: 'Takes a sale that is settled, or a draft, off the list for good',
    ...change,
    refuses: ['sale_not_found', 'sale_not_settled', 'decision_unavailable', 'sale_unavailable'],
    handle: archiveSale,
  },
} satisfies AdminCalls;

async function listSales(office: BackOffice, ctx: AdminContext): Promise<void> {
  const { state, after = '', limit } = parseInput(listQuery, { ...ctx.query });
  const found = await office.sales.list(state, after, limit).catch(failToRead);
  const last = found.length === limit ? found.at(-1) : undefined;
  ctx.set('Cache-Control', 'no-store');
  ctx.body = {
    sales: await Promise.all(found.map((one) => view(office, one))),
    next: last?.sale.saleId ?? null,
  } satisfies SalesReply;
}

async function putSale(office: BackOffice, ctx: AdminContext): Promise<void> {
  const { sale, isDraft } = parseSale(ctx.params['saleId'], ctx.state.body);
  const ask = { action: 'put', sale, isDraft, ifMatch: ifMatchOf(ctx), isNew: isNewAsked(ctx) } as const;
  const faults = priceFaults(sale, office.provider);
  if (faults.length > 0)
    throw new Problem('invalid_request', {
      extra: { faults },
    });
  const outcome = await changeSale(office, ask, { actor: ctx.state.userId, reason: null });
  ctx.status = outcome === 'created' ? 201 : 200;
  if (outcome === 'created') ctx.set('Location', `/v1/admin/sales/${sale.saleId}`);
  await warmUpIfDue(office, sale.saleId);
  await answer(office, ctx, sale.saleId);
}

function act(action: 'pause' | 'resume' | 'close') {
  return async (office: BackOffice, ctx: AdminContext): Promise<void> => {
    const saleId = saleIdOf(ctx);
    const { reason = null } = parseInput(decisionBody, ctx.state.body);
    await changeSale(office, { action, saleId }, { actor: ctx.state.userId, reason });
    await answer(office, ctx, saleId);
  };
}

async function archiveSale(office: BackOffice, ctx: AdminContext): Promise<void> {
  const saleId = saleIdOf(ctx);
  const { reason = null } = parseInput(decisionBody, ctx.state.body);
  const outcome = await office.saleChanges
    .archive(saleId, { actor: ctx.state.userId, reason })
    .catch((error: unknown) => {
      throw unavailable('decision_unavailable', error);
    });
  if (outcome === 'unknown') throw saleUnknown();
  if (outcome === 'not-settled') throw new Problem('sale_not_settled');
  await answer(office, ctx, saleId);
}

async function answer(office: BackOffice, ctx: AdminContext, saleId: string): Promise<void> {
  const found = await find(office, saleId);
  ctx.etag = String(found.version);
  ctx.set('Cache-Control', 'no-store');
  ctx.body = await view(office, found);
}

/** As it is right now, where it is sold from. */
async function view({ saleStock }: BackOffice, found: ShownSale): Promise<ShopSaleReply> {
  const isInRedis = found.isWarm && !found.isCleaned;
  // MySQL's own counts lag behind by what is yet to be stored; better than no answer.
  const live = isInRedis ? await saleStock.read(found.sale.saleId).catch(() => undefined) : undefined;
  return { ...snapshotSale(found, live?.skus ?? found.stock), pending: found.isChanging };
}

async function find({ sales }: BackOffice, saleId: string): Promise<ShownSale> {
  const found = await sales.read(saleId).catch(failToRead);
  if (!found) throw saleUnknown();
  return found;
}

/**
 * Puts the sale into Redis before the shop gets the answer that it is open. Where that fails, it stays
 * pending, and a worker does it within a second.
 */
async function warmUpIfDue(office: BackOffice, saleId: string): Promise<void> {
  const { sales, saleStock, log } = office;
  const found = await find(office, saleId);
  if (!isToBeWarm(found)) return;
  await sales.warmUp(saleId, saleStock).catch((error: unknown) => {
    log.warn({ err: error, saleId }, 'a sale was not put into Redis at once; a worker will do it');
  });
}

/** As the worker that looks after the sales finds those that it puts into Redis. */
function isToBeWarm({ sale, isDraft, isWarm, nowMs }: ShownSale): boolean {
  return !isDraft && !isWarm && sale.opensAtMs <= nowMs + WARM_UP_AHEAD_MS && nowMs < sale.closesAtMs;
}

function saleIdOf(ctx: AdminContext): string {
  const saleId = ctx.params['saleId'] ?? '';
  if (!SALE_ID_PATTERN.test(saleId)) throw saleUnknown();
  return saleId;
}

function failToRead(error: unknown): never {
  throw unavailable('sale_unavailable', error);
}
