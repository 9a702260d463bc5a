/** Mutants of the feed of events: bugs by which a reader would miss something, or meet it out of order. */

import { z } from 'zod';
import { modify, selectRows } from '../../src/mysql/connection.ts';
import type { Stores } from '../../src/stores/open.ts';
import type { Mutant } from './mutants.ts';

/** Numbered as they come: the newest version of an order is numbered first. */
export const numberNewestFirst: Mutant = (stores) =>
  withNumbers(stores, 2, (waiting) => waiting.toReversed());

/** A number left out: it was given by an auto-increment, and its transaction was rolled back. */
export const leaveNumbersOut: Mutant = (stores) =>
  withNumbers(stores, 1, (waiting) => [undefined, ...waiting]);

/** Without numbers: events wait for a dispatcher for ever. */
export const numberNothing: Mutant = (stores) => withNumbers(stores, 1, () => []);

interface Waiting {
  orderNo: string;
  version: number;
}

/** Events are numbered in another way, as soon as there are so many. */
function withNumbers(
  stores: Stores,
  atLeast: number,
  choose: (waiting: Waiting[]) => (Waiting | undefined)[],
): Stores {
  const row = z.object({ order_no: z.string(), version: z.int() });
  return {
    ...stores,
    eventRows: {
      ...stores.eventRows,
      async numberEvents() {
        const rows = await selectRows(
          stores.pool,
          row,
          'SELECT order_no, version FROM order_events WHERE sequence IS NULL ORDER BY order_no, version',
        );
        if (rows.length < atLeast) return { kind: 'numbered', events: 0, after: 0 };
        const after = await stores.eventRows.readLastSequence();
        let last = after;
        for (const next of choose(rows.map((one) => ({ orderNo: one.order_no, version: one.version })))) {
          last += 1;
          if (!next) continue;
          const values = [last, next.orderNo, next.version];
          await modify(
            stores.pool,
            'UPDATE order_events SET sequence = ? WHERE order_no = ? AND version = ?',
            values,
          );
        }
        await modify(stores.pool, 'UPDATE event_dispatch SET last_sequence = ?', [last]);
        return { kind: 'numbered', events: rows.length, after };
      },
    },
  };
}

/** Opened, closed and settled: the marks are set without their events. */
export const markWithoutEvents: Mutant = (stores) => {
  const mark = (column: string) => async (saleId: string) => {
    await modify(stores.pool, `UPDATE sales SET ${column} = NOW(3) WHERE sale_id = ?`, [saleId]);
    return true;
  };
  return {
    ...stores,
    saleNews: {
      ...stores.saleNews,
      announceOpened: mark('opened_at'),
      announceClosed: mark('closed_at'),
      announceSettled: mark('settled_at'),
    },
  };
};

/** The sale has a new version, and its event is not written. */
export const changeWithoutEvent: Mutant = (stores) => ({
  ...stores,
  saleChanges: {
    ...stores.saleChanges,
    async record(ask, decision) {
      const recorded = await stores.saleChanges.record(ask, decision);
      if (recorded.kind !== 'changed') return recorded;
      const saleId = ask.action === 'put' ? ask.sale.saleId : ask.saleId;
      const sql = `DELETE FROM shop_events WHERE type = 'sale.changed' AND subject = ?`;
      await modify(stores.pool, sql, [saleId]);
      return recorded;
    },
  },
});

/** The parked entry is written without its event. */
export const parkWithoutEvent: Mutant = (stores) => ({
  ...stores,
  orders: {
    ...stores.orders,
    async park(orderNo, reason) {
      const sql = `INSERT INTO parked (kind, reference, reason) VALUES ('order', ?, ?)
        ON DUPLICATE KEY UPDATE parked_at = NOW(3), resolved_at = NULL`;
      await modify(stores.pool, sql, [orderNo, reason]);
    },
  },
});
