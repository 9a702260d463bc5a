/** What a call of the back office is: one entry says all that there is to say of it. */

import type { Context } from 'koa';
import type { z } from 'zod';
import type { EngineNotifier } from '../../engine/order-engine.ts';
import type { EventTicker } from '../../events/feed.ts';
import type { UrlRules } from '../../push/address.ts';
import type { CreateSaleDeps } from '../../sales/create-sale.ts';
import type { StatusBoard } from '../../status/board.ts';
import type { Stores } from '../../stores/open.ts';
import type { RequestState } from '../http/auth.ts';
import type { BodyState } from '../http/http-server.ts';
import type { Scope } from '../http/scopes.ts';
import type { LostOrders } from './find-order.ts';

/** What the calls work with. */
export interface BackOffice extends Stores {
  lostOrders: Pick<LostOrders, 'judge'>;
  notifier: Pick<EngineNotifier, 'cancelRequested'>;
  provider: CreateSaleDeps['provider'];
  eventTicker: Pick<EventTicker, 'wait' | 'isStopping'>;
  pushRules: UrlRules;
  statusBoard: Pick<StatusBoard, 'all'>;
}

export type AdminContext = Context & { state: RequestState & BodyState; params: Record<string, string> };

interface AdminCall {
  /** What the caller must be allowed. */
  scope: Scope;
  /**
   * The body that is read. json: it must be there; decision: it may be there; sale: as json, as large as a
   * sale; absent: none is read.
   */
  body?: 'json' | 'decision' | 'sale';
  /** feeds: its callers stay for long, in a lane of their own. */
  lane?: 'feeds';
  /** Its answers by status, problem documents apart. */
  replies: Readonly<Record<number, z.ZodType>>;
  /** @throws Problem where it refuses */
  handle: (office: BackOffice, ctx: AdminContext) => Promise<void>;
}

type Method = 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';

/** By method and path. */
export type AdminCalls = Readonly<Record<`${Method} /v1/admin/${string}`, AdminCall>>;
