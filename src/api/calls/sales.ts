/** The shop's sales: made, changed, paused, closed and shown. */

import type { Context } from 'koa';
import { z } from 'zod';
import { MAX_SALE_TIME_MS, MIN_SALE_TIME_MS, WARM_UP_AHEAD_MS } from '../../limits.ts';
import { decisionReason, saleIdSchema, skuSchema } from '../../orders/content.ts';
import type { Decision } from '../../parked/parked.sql.ts';
import type { Ask, Recorded, Refusal } from '../../sales/changes.sql.ts';
import { priceFaults } from '../../sales/create-sale.ts';
import type { SaleRecord } from '../../sales/rows.sql.ts';
import {
  DEFAULT_PAYMENT_WINDOW_MS,
  type SaleDocument,
  SHOP_SALE_STATES,
  shopSku,
  skusOf,
  snapshotSale,
  saleSchema,
} from '../../sales/sale.ts';
import type { ShownSale } from '../../sales/sales.sql.ts';
import type { Stores } from '../../stores/open.ts';
import { type Reply, reply } from '../http/answer.ts';
import { Problem, parseInput } from '../http/problem.ts';
import { count, nextPage } from '../http/replies.ts';
import { moment, pageLimit } from '../http/request.ts';
import { adminCall, type AdminCalls, type BackOffice, decisionBody, ofSale } from './call.ts';
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

const time = moment.pipe(
  z.int().min(MIN_SALE_TIME_MS, 'not before 2000').max(MAX_SALE_TIME_MS, 'not after 2100'),
);

// What only `GET` shows is taken and ignored, so that a sale can be sent as it was shown.
const shown = shopSaleReply
  .pick({ saleId: true, paused: true, state: true, version: true, pending: true })
  .partial();
const shownOfSku = shopSaleReply.shape.skus.element
  .pick({ calledOff: true, available: true, held: true, sold: true, unsold: true })
  .partial();
const sentSku = shopSku
  .extend(shownOfSku.shape)
  .transform(({ calledOff: _off, available: _free, held: _held, sold: _sold, unsold: _left, ...own }) => own);

const terms = {
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
  skus: skusOf(sentSku).describe('The SKUs, in the order in which they are shown.'),
};

const saleBody = z
  .strictObject({ ...terms, ...shown.shape })
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

/** @throws Problem 400 that lists what is wrong */
const readSale = (provider: BackOffice['provider'], saleId: string, body: unknown): SaleDocument =>
  documentOf(provider, saleId, parseInput(saleBody, body));

/** @throws Problem 400 for prices that the provider does not take */
function documentOf(
  provider: BackOffice['provider'],
  saleId: string,
  sent: z.output<typeof saleBody>,
): SaleDocument {
  const { saleId: _id, paused: _paused, state: _state, version: _version, pending: _pending, ...own } = sent;
  const { opensAt: opensAtMs, closesAt: closesAtMs, draft: isDraft, ...rules } = own;
  // The pause has calls of its own; it is not part of what is sent here.
  const sale = { saleId, ...rules, opensAtMs, closesAtMs, paused: false };
  const faults = priceFaults(sale, provider);
  if (faults.length > 0) throw new Problem('invalid_request', { extra: { faults } });
  return { sale, isDraft };
}

/**
 * A merge patch (RFC 7396): what is left out stays as it is, and null sets what is so unless the shop says
 * otherwise. The sale that comes of it is checked whole.
 */
const salePatch = z
  .strictObject({
    ...inPatch(terms),
    verification: z
      .strictObject(inPatch(shape.verification.unwrap().shape))
      .nullish()
      .describe('The members of the verification that change; null: there is none any more.'),
    metadata: z
      .record(z.string(), z.string().nullable())
      .nullish()
      .describe("What changes of the shop's own data; null takes a member away."),
  })
  .meta({
    id: 'SalePatch',
    description: 'What changes of a sale: a JSON merge patch (RFC 7396).',
    examples: [{ closesAt: '2026-11-27T23:00:00Z', limitPerUser: null }],
  });

