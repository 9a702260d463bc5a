/** What people did, and to what. */

import { modify, type PoolConnection } from '../connection.ts';

export interface Action {
  /** Who did it. */
  actor: string;
  action: 'refund_requested' | 'stock_returned';
  /** What it was done to: an orderNo, or `payment <paymentId>`. */
  subject: string;
  detail: Record<string, unknown>;
}

/** In the transaction of the change itself, so that neither is without the other. */
export async function recordAction(connection: PoolConnection, action: Action): Promise<void> {
  await modify(connection, 'INSERT INTO audit_log (actor, action, subject, detail) VALUES (?, ?, ?, ?)', [
    action.actor,
    action.action,
    action.subject,
    JSON.stringify(action.detail),
  ]);
}
