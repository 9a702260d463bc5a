/** The calls of a shopper about an order: placed, read, cancelled, paid. */

import { isIP } from 'node:net';
import { z } from 'zod';
import type { EngineNotifier } from '../../engine/order-engine.ts';
import type { BeginSessionOutcome, PaymentSession } from '../../money/sessions.sql.ts';
import { voidSession } from '../../money/void-sessions.ts';
import { storeOrAbandon } from '../../orders/both-stores.ts';
import { MAX_CART_LINES, MAX_LINE_QUANTITY } from '../../orders/content.ts';
import { askedOfOrder, fingerprintOf, saleIdSchema, skuSchema, type Order } from '../../orders/content.ts';
import { isFinal, isFree, type OrderState } from '../../orders/order.ts';
import type { WishRecorded } from '../../orders/orders.sql.ts';
import type { ReservedOrder, ReserveOutcome, ReserveRequest } from '../../orders/reserve.redis.ts';
import { ProviderBusyError, SessionRefusedError, type PaymentProvider } from '../../providers/provider.ts';
import type { OrderSigner } from '../../providers/signed-order.ts';
import type { SaleView } from '../../sales/stock.redis.ts';
import { takeStep } from '../../tracing.ts';
import { reply } from '../http/answer.ts';
import type { CallContext, ShopCalls } from '../http/entry.ts';
import { parseInput, Problem, requestIdOf, unavailable } from '../http/problem.ts';
import { orderReply, shownOrderNo, time } from '../http/replies.ts';
import { isKnown, readIdempotencyKey } from '../http/request.ts';
import { shopCall } from './call.ts';
import {
  findOrder,
  viewOrder,
  type Finder,
  type FoundOrder,
  type QueryWorkflow,
  type SourcedOrderReply,
} from './find-order.ts';
import { viewOpenOrders } from './my-orders.ts';
import type { CountedAttempt, PurchaseLimits } from './purchase-limits.ts';
import { isFinalAnswer, refuseAbsent, toRefusal, type PurchaseOutcome } from './purchase-refusals.ts';
import type { SaleShop } from './sale-views.ts';
import { MAX_TICKET_CHARS, verifyTicket, type TicketRules } from './ticket.ts';

/** Characters of a user agent that are kept. A longer one is cut, because it is only recorded. */
const MAX_USER_AGENT_CHARS = 255;

/** The longest IPv6 address in text. A zone, which names a link, makes it longer. */
const MAX_IP_CHARS = 45;

/** What the calls work with. */
export interface Shop extends Finder, SaleShop {
  provider: PaymentProvider;
  /** Signs what a payment session carries of its order. */
  signer: OrderSigner;
  notifier: EngineNotifier;
  queryWorkflow: QueryWorkflow;
  tickets: TicketRules;
  purchaseLimits: PurchaseLimits;
  /** Of answers after which a caller needs no place in a waiting room any more. */
  finalAnswerHeader: { name: string; value: string } | undefined;
}

const orderRequest = z
  .strictObject({
    saleId: saleIdSchema,
    items: z
      .array(
        z.strictObject({
          sku: skuSchema,
          quantity: z.int().min(1).max(MAX_LINE_QUANTITY).describe('Units of the SKU.'),
        }),
      )
      .min(1)
      .max(MAX_CART_LINES)
      .refine((items) => new Set(items.map((item) => item.sku)).size === items.length, 'each SKU once')
      .describe('The lines of the cart, each SKU once.'),
    ...askedOfOrder,
    expectedTotal: z
      .int()
      .min(0)
      .exactOptional()
      .describe('Minor units: the total that the shopper was shown. Another total is refused.'),
    ticket: z.string().min(1).max(MAX_TICKET_CHARS).exactOptional().describe('A ticket for the sale.'),
    // How its caller waits, and nothing of what is ordered: see `wait.ts`.
    onTimeout: z
      .enum(['cancel'])
      .exactOptional()
      .describe('With `Prefer: wait`: an order that is not stored in time is cancelled.'),
  })
  .meta({
    id: 'Purchase',
    description: 'An order, as a shopper places it.',
    examples: [{ saleId: 'demo', items: [{ sku: 'lamp', quantity: 2 }], expectedTotal: 9800 }],
  });
