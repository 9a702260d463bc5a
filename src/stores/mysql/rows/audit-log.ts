/** The log of what operators did, and of what the system repaired by itself. */

import { MAX_DECISION_CHARS } from '../../../domain/limits.ts';
import { modify, type Executor } from '../connection.ts';

/** Who decided something, and why. */
export interface Decision {
  /**
   * The operator, by the subject of their token or the name that they gave on the command line; `holdfast`
   * for what the system repaired by itself.
   */
  actor: string;
  /** Null: none was given. */
  reason: string | null;
}

/** What the system repairs by itself. */
export type RepairAction =
  | 'hold_settled'
  | 'hold_restored'
  | 'order_requeued'
  | 'order_abandoned'
  | 'deadline_dropped'
  | 'stock_corrected'
  | 'limit_corrected'
  | 'counters_corrected'
  | 'workflow_lost';

/** What is done to an endpoint of push. */
export type EndpointAction =
  | 'endpoint_created'
  | 'endpoint_changed'
  | 'endpoint_removed'
  | 'endpoint_enabled'
  | 'endpoint_disabled'
  | 'secret_rotated'
  | 'secret_retired'
  | 'events_replayed';

interface Action extends Decision {
  action:
    | 'cancel_requested'
    | 'refund_requested'
    | 'refund_withdrawn'
    | 'stock_returned'
    | 'parked_retried'
    | 'parked_resolved'
    | 'sale_rebuilt'
    | 'commits_lost'
    | 'reconciled'
    | 'person_erased'
    | 'sale_created'
    | 'sale_changed'
    | 'sale_change_refused'
    | 'sale_taken_over'
    | 'sale_archived'
    | RepairAction
    | EndpointAction;
  /**
   * An orderNo, `payment <paymentId>`, `parked <parkedId>`, `sale <saleId>`, a sale with what of it, a
   * step of the reconciliation, `mysql`, or `endpoint <name>`.
   */
  subject: string;
  /** With what was before and after. */
  detail: Record<string, unknown>;
}

/** The widths of the columns. */
const MAX_ACTOR_CHARS = 255;
const MAX_SUBJECT_CHARS = 255;

/** Writes the entry in the transaction of the change itself, so that neither exists without the other. */
export async function recordAction(connection: Executor, action: Action): Promise<void> {
  await modify(
    connection,
    'INSERT INTO audit_log (actor, action, subject, reason, detail) VALUES (?, ?, ?, ?, ?)',
    [
      action.actor.slice(0, MAX_ACTOR_CHARS),
      action.action,
      action.subject.slice(0, MAX_SUBJECT_CHARS),
      action.reason?.slice(0, MAX_DECISION_CHARS) ?? null,
      JSON.stringify(action.detail),
    ],
  );
}