function inPatch(members: Record<string, z.ZodType>): Record<string, z.ZodType> {
  return Object.fromEntries(
    Object.entries(members).map(([name, schema]) => {
      const own = schema instanceof z.ZodDefault ? schema.unwrap() : schema;
      const inner = own instanceof z.ZodOptional ? own.unwrap() : own;
      const { description = '' } = z.globalRegistry.get(own) ?? z.globalRegistry.get(inner) ?? {};
      return [name, z.nullish(own).describe(description)];
    }),
  );
}

/** @param patch of a known form, which bounds its depth */
function mergePatch(into: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const merged = new Map(Object.entries(isObject(into) ? into : {}));
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) merged.delete(name);
    else merged.set(name, mergePatch(merged.get(name), value));
  }
  return Object.fromEntries(merged);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Units are added or taken away, or a SKU gets a total. */
const stockBody = z
  .strictObject({
    skus: skusOf(
      z.union([
        z.strictObject({
          sku: skuSchema,
          change: z.int().describe('Units that are added; negative: taken away.'),
        }),
        z.strictObject({ sku: skuSchema, total: shopSku.shape.total }),
      ]),
    ).describe('The SKUs whose stock changes.'),
    reason: decisionReason.optional(),
  })
  .meta({
    id: 'StockChanges',
    description: 'What changes of the stock of a sale.',
    examples: [{ skus: [{ sku: 'lamp', change: 10 }], reason: 'Another box was found.' }],
  });

// Changes a sale through its three steps, and says what came of it.

/** Changes of others that are completed before this one. More are no accident, and the caller may repeat. */
const EARLIER_MAX = 5;

/** What a change is refused with, by the kind of its end. pending: it may yet be made. */
const CHANGE_REFUSALS = {
  unknown: 'sale_not_found',
  ended: 'sale_ended',
  draft: 'sale_is_draft',
  conflict: 'version_conflict',
  fixed: 'sale_rule_fixed',
  refused: 'stock_below_committed',
  rebuilding: 'sale_change_unavailable',
  pending: 'sale_change_unavailable',
} as const;

const IS_RECORDED = 'The change is recorded and will be made; send it again to learn what came of it.';

type Changed = Extract<Recorded, { kind: 'created' | 'changed' | 'unchanged' }>;
/** With the members of its problem. */
type Refused = { kind: keyof typeof CHANGE_REFUSALS; [member: string]: unknown };

export async function changeSale(
  { saleChanges, saleStock, log }: Stores,
  ask: Ask,
  decision: Decision,
): Promise<Changed | Refused> {
  for (let earlier = 0; earlier <= EARLIER_MAX; earlier += 1) {
    const recorded = await saleChanges.record(ask, decision);
    if (recorded.kind !== 'recorded' && recorded.kind !== 'pending')
      return isChanged(recorded) ? recorded : viewRefusal(recorded);
    const { saleId, changeNo, action } = recorded.change;
    const end = await saleChanges.complete(recorded.change, saleStock);
    if (!end) return { kind: 'pending', ...(recorded.kind === 'recorded' && { detail: IS_RECORDED }) };
    if (end.kind === 'withdrawn')
      log.error(
        { saleId, changeNo, action },
        'MySQL had lost changes of a sale; they were taken over from Redis',
      );
    // The end of an earlier change concerns whoever asked for that one.
    else if (recorded.kind === 'recorded') return end.kind === 'applied' ? { kind: 'changed' } : end;
  }
  return { kind: 'pending' };
}

function isChanged(recorded: Changed | Refusal): recorded is Changed {
  return ['created', 'changed', 'unchanged'].includes(recorded.kind);
}

function viewRefusal(refusal: Refusal): Refused {
  if (refusal.kind === 'conflict') return { ...refusal, version: refusal.version ?? null };
  if (refusal.kind !== 'fixed') return refusal;
  const { message: detail, ...rule } = refusal.rule;
  return { ...refusal, detail, ...rule };
}

const listQuery = z.strictObject({
  state: z
    .enum(SHOP_SALE_STATES)
    .optional()
    .describe('Those in this state alone; unless given, all but archived ones.'),
  after: saleIdSchema.optional().describe('Those after the page whose `next` this is.'),
  limit: pageLimit(MAX_SALES_LISTED),
});

/** What the calls that change a sale have in common. */
const change = {
  scope: 'sales:write',
  params: ofSale,
  gives: { 200: ['ETag'] },
  away: 'sale_change_unavailable',
  refuses: CHANGE_REFUSALS,
} as const;