type OrderRequest = z.infer<typeof orderRequest>;
type Caller = Pick<ReserveRequest, 'userId' | 'idempotencyKey' | 'ip' | 'userAgent' | 'traceparent'>;

export const statusOptions = z.object({
  source: z.enum(['workflow']).optional().describe('Asks the running workflow, which may not have begun.'),
});

export const sessionReply = z
  .strictObject({
    orderNo: shownOrderNo,
    url: z.url().meta({
      description: "The provider's page, where the shopper pays.",
      examples: ['https://pay.example/v1/payment_sessions/ps_1'],
    }),
    expiresAt: time.meta({
      description: 'Until then the page takes a payment.',
      examples: ['2026-11-21T10:30:00.000Z'],
    }),
  })
  .meta({ id: 'PaymentPage', description: 'The page on which the order is paid.' });
export type SessionReply = z.infer<typeof sessionReply>;

/** Of each answer for which a sale was asked, or would have been. */
const COUNTED = ['RateLimit', 'RateLimit-Policy'] as const;

const ofShopper = shopCall<Shop>();

export const shopperCalls = {
  'POST /v1/orders': ofShopper({
    id: 'placeOrder',
    does: 'Holds the stock and accepts the order, in one step',
    who: 'shopper',
    lane: 'purchases',
    isHot: true,
    body: { schema: orderRequest },
    reads: ['Idempotency-Key', 'Prefer'],
    replies: {
      200: orderReply.describe('The order of an earlier request with the same key, as it is now.'),
      201: orderReply.describe('The order, which is stored and can be paid.'),
      202: orderReply.describe('The order, which is accepted and not stored yet.'),
    },
    gives: {
      200: ['Location', 'Preference-Applied', ...COUNTED],
      201: ['Location', 'Preference-Applied', ...COUNTED],
      202: ['Location', 'Preference-Applied', 'Retry-After', ...COUNTED],
      403: COUNTED,
      409: COUNTED,
      422: COUNTED,
      429: COUNTED,
    },
    refuses: {},
    throws: [
      'unknown_sku',
      'sale_not_open_yet',
      'sale_paused',
      'sale_closed',
      'ticket_required',
      'ticket_invalid',
      'sale_not_found',
      'order_not_found',
      'called_off',
      'sold_out',
      'limit_reached',
      'sale_limit_reached',
      'too_many_unpaid',
      'total_changed',
      'total_not_payable',
      'ticket_used',
      'order_failed',
      'idempotency_key_reused',
      'too_many_purchases',
      'backlog_full',
      'stock_unavailable',
      'outcome_unknown',
      'sale_unavailable',
      'status_unavailable',
      'wait_timed_out',
    ],
    answer: placeOrder,
  }),
  'POST /v1/orders/:orderNo/cancel': ofShopper({
    id: 'cancelOrder',
    does: "Asks for the order's end; a payment may still win",
    who: 'shopper',
    lane: 'others',
    replies: {
      200: orderReply.describe('The order, which had ended.'),
      202: orderReply.describe('The order, which is being cancelled.'),
    },
    away: 'cancel_unavailable',
    refuses: { paid: 'already_paid' },
    throws: ['order_not_found', 'status_unavailable'],
    /** Records the cancel request; the order is cancelled unless a payment wins. */
    async answer(shop, { ctx }) {
      const found = await find(shop, ctx);
      const recorded = isFinal(found.state.status)
        ? { ...found, isNews: false }
        : await takeStep(shop, 'request cancel', found.order, () => requestCancel(shop, found), {
            cause: ctx.req,
          });
      const { order, state } = recorded;
      if (state.version > found.state.version)
        await shop.projection.project({ order, state }, requestIdOf(ctx.req));
      const view = viewOrder(shop, order, state);
      if (state.status === 'paid') return { kind: 'paid', order: view };
      // A repeated request is not signalled again: a history has room for 10,000 signals. The relay sends a
      // signal that was lost the first time.
      if (recorded.isNews) shop.notifier.cancelRequested(recorded);
      return reply(view, isFinal(state.status) ? 200 : 202);
    },
  }),
  'POST /v1/orders/:orderNo/payment': ofShopper({
    id: 'payOrder',
    does: "Opens the provider's page on which the order is paid",
    who: 'shopper',
    lane: 'payments',
    replies: { 201: sessionReply },
    away: 'payment_unavailable',
    refuses: { lost: 'not_payable' },
    throws: ['order_not_found', 'not_yet_payable', 'already_paid', 'too_many_attempts', 'status_unavailable'],
    async answer(shop, { ctx }) {
      const { order, state } = await find(shop, ctx);
      if (state.reason === 'lost_before_stored')
        return { kind: 'lost', order: viewOrder(shop, order, state) };
      const open = () => openPaymentPage(shop, { order, state }, requestIdOf(ctx.req));
      const { url, expiresAtMs } = await takeStep(shop, 'open payment page', order, open, {
        kind: 'client',
        cause: ctx.req,
      });
      return reply({ orderNo: order.orderNo, url, expiresAt: new Date(expiresAtMs).toISOString() }, 201);
    },
  }),
} satisfies ShopCalls<Shop>;

