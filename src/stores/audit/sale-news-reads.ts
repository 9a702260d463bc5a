/** Reads for the audit, from MySQL: what became of a sale, and of which there is an event. */

import { z } from 'zod';
import { selectRows, type Pool } from '../mysql/connection.ts';

const saleRow = z.object({
  is_new: z.coerce.boolean(),
  version: z.int(),
  archived: z.coerce.boolean(),
  sold_out_count: z.int(),
  opened: z.coerce.boolean(),
  closed: z.coerce.boolean(),
  settled: z.coerce.boolean(),
});
const newsRow = z.object({
  type: z.enum(['sale.opened', 'sale.changed', 'sale.sold_out', 'sale.closed', 'sale.settled']),
  version: z.coerce.number().int(),
});

/** Each of these is recorded in one transaction with its event. */
export interface AuditedNews {
  /** The sale was made when the feed had begun; an older one may have changed before. */
  isNew: boolean;
  version: number;
  /** Archiving counts as a version, and has no event. */
  isArchived: boolean;
  /** How often it sold out. */
  soldOutCount: number;
  /** Marked since the feed began. */
  isMarked: { opened: boolean; closed: boolean; settled: boolean };
  /** Its events, with the version that each shows. */
  events: z.infer<typeof newsRow>[];
}

/** @returns undefined when there is no such sale */
export async function readSaleNews(pool: Pool, saleId: string): Promise<AuditedNews | undefined> {
  // The sale first: of all that it shows, the events are committed by then.
  const [sale] = await selectRows(
    pool,
    saleRow,
    `SELECT s.created_at >= d.begun_at AS is_new, s.version, s.archived_at IS NOT NULL AS archived, s.sold_out_count,
       COALESCE(s.opened_at >= d.begun_at, FALSE) AS opened, COALESCE(s.closed_at >= d.begun_at, FALSE) AS closed,
       COALESCE(s.settled_at >= d.begun_at, FALSE) AS settled
     FROM sales s JOIN event_dispatch d WHERE s.sale_id = ?`,
    [saleId],
  );
  if (!sale) return undefined;
  const events = await selectRows(
    pool,
    newsRow,
    `SELECT type, COALESCE(JSON_EXTRACT(data, '$.sale.version'), 0) AS version FROM shop_events
     WHERE type IN (?) AND subject = ? ORDER BY event_id`,
    [newsRow.shape.type.options, saleId],
  );
  const { is_new: isNew, version, archived: isArchived, sold_out_count: soldOutCount, ...isMarked } = sale;
  return { isNew, version, isArchived, soldOutCount, isMarked, events };
}