/** A change that is made by a word. */
const byWord = (id: string, does: string, action: 'pause' | 'resume' | 'close') =>
  adminCall({
    id,
    does,
    ...change,
    body: { schema: decisionBody, isOptional: true },
    replies: { 200: shopSaleReply },
    async answer(office, { params: { saleId }, body: { reason = null }, actor }) {
      const outcome = await changeSale(office, { action, saleId }, { actor, reason });
      return isRefused(outcome) ? outcome : show(office, saleId);
    },
  });

/** Each call that changes something answers the same when it is repeated. */
export const saleCalls = {
  'GET /v1/admin/sales': adminCall({
    id: 'listSales',
    does: 'The sales by their ids, a page at a time',
    scope: 'sales:read',
    query: listQuery,
    replies: { 200: salesReply },
    away: 'sale_unavailable',
    refuses: {},
    async answer(office, { query: { state, after = '', limit } }) {
      const found = await office.sales.list(state, after, limit);
      const last = found.length === limit ? found.at(-1) : undefined;
      const sales = await Promise.all(found.map((one) => view(office, one)));
      return reply({ sales, next: last?.sale.saleId ?? null });
    },
  }),
  'GET /v1/admin/sales/:saleId': adminCall({
    id: 'getShopSale',
    does: 'A sale with all that its shop decided, and its stock',
    scope: 'sales:read',
    params: ofSale,
    replies: { 200: shopSaleReply },
    gives: { 200: ['ETag'] },
    away: 'sale_unavailable',
    refuses: { unknown: 'sale_not_found' },
    answer: (office, { params: { saleId } }) => show(office, saleId),
  }),
  'PUT /v1/admin/sales/:saleId': adminCall({
    id: 'putSale',
    does: 'Makes a sale, or changes it to what is sent',
    ...change,
    params: { schema: ofSale.schema },
    body: { schema: saleBody, bytesMax: MAX_SALE_BODY_BYTES },
    reads: ['If-Match', 'If-None-Match'],
    replies: { 200: shopSaleReply, 201: shopSaleReply },
    gives: { 200: ['ETag'], 201: ['ETag', 'Location'] },
    async answer(office, { params: { saleId }, body, actor, ctx }) {
      const document = documentOf(office.provider, saleId, body);
      const ask = { action: 'put', ...document, ifMatch: ifMatchOf(ctx), isNew: isNewAsked(ctx) } as const;
      const outcome = await changeSale(office, ask, { actor, reason: null });
      if (isRefused(outcome)) return outcome;
      await warmUpIfDue(office, saleId);
      return outcome.kind === 'created'
        ? show(office, saleId, 201, { Location: `/v1/admin/sales/${saleId}` })
        : show(office, saleId);
    },
  }),
  'PATCH /v1/admin/sales/:saleId': adminCall({
    id: 'patchSale',
    does: 'Changes what is sent of a sale, and leaves the rest as it is',
    ...change,
    body: { schema: salePatch, bytesMax: MAX_SALE_BODY_BYTES },
    reads: ['If-Match'],
    replies: { 200: shopSaleReply },
    async answer(office, { params: { saleId }, actor, ctx }) {
      // As it was sent: a member that is left out is no null.
      const patch = ctx.state.body;
      const edit = (found: SaleRecord) =>
        readSale(office.provider, saleId, mergePatch(snapshotSale(found, []), patch));
      const ask = { action: 'patch', saleId, ifMatch: ifMatchOf(ctx), edit } as const;
      const outcome = await changeSale(office, ask, { actor, reason: null });
      if (isRefused(outcome)) return outcome;
      await warmUpIfDue(office, saleId);
      return show(office, saleId);
    },
  }),
  'POST /v1/admin/sales/:saleId/stock': adminCall({
    id: 'changeStock',
    does: 'Adds units of SKUs, takes some away, or sets their totals',
    ...change,
    body: { schema: stockBody, bytesMax: MAX_SALE_BODY_BYTES },
    reads: ['If-Match'],
    replies: { 200: shopSaleReply },
    refuses: { ...CHANGE_REFUSALS, unversioned: 'version_required' },
    throws: ['unknown_sku'],
    async answer(office, { params: { saleId }, body: { skus, reason = null }, actor, ctx }) {
      const ifMatch = ifMatchOf(ctx);
      // A repeat must not count twice: of several versions it could meet the next.
      const isOfOne = Array.isArray(ifMatch) && ifMatch.length === 1;
      if (!isOfOne && skus.some((each) => 'change' in each)) return { kind: 'unversioned' };
      const edit = (found: SaleRecord) => {
        const sale = snapshotSale(found, []);
        const unknown = skus.find(({ sku }) => !sale.skus.some((item) => item.sku === sku));
        if (unknown) throw new Problem('unknown_sku', { extra: { sku: unknown.sku } });
        const items = sale.skus.map((item) => {
          const wish = skus.find(({ sku }) => sku === item.sku);
          if (!wish) return item;
          return { ...item, total: 'total' in wish ? wish.total : item.total + wish.change };
        });
        return readSale(office.provider, saleId, { ...sale, skus: items });
      };
      const outcome = await changeSale(office, { action: 'stock', saleId, ifMatch, edit }, { actor, reason });
      return isRefused(outcome) ? outcome : show(office, saleId);
    },
  }),
  'POST /v1/admin/sales/:saleId/pause': byWord(
    'pauseSale',
    'Accepts no order until the sale is resumed',
    'pause',
  ),
  'POST /v1/admin/sales/:saleId/resume': byWord('resumeSale', 'Ends the pause of a sale', 'resume'),
  'POST /v1/admin/sales/:saleId/close': byWord('closeSale', 'Closes a sale now, for good', 'close'),
  'POST /v1/admin/sales/:saleId/archive': adminCall({
    id: 'archiveSale',
    does: 'Takes a sale that is settled, or a draft, off the list for good',
    ...change,
    body: { schema: decisionBody, isOptional: true },
    replies: { 200: shopSaleReply },
    away: 'decision_unavailable',
    refuses: { unknown: 'sale_not_found', 'not-settled': 'sale_not_settled' },
    async answer(office, { params: { saleId }, body: { reason = null }, actor }) {
      const kind = await office.saleChanges.archive(saleId, { actor, reason });
      return kind === 'unknown' || kind === 'not-settled' ? { kind } : show(office, saleId);
    },
  }),
} satisfies AdminCalls;

