/** What a reconciliation that repairs needs of MySQL: orders' states, the log of repairs, parked work. */

import { z } from 'zod';
import type { OrderState } from '../../../domain/order.ts';
import { selectRows, type Pool } from '../connection.ts';
import { recordAction, type RepairAction } from '../rows/audit-log.ts';
import { stateColumns, toState } from '../rows/order-rows.ts';
import { park, type ParkedFacts } from '../rows/parked.ts';

/** Actions of the system itself have this actor. */
const SYSTEM = 'holdfast';

const stateRow = z.object({ order_no: z.string(), ...stateColumns });

/** Something that was provably wrong and is mended. */
export interface Repair {
  action: RepairAction;
  /** An orderNo, or a sale with a SKU or a user's limit. */
  subject: string;
  before: unknown;
  after: unknown;
}

export type Repairs = ReturnType<typeof createRepairs>;

export function createRepairs(pool: Pool) {
  return {
    /** The states of those of these orders that are stored, by orderNo. */
    async readStates(orderNos: readonly string[]): Promise<Map<string, OrderState>> {
      if (orderNos.length === 0) return new Map();
      const rows = await selectRows(
        pool,
        stateRow,
        'SELECT order_no, status, version, payment, closing_reason FROM orders WHERE order_no IN (?)',
        [orderNos],
      );
      return new Map(rows.map((row) => [row.order_no, toState(row)]));
    },

    /** Writes down a repair that was made outside MySQL, after it was made. */
    record: ({ action, subject, before, after }: Repair): Promise<void> =>
      recordAction(pool, {
        actor: SYSTEM,
        reason: null,
        action,
        subject,
        detail: { before, after },
      }),

    /** Parks an order that the rules cannot settle. */
    parkOrder: (orderNo: string, cause: ParkedFacts['cause'], reason: string): Promise<void> =>
      park(pool, 'order', orderNo, reason, { cause, inputs: { orderNo } }),
  };
}
