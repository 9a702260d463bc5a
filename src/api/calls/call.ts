/** How the calls of the back office and of shoppers are defined, and the schemas that several share. */

import { z } from 'zod';
import type { EngineNotifier, OrderEngine } from '../../engine/order-engine.ts';
import type { EventTicker } from '../../events/feed.ts';
import { SALE_ID_PATTERN } from '../../limits.ts';
import { decisionReason } from '../../orders/content.ts';
import { parseOrderNo } from '../../orders/order.ts';
import type { AmountRules } from '../../providers/provider.ts';
import type { UrlRules } from '../../push/address.ts';
import type { StatusBoard } from '../../status/board.ts';
import type { Stores } from '../../stores/open.ts';
import { answering, type Answering } from '../http/answer.ts';
import type { CallContext, Calls, Entry, ShopCall } from '../http/entry.ts';
import type { Scope } from '../http/scopes.ts';
import type { Finder, LostOrders } from './find-order.ts';

/** What the calls work with. */
export interface BackOffice extends Stores {
  lostOrders: Pick<LostOrders, 'judge'>;
  projection: Pick<Finder['projection'], 'project'>;
  pollAdvice: Finder['pollAdvice'];
  notifier: Pick<EngineNotifier, 'cancelRequested' | 'calledOff' | 'retried'>;
  engine: Pick<OrderEngine, 'listRuns' | 'requestReconcile' | 'readReconcile'>;
  provider: AmountRules;
  eventTicker: Pick<EventTicker, 'wait' | 'isStopping'>;
  pushRules: UrlRules;
  statusBoard: Pick<StatusBoard, 'all'>;
}

/** A decision, as answers show it. */
export const decisionReply = {
  actor: z.string().meta({ description: 'The user id of who decided.', examples: ['olga'] }),
  reason: z
    .string()
    .nullable()
    .meta({ description: 'Why; null: staff gave no reason.', examples: [null] }),
};

/** The body of a call that needs only a reason. Staff may leave it out. */
export const decisionBody = z
  .strictObject({ reason: decisionReason.optional() })
  .meta({ examples: [{ reason: 'The parcel came back unopened.' }] });

/** The number of a row of MySQL, within JavaScript's exact integers. */
export const rowId = z
  .string()
  .regex(/^[1-9]\d{0,14}$/)
  .transform(Number);

/** The body of an action on parked work or on a store. Staff must say why. */
export const reasonBody = z
  .strictObject({ reason: decisionReason })
  .meta({ examples: [{ reason: 'The provider has mended it.' }] });

/** The path of a call about one order. */
export const ofOrder = {
  schema: z.object({ orderNo: z.string().refine((text) => parseOrderNo(text) !== undefined) }),
  otherwise: 'order_not_found',
} as const;

/** The path of a call about one sale. */
export const ofSale = {
  schema: z.object({ saleId: z.string().regex(SALE_ID_PATTERN) }),
  otherwise: 'sale_not_found',
} as const;

interface Guarded {
  /** What the caller must be allowed. */
  scope: Scope;
  /** feeds: its callers stay for long, in a lane of their own. */
  lane?: 'feeds';
}

interface AdminCall extends Entry, Guarded {
  handle: (office: BackOffice, ctx: CallContext) => Promise<void>;
}

/** A call of the back office. */
export function adminCall<
  Params,
  Query,
  Body,
  Replies extends Readonly<Record<number, z.ZodType>>,
  Outcome extends { kind: string },
>(call: Answering<BackOffice, Params, Query, Body, Replies, Outcome> & Guarded): AdminCall {
  return { ...call, ...answering(call) };
}

/** A call of shoppers or of the provider. */
export const shopCall =
  <Shop>() =>
  <
    Params,
    Query,
    Body,
    Replies extends Readonly<Record<number, z.ZodType>>,
    Outcome extends { kind: string },
  >(
    call: Answering<Shop, Params, Query, Body, Replies, Outcome> &
      Pick<ShopCall<Shop>, 'who' | 'lane' | 'isHot' | 'watch'>,
  ): ShopCall<Shop> => ({ ...call, ...answering(call) });

export type AdminCalls = Calls<`/v1/admin/${string}`, AdminCall>;