/** An order that was accepted just now: MySQL assigns versions from 1 on. */
const QUEUED: OrderState = { status: 'queued', version: 0, payment: 'none', reason: null };

/** Holds the stock and accepts the order in one step, or refuses with the reason. */
async function placeOrder(shop: Shop, { body: request, ctx }: { body: OrderRequest; ctx: CallContext }) {
  const { userId } = ctx.state;
  const idempotencyKey = readIdempotencyKey(ctx);
  const caller: Caller = { userId, idempotencyKey, ...contactOf(ctx) };
  const traceparent = shop.tracing?.traceparentOf(ctx.req);
  if (traceparent !== undefined) caller.traceparent = traceparent;
  const knownSale = shop.saleViews.known(request.saleId);
  const attempt = shop.purchaseLimits.count(caller, knownSale);
  const span = shop.tracing?.begin('reserve', caller, { kind: 'client' });
  const reserved = reserve(shop, request, caller, { ...attempt, sale: knownSale });
  if (span)
    reserved.then(
      () => span.end(),
      (error: unknown) => span.end(error),
    );
  const outcome = await reserved;
  if (outcome.kind === 'repeated') attempt.giveBack();
  for (const [name, value] of Object.entries(attempt.headers())) ctx.set(name, value);
  // A repeat is final once its order is read: where no store answers, it is answered with 503.
  if (shop.finalAnswerHeader && outcome.kind !== 'repeated')
    await markFinal(shop, ctx, request.saleId, outcome);
  if (outcome.kind === 'reserved') {
    // From the next purchase on its addresses can be counted.
    if (!knownSale) shop.saleViews.meet(request.saleId);
    shop.tracing?.accepted(ctx.req, outcome.orderNo);
    if (shop.log.isLevelEnabled('debug'))
      shop.log.debug({ orderNo: outcome.orderNo, requestId: requestIdOf(ctx.req), step: 'accept' }, 'order');
    return accept(shop, outcome);
  }
  if (outcome.kind === 'repeated') {
    const { order, state } = await findOrder(shop, outcome.orderNo, {
      userId,
      requestId: requestIdOf(ctx.req),
    });
    if (shop.finalAnswerHeader) await markFinal(shop, ctx, request.saleId, outcome);
    return reply(viewOrder(shop, order, state), 200, { Location: `/v1/orders/${outcome.orderNo}` });
  }
  if (outcome.kind === 'sale-absent') throw refuseAbsent(await shop.saleViews.lookAtAbsent(request.saleId));
  const open = 'openOrders' in outcome ? outcome.openOrders : [];
  throw toRefusal(outcome, await viewOpenOrders(shop, { userId, orderNos: open }));
}

