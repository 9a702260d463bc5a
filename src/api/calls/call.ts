/** What a call of the back office is. */

import type { EngineNotifier } from '../../engine/order-engine.ts';
import type { EventTicker } from '../../events/feed.ts';
import type { AmountRules } from '../../providers/provider.ts';
import type { UrlRules } from '../../push/address.ts';
import type { StatusBoard } from '../../status/board.ts';
import type { Stores } from '../../stores/open.ts';
import type { CallContext, Calls, Entry } from '../http/entry.ts';
import type { Scope } from '../http/scopes.ts';
import type { Finder, LostOrders } from './find-order.ts';

/** What the calls work with. */
export interface BackOffice extends Stores {
  lostOrders: Pick<LostOrders, 'judge'>;
  projection: Pick<Finder['projection'], 'project'>;
  pollAdvice: Finder['pollAdvice'];
  notifier: Pick<EngineNotifier, 'cancelRequested' | 'calledOff'>;
  provider: AmountRules;
  eventTicker: Pick<EventTicker, 'wait' | 'isStopping'>;
  pushRules: UrlRules;
  statusBoard: Pick<StatusBoard, 'all'>;
}

export type AdminContext = CallContext;

interface AdminCall extends Entry {
  /** What the caller must be allowed. */
  scope: Scope;
  /** feeds: its callers stay for long, in a lane of their own. */
  lane?: 'feeds';
  /** @throws Problem where it refuses */
  handle: (office: BackOffice, ctx: AdminContext) => Promise<void>;
}

export type AdminCalls = Calls<`/v1/admin/${string}`, AdminCall>;
