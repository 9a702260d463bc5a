/**
 * Until when no API believes the projections in Redis. Here, because an API whose link to Redis is cut can
 * still reach the others through MySQL.
 */

import { z } from 'zod';
import { modify, selectRows, withConnection, type Pool } from '../connection.ts';

/**
 * For a connection, and for the answer. A read that hangs is given up soon, with its connection: the next one
 * takes another.
 */
const LOOK_MS = 500;

const leftRow = z.object({ left_ms: z.int() });

/** @param lookMs how long a read waits for a connection, and as long again for the answer */
export function createProjectionDoubts(pool: Pool, lookMs = LOOK_MS) {
  return {
    /** For how long they are still doubted, in ms; 0: they are believed. */
    async readLeftMs(): Promise<number> {
      const [row] = await withConnection(
        pool,
        (connection) =>
          selectRows(
            connection,
            leftRow,
            `SELECT GREATEST(TIMESTAMPDIFF(MICROSECOND, NOW(3), doubted_until), 0) DIV 1000 AS left_ms
             FROM projection_doubts WHERE doubt_id = 1`,
          ),
        { waitMs: lookMs, workMs: lookMs },
      );
      return row?.left_ms ?? 0;
    },

    /** Doubts them from now on for at least so long. */
    async record(forMs: number): Promise<void> {
      await modify(
        pool,
        `INSERT INTO projection_doubts (doubt_id, doubted_until) VALUES (1, NOW(3) + INTERVAL ? * 1000 MICROSECOND)
         ON DUPLICATE KEY UPDATE doubted_until = GREATEST(doubted_until, VALUES(doubted_until))`,
        [forMs],
      );
    },
  };
}