async function reserve(
  { reservations, tickets, provider }: Shop,
  { ticket, ...request }: OrderRequest,
  caller: Caller,
  { standing, over, sale }: CountedAttempt & { sale: SaleView | undefined },
): Promise<PurchaseOutcome> {
  try {
    const asked = { fingerprint: fingerprintOf(request), ...request, ...caller };
    if (over) {
      const repeat = standing === 'over' ? await reservations.findRepeat(asked) : undefined;
      return repeat ?? { kind: 'too-many', ...over };
    }
    const verified = ticket === undefined ? undefined : await verifyTicket(tickets, ticket, asked);
    // The order may have been accepted before, while its ticket was good.
    if (verified?.kind === 'refused')
      return (await reservations.findRepeat(asked)) ?? { kind: 'ticket-invalid', fault: verified.fault };
    const spent = verified && { ticket: verified.ticket };
    const unpayable = sale && findUnpayable(sale, request.items, spent?.ticket.charges ?? [], provider);
    if (unpayable) return (await reservations.findRepeat(asked)) ?? unpayable;
    return await reservations.reserve({ ...asked, ...spent });
  } catch (error) {
    // The stock may or may not be held: only the same key finds out.
    throw unavailable('outcome_unknown', error);
  }
}

/**
 * An order that can never be paid holds no stock. The prices of a sale never change, so an older view has the
 * right ones; a SKU that it lacks, the script knows.
 */
function findUnpayable(
  { skus, currency }: SaleView,
  items: OrderRequest['items'],
  charges: readonly { amount: number }[],
  provider: Shop['provider'],
): (PurchaseOutcome & { kind: 'total-not-payable' }) | undefined {
  let total = 0;
  for (const { sku, quantity } of items) {
    const price = skus.find((each) => each.sku === sku)?.unitPrice;
    if (price === undefined) return undefined;
    total += price * quantity;
  }
  for (const { amount } of charges) total += amount;
  // A free order needs no provider. A total below 0 is the ticket's fault, and the script refuses it.
  if (total <= 0) return undefined;
  const fault = provider.priceFault({ amount: total, currency });
  return fault === undefined ? undefined : { kind: 'total-not-payable', total, currency, fault };
}

function accept(shop: Shop, outcome: ReserveOutcome & { kind: 'reserved' }) {
  const view = viewOrder(shop, outcome, QUEUED);
  const retryAfter = String(Math.ceil((view.pollAfterMs ?? 0) / 1_000));
  return reply(view, 202, { Location: `/v1/orders/${outcome.orderNo}`, 'Retry-After': retryAfter });
}

/** So that a waiting room at the edge gives the caller's place to the next. */
async function markFinal(
  { finalAnswerHeader: header, saleViews }: Shop,
  ctx: CallContext,
  saleId: string,
  outcome: PurchaseOutcome,
): Promise<void> {
  if (header && (await isFinalAnswer(outcome, () => saleViews.view(saleId))))
    ctx.set(header.name, header.value);
}

function contactOf({ ip, req }: CallContext): Pick<Caller, 'ip' | 'userAgent'> {
  return {
    // Behind proxies this may be any text that a client sent: what is no address, or too long, is not kept.
    ip: isIP(ip) === 0 || ip.length > MAX_IP_CHARS ? '' : ip,
    userAgent: (req.headers['user-agent'] ?? '').slice(0, MAX_USER_AGENT_CHARS),
  };
}

// Read and cancel.

/** A state, and what answered. */
interface Answered {
  state: OrderState;
  source: SourcedOrderReply['source'];
}

/** GET /v1/orders/:orderNo: an order of the caller; on request as its workflow sees it. */
export async function getOrder(shop: Shop, ctx: CallContext): Promise<void> {
  const { source } = parseInput(statusOptions, ctx.query);
  const found = await find(shop, ctx);
  const answered = source === 'workflow' ? await askWorkflow(shop, found, ctx) : found;
  const { state } = answered;
  if (state.version > found.state.version)
    await shop.projection.project({ order: found.order, state }, requestIdOf(ctx.req));
  // A caller that asked for the workflow must see whether it answered; the others chose no source.
  answerOrder(
    shop,
    ctx,
    { order: found.order, state },
    source === 'workflow' ? { source: answered.source } : {},
  );
}

