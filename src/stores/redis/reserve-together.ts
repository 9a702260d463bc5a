/** Sends the purchases of one moment to Redis: many at once, in few calls. */

import assert from 'node:assert/strict';
import type { z } from 'zod';
import { IDEMPOTENCY_TTL_MS } from '../../domain/limits.ts';
import { isOutOfMemory, type RedisClient } from './connection.ts';
import type { saleKeys } from './keys.ts';
import { reserve } from './order-scripts.ts';
import { createOutboxCounts } from './outbox-counts.ts';
import type { reserveReplies } from './replies.ts';
import { run, type RowOf } from './script-call.ts';

export type ReserveReply = z.infer<typeof reserveReplies>[number];

/** An order to be reserved, in a sale shard. */
interface Purchase {
  saleId: string;
  /** Of the sale shard. */
  keys: ReturnType<typeof saleKeys>;
  row: RowOf<typeof reserve>;
  /** Of its cart. */
  lines: number;
}

interface Asker {
  purchase: Purchase;
  resolve: (reply: ReserveReply) => void;
  reject: (error: unknown) => void;
}

/** Those of one turn and one sale, so far. */
interface Gathering {
  askers: Asker[];
  /** Of all their carts. */
  lines: number;
}

/** Orders of one call, which keeps all others from Redis for about a millisecond. */
const ORDERS_MAX = 64;
/** Lines of all their carts, because the script's work grows with them. */
const LINES_MAX = 128;

/**
 * Purchases of one turn of the event loop share a call, so that Redis reads their sale, proves its server and
 * counts the backlog once for all of them. A call waits for none before it.
 */
export function createReserveTogether(redis: RedisClient, { storesPerSecond }: { storesPerSecond: number }) {
  const outboxes = createOutboxCounts(redis);
  /** By the key of their sale. */
  const gatherings = new Map<string, Gathering>();

  async function call(askers: readonly Asker[]): Promise<void> {
    const [first] = askers;
    assert(first, 'a call is for an order at least');
    const { saleId, keys } = first.purchase;
    try {
      const replies = await run(redis, reserve, {
        keys,
        args: {
          saleId,
          idempotencyTtlMs: IDEMPOTENCY_TTL_MS,
          storesPerSecond,
          waitingElsewhere: outboxes.countWithout(keys.outbox),
        },
        repeated: askers.map(({ purchase }) => purchase.row),
      });
      assert.equal(replies.length, askers.length, 'a reply for each order');
      for (const [i, reply] of replies.entries()) askers[i]?.resolve(reply);
    } catch (error) {
      if (askers.length === 1 || isOutOfMemory(error)) {
        for (const { reject } of askers) reject(error);
      } else {
        // The answer is lost, or one of the orders fails. Each is known by its orderNo where it was taken.
        for (const asker of askers) void call([asker]);
      }
    }
  }

  function send(sale: string, gathering: Gathering): void {
    // One that was full is sent already.
    if (gatherings.get(sale) !== gathering) return;
    gatherings.delete(sale);
    void call(gathering.askers);
  }

  function gather(sale: string): Gathering {
    const gathering: Gathering = { askers: [], lines: 0 };
    gatherings.set(sale, gathering);
    setImmediate(() => send(sale, gathering));
    return gathering;
  }

  /** @throws when the answer is unknown, also after the order was sent again by itself; when Redis is full */
  return async function reserveTogether(purchase: Purchase): Promise<ReserveReply> {
    const { sale } = purchase.keys;
    return new Promise((resolve, reject) => {
      let gathering = gatherings.get(sale) ?? gather(sale);
      if (gathering.lines > 0 && gathering.lines + purchase.lines > LINES_MAX) {
        send(sale, gathering);
        gathering = gather(sale);
      }
      gathering.askers.push({ purchase, resolve, reject });
      gathering.lines += purchase.lines;
      if (gathering.askers.length === ORDERS_MAX) send(sale, gathering);
    });
  };
}
