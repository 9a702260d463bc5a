/** The log of what operators did. */

import { modify, type PoolConnection } from '../connection.ts';

export interface Action {
  /** The operator, by the subject of their token. */
  actor: string;
  action: 'refund_requested' | 'stock_returned';
  /** An orderNo, or `payment <paymentId>`. */
  subject: string;
  detail: Record<string, unknown>;
}

/** Writes the entry in the transaction of the change itself, so that neither exists without the other. */
export async function recordAction(connection: PoolConnection, action: Action): Promise<void> {
  await modify(connection, 'INSERT INTO audit_log (actor, action, subject, detail) VALUES (?, ?, ?, ?)', [
    action.actor,
    action.action,
    action.subject,
    JSON.stringify(action.detail),
  ]);
}