/** The order, or 304 for a caller that has it. */
export function answerOrder(
  shop: Shop,
  ctx: CallContext,
  { order, state }: ReservedOrder,
  more: Partial<Pick<SourcedOrderReply, 'source'>> = {},
): void {
  const tag = tagOf(state);
  ctx.set('ETag', tag);
  // Not `ctx.fresh`: a `fetch` with If-None-Match also sends `Cache-Control: no-cache`, which turns it off.
  ctx.status = isKnown(tag, ctx.get('If-None-Match')) ? 304 : 200;
  if (ctx.status === 200) ctx.body = Object.assign(viewOrder(shop, order, state), more);
}

function find(shop: Shop, ctx: CallContext): Promise<FoundOrder> {
  return findOrder(shop, ctx.params['orderNo'] ?? '', {
    userId: ctx.state.userId,
    requestId: requestIdOf(ctx.req),
    knownVersion: knownVersionOf(ctx),
  });
}

/**
 * The workflow's own view, where it is not behind MySQL: an order is paid before its workflow knows. That of
 * MySQL while no worker answers or no workflow has begun, and that of Redis while MySQL is away, too.
 */
async function askWorkflow(
  { orders, queryWorkflow, log }: Shop,
  found: FoundOrder,
  ctx: CallContext,
): Promise<Answered> {
  const { orderNo } = found.order;
  const [answer, stored] = await Promise.all([
    queryWorkflow(orderNo),
    orders.read(orderNo).catch((error: unknown) => {
      log.warn({ err: error, requestId: requestIdOf(ctx.req), orderNo }, 'MySQL does not answer');
    }),
  ]);
  const known = stored && stored.state.version >= found.state.version;
  const latest: Answered = known ? { state: stored.state, source: 'database' } : found;
  if (typeof answer === 'string' || answer.version < latest.state.version) return latest;
  return { state: answer, source: 'workflow' };
}

/** A wish to cancel must be durable, so an order that still waits to be stored is stored first. */
async function requestCancel(shop: Shop, found: ReservedOrder): Promise<WishRecorded> {
  if (found.state.status === 'queued') await storeOrAbandon(shop, found);
  return shop.orders.requestCancel(found.order.orderNo);
}

/**
 * MySQL assigns a version to each state, but for that of an order that waits to be stored with the wish to
 * cancel it, and of one that is lost: these have the version of another state.
 */
export function isAssigned({ version, reason }: OrderState): boolean {
  return reason === null || (version > 0 && reason !== 'lost_before_stored');
}

/** The version; with the reason where it is that of another state. */
export function tagOf(state: OrderState): string {
  return isAssigned(state) ? `"${state.version}"` : `"${state.version}-${state.reason}"`;
}

/** The versions that the caller has seen, by the tags that it names. */
function knownVersionsOf(ctx: Pick<CallContext, 'get'>): number[] {
  const tags = ctx.get('If-None-Match').split(',');
  return tags.flatMap((tag) => {
    const version = /^(?:W\/)?"(\d{1,9})(?:-\w+)?"$/.exec(tag.trim())?.[1];
    return version === undefined ? [] : [Number(version)];
  });
}

/** The newest version that the caller has seen. */
export function knownVersionOf(ctx: Pick<CallContext, 'get'>): number {
  return Math.max(0, ...knownVersionsOf(ctx));
}

// Pay.

interface PaymentPage {
  url: string;
  /** Unix time in ms until which the shopper may pay. */
  expiresAtMs: number;
}