function isRefused(outcome: Changed | Refused): outcome is Refused {
  return outcome.kind in CHANGE_REFUSALS;
}

async function show(
  office: BackOffice,
  saleId: string,
  status = 200,
  headers: { Location?: string } = {},
): Promise<Reply<ShopSaleReply> | { kind: 'unknown' }> {
  const found = await office.sales.read(saleId);
  if (!found) return { kind: 'unknown' };
  return reply(await view(office, found), status, { ...headers, ETag: `"${found.version}"` });
}

/** As it is right now, where it is sold from. */
async function view({ saleStock }: BackOffice, found: ShownSale): Promise<ShopSaleReply> {
  const isInRedis = found.isWarm && !found.isCleaned;
  // MySQL's own counts lag behind by what is yet to be stored; better than no answer.
  const live = isInRedis ? await saleStock.read(found.sale.saleId).catch(() => undefined) : undefined;
  return { ...snapshotSale(found, live?.skus ?? found.stock), pending: found.isChanging };
}

/**
 * Puts the sale into Redis before the shop gets the answer that it is open. Where that fails, it stays
 * pending, and a worker does it within a second.
 */
async function warmUpIfDue({ sales, saleStock, log }: BackOffice, saleId: string): Promise<void> {
  const found = await sales.read(saleId);
  if (!found || !isToBeWarm(found)) return;
  await sales.warmUp(saleId, saleStock).catch((error: unknown) => {
    log.warn({ err: error, saleId }, 'a sale was not put into Redis at once; a worker will do it');
  });
}

/** As the worker that looks after the sales finds those that it puts into Redis. */
function isToBeWarm({ sale, isDraft, isWarm, nowMs }: ShownSale): boolean {
  return !isDraft && !isWarm && sale.opensAtMs <= nowMs + WARM_UP_AHEAD_MS && nowMs < sale.closesAtMs;
}