/** @throws Problem */
async function openPaymentPage(
  shop: Shop,
  { order, state }: ReservedOrder,
  requestId: string,
): Promise<PaymentPage> {
  const { total: amount, currency } = order;
  // A free order is paid once it is stored, and the provider has no part in it.
  const fault = isFree(order) ? undefined : shop.provider.priceFault({ amount, currency });
  if (fault !== undefined) {
    const extra = { order: viewOrder(shop, order, state) };
    throw new Problem('not_payable', { detail: `The order cannot be paid: ${fault}.`, extra });
  }
  // What is paid or has ended is refused for that, however often it was tried.
  if (!isFinal(state.status)) await assertFewAttempts(shop, order);
  try {
    const session = await beginSession(shop, order.orderNo, requestId);
    return await openOrReplace(shop, session, { userId: order.userId, requestId });
  } catch (error) {
    throw error instanceof ProviderBusyError ? toBusy(error) : error;
  }
}

async function assertFewAttempts({ paymentAttempts }: Shop, order: Order): Promise<void> {
  const waitMs = await paymentAttempts.waitMs(order);
  if (waitMs === 0) return;
  const retryAfterSeconds = Math.ceil(waitMs / 1_000);
  throw new Problem('too_many_attempts', { retryAfterSeconds });
}

async function beginSession(shop: Shop, orderNo: string, requestId: string): Promise<PaymentSession> {
  const begin = () => shop.paymentSessions.begin(shop.provider.name, orderNo, shop.signer.sign);
  let outcome = await begin();
  if (outcome.kind === 'outdated') {
    // One that was paid meanwhile pays for the order, and the next answer says so.
    await voidSession(shop, outcome.session);
    outcome = await begin();
  }
  if (outcome.kind === 'begun') return outcome.session;
  if (outcome.kind === 'outdated') throw new Error(`the page of ${orderNo} was outdated twice`);
  // The refusal shows the order's state, so no later answer may be older.
  if (outcome.kind === 'not-payable') await shop.projection.project(outcome.stored, requestId);
  throw notPayable(shop, outcome);
}

/**
 * What the provider refuses once it refuses for ever, for instance a session whose times were recorded
 * before an outage. So a new session is begun, once a call.
 */
async function openOrReplace(
  shop: Shop,
  session: PaymentSession,
  { userId, requestId }: { userId: string; requestId: string },
): Promise<PaymentPage> {
  try {
    return await openAtProvider(shop, session, userId);
  } catch (error) {
    if (!(error instanceof SessionRefusedError)) throw error;
    await shop.paymentSessions.recordRefused(session);
    const next = await beginSession(shop, session.orderNo, requestId);
    if (next.sessionId === session.sessionId && next.url === null) throw error;
    return openAtProvider(shop, next, userId);
  }
}

async function openAtProvider(
  { provider, paymentSessions, paymentAttempts }: Shop,
  session: PaymentSession,
  userId: string,
): Promise<PaymentPage> {
  const { expiresAtMs } = session;
  if (session.url !== null) return { url: session.url, expiresAtMs };
  const opened = await provider.openSession(session);
  // A call after an extension, or the order's end, has closed it: nobody can pay on its page.
  if (!(await paymentSessions.recordOpened(session.sessionId, opened)))
    throw new SessionRefusedError(`session ${session.sessionId} was closed while it was opened`);
  await paymentAttempts.countOpened(userId);
  return { url: opened.url, expiresAtMs };
}

function toBusy({ retryAfterMs }: ProviderBusyError): Problem {
  const retryAfterSeconds = Math.ceil(retryAfterMs / 1_000);
  const detail = 'The payment provider takes no more calls right now.';
  return new Problem('payment_unavailable', { detail, retryAfterSeconds });
}

function notPayable(
  shop: Shop,
  outcome: Exclude<BeginSessionOutcome, { kind: 'begun' | 'outdated' }>,
): Problem {
  if (outcome.kind === 'not-stored') {
    const detail = 'The order is being stored; it can be paid in a moment.';
    return new Problem('not_yet_payable', { detail, retryAfterSeconds: 1 });
  }
  const { order, state } = outcome.stored;
  const extra = { order: viewOrder(shop, order, state) };
  // A refunded order is not paid; a disputed payment is with the shop until it is decided.
  if (state.payment !== 'none' && state.payment !== 'refunded') return new Problem('already_paid', { extra });
  return new Problem('not_payable', { extra });
}
