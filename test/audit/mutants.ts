/**
 * Mutants: bugs that a change might bring into the system, one
 * a function. Each returns the stores with one part broken.
 */

import assert from 'node:assert/strict';
import { ulid } from 'ulidx';
import { PROJECTION_TTL_MS } from '../../src/limits.ts';
import type { ProviderPayment } from '../../src/money/payment.ts';
import { modify } from '../../src/mysql/connection.ts';
import {
  confirmScript as confirm,
  giveBackScript as giveBack,
  projectScript as project,
  releaseScript as release,
} from '../../src/orders/reservations.redis.ts';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import type { RedisClient } from '../../src/redis/connection.ts';
import { changesChannelOf, epochOf, orderKeys } from '../../src/redis/keys.ts';
import { run } from '../../src/redis/script.ts';
import type { Stores } from '../../src/stores/open.ts';

export type Mutant = (stores: Stores) => Stores;

/** Acknowledged before durable: the relay acknowledges and deletes an entry as soon as it has read it. */
export const acknowledgeWhatIsRead: Mutant = (stores) =>
  withReads(stores, async (read, args) => {
    const reply = await read(args);
    const entryIds = JSON.stringify(reply).match(/\d{13}-\d+/g) ?? [];
    const key = args.at(-2);
    assert(key, 'a read names its stream');
    if (entryIds.length > 0) {
      await stores.redis
        .multi()
        .xack(key, 'relay', ...entryIds)
        .xdel(key, ...entryIds)
        .exec();
    }
    return reply;
  });

/**
 * Read without a trace: with NOACK an entry is pending for
 * no consumer once it was read, though it is still there.
 */
export const readWithoutTrace: Mutant = (stores) =>
  withReads(stores, (read, [group, name, consumer, ...rest]) =>
    read([group, name, consumer, 'NOACK', ...rest]),
  );

/**
 * Completed when taken: the claim of a due order is completed
 * when it is taken, not when Temporal has the order.
 */
export const completeClaimsWhenTaken: Mutant = (stores) => ({
  ...stores,
  orderClaims: {
    ...stores.orderClaims,
    async take(limit) {
      const claimed = await stores.orderClaims.take(limit);
      await stores.orderClaims.complete(claimed);
      return claimed;
    },
  },
});

/** Released twice: the script does not check whether the hold has ended. */
export const releaseWithoutGuard: Mutant = (stores) => {
  const mutant = without(stores.redis, release, GUARD);
  return withReservations(stores, {
    release: (orderNo) =>
      run(stores.redis, mutant, {
        keys: orderKeys(orderNo),
        args: { orderNo, epoch: epochOf(orderNo), projectionTtlMs: PROJECTION_TTL_MS, isUnpaid: false },
      }),
  });
};

/** Sold twice: the script does not check whether the hold has ended. */
export const confirmWithoutGuard: Mutant = (stores) => {
  const mutant = without(stores.redis, confirm, GUARD);
  return withReservations(stores, {
    confirm: (orderNo) =>
      run(stores.redis, mutant, {
        keys: orderKeys(orderNo),
        args: { orderNo, epoch: epochOf(orderNo), projectionTtlMs: PROJECTION_TTL_MS },
      }),
  });
};

/** Half a release: the stock goes back, the user's allowance does not. */
export const releaseStockAlone: Mutant = (stores) => {
  const mutant = without(stores.redis, release, /  local field = .*?\n  end\n/s);
  return withReservations(stores, {
    release: (orderNo) =>
      run(stores.redis, mutant, {
        keys: orderKeys(orderNo),
        args: { orderNo, epoch: epochOf(orderNo), projectionTtlMs: PROJECTION_TTL_MS, isUnpaid: false },
      }),
  });
};

/** No fence: an order is abandoned without a tombstone in its place. */
export const abandonWithoutTombstone: Mutant = (stores) =>
  withOrders(stores, {
    abandon: async (_order, reason) => ({
      kind: 'abandoned',
      state: { status: 'failed', version: 1, payment: 'none', reason },
    }),
  });

/**
 * 2xx before the commit: the webhook is answered while its transaction is under way, whatever becomes of it.
 */
export const acknowledgeNoticeFirst: Mutant = (stores) => ({
  ...stores,
  payments: {
    ...stores.payments,
    async receive(...args) {
      stores.payments.receive(...args).catch(() => {});
      return undefined;
    },
    // Each notice is received alone.
    receivePage: async () => new Map(),
  },
});

/**
 * Counted anew: a batch moves the counters for all of its orders, not for those alone that it has inserted.
 */
export const countStoredOrdersAgain: Mutant = (stores) =>
  withOrders(stores, {
    async storeOrders(orders, presence) {
      const found = await Promise.all(orders.map(({ orderNo }) => stores.orders.read(orderNo)));
      const outcomes = await stores.orders.storeOrders(orders, presence);
      for (const { saleId, items } of found.flatMap((stored) => stored?.order ?? [])) {
        for (const { sku, quantity } of items) {
          const values = [quantity, saleId, sku];
          await modify(stores.pool, 'UPDATE skus SET held = held + ? WHERE sale_id = ? AND sku = ?', values);
        }
      }
      return outcomes;
    },
  });

/** Projected whatever comes: the script compares with no version. */
export const projectWithoutVersion: Mutant = (stores) => {
  const mutant = without(stores.redis, project, /tonumber\(current\[1\]\) or (?=-1\) >= version)/);
  const projectAll: Stores['reservations']['projectAll'] = (orderNos, state) =>
    run(stores.redis, mutant, {
      keys: { ...orderKeys(orderNos[0] ?? ''), changes: changesChannelOf(orderNos[0] ?? '') },
      keyList: orderNos.map((orderNo) => orderKeys(orderNo).order),
      args: { ...state, reason: state.reason ?? '', refunded: state.refunded ?? 0, extendedUntil: '' },
      repeated: [],
    });
  return withReservations(stores, {
    projectAll,
    project: async (orderNo, state) => (await projectAll([orderNo], state))[0] ?? 'absent',
  });
};

/** Recorded and not applied: a payment gets its row, and its order goes on as if it had not come. */
export const recordWithoutPaying: Mutant = (stores) => {
  const record = async (provider: string, payment: ProviderPayment): Promise<undefined> => {
    const { providerPaymentId, orderNo, amount, currency } = payment;
    await modify(
      stores.pool,
      `INSERT INTO payments (provider, provider_payment_id, order_no, amount, currency, status) VALUES ?
       ON DUPLICATE KEY UPDATE payment_id = payment_id`,
      [[[provider, providerPaymentId, orderNo, amount, currency, 'received']]],
    );
  };
  return {
    ...stores,
    payments: {
      ...stores.payments,
      record,
      receive: (provider, notice, rawBody) =>
        notice.kind === 'payment_succeeded'
          ? record(provider, notice.payment)
          : stores.payments.receive(provider, notice, rawBody),
      receivePage: async () => new Map(),
    },
  };
};

/**
 * Released before the commit: a cancel gives the stock back at once, and only then asks MySQL whether it may.
 */
export const releaseBeforeCommit: Mutant = (stores) =>
  withOrders(stores, {
    async cancel(orderNo, ...rest) {
      await stores.reservations.release(orderNo);
      return stores.orders.cancel(orderNo, ...rest);
    },
  });

/** Refunded anew: what an earlier try did is not looked up, and each try has another key. */
export const refundAnew = (provider: PaymentProvider): PaymentProvider => ({
  ...provider,
  listReversals: () => Promise.resolve([]),
  refund: (request) => provider.refund({ ...request, refundKey: ulid() }),
});

/** Recorded before it is: a refund counts as made when the provider is about to be asked for it. */
export const recordRefundFirst: Mutant = (stores) => ({
  ...stores,
  refunds: {
    ...stores.refunds,
    async read(which) {
      const task = await stores.refunds.read(which);
      if (task?.status !== 'refund_due') return task;
      const { paymentId, provider, providerPaymentId, amount, currency } = task;
      const id = { providerReversalId: `re_of_${paymentId}`, providerPaymentId };
      await stores.refunds.recordReversals(provider, [
        { kind: 'refund', ...id, amount, currency, status: 'succeeded' },
      ]);
      return task;
    },
  },
});

/** Given back twice: the script does not check whether the user has had the allowance back. */
export const returnLimitUnremembered: Mutant = (stores) => {
  const mutant = without(
    stores.redis,
    giveBack,
    / and redis\.call\('SISMEMBER', returnsKey, limitMark\) == 0/,
  );
  return withReservations(stores, {
    giveBack: ({ orderNo, userId, part, items, limit, stock }) =>
      run(stores.redis, mutant, {
        keys: orderKeys(orderNo),
        args: {
          orderNo,
          epoch: epochOf(orderNo),
          userId,
          items: JSON.stringify(items),
          isLimitAsked: limit,
          isStockAsked: stock,
          part,
        },
      }),
  });
};

/** Returned unasked: with the money the stock comes back too, in Redis. */
export const returnStockUnasked: Mutant = (stores) =>
  withReservations(stores, {
    giveBack: (given) => stores.reservations.giveBack({ ...given, stock: true }),
  });

export function withOrders(stores: Stores, orders: Partial<Stores['orders']>): Stores {
  const { storeOrders } = orders;
  if (!storeOrders) return { ...stores, orders: { ...stores.orders, ...orders } };
  // One order is a batch of one: what changes the batch changes it too.
  const storeOrder: Stores['orders']['storeOrder'] = async (order, presence) => {
    const outcome = (await storeOrders([order], presence)).get(order.orderNo);
    assert(outcome, `no outcome for order ${order.orderNo}`);
    return outcome;
  };
  return { ...stores, orders: { ...stores.orders, ...orders, storeOrder } };
}

export function withReservations(stores: Stores, reservations: Partial<Stores['reservations']>): Stores {
  return { ...stores, reservations: { ...stores.reservations, ...reservations } };
}

type Read<Args> = (args: Args) => Promise<unknown>;

/** The relay's reads of the outbox go another way. */
function withReads(
  stores: Stores,
  readOtherwise: (read: Read<unknown[]>, args: string[]) => Promise<unknown>,
): Stores {
  return {
    ...stores,
    async connectBlocking() {
      const blocking = await stores.connectBlocking();
      const read: Read<unknown[]> = async (args) => Reflect.apply(blocking.xreadgroup, blocking, args);
      return new Proxy(blocking, {
        get: (client, name) =>
          name === 'xreadgroup'
            ? (...args: unknown[]) => readOtherwise(read, args.map(String))
            : (Reflect.get(client, name, client) as unknown),
      });
    },
  };
}

/** The check of `release` and `confirm` that the hold has not ended. */
const GUARD = /if order\[1\] ~= 'held' then.*?end\n/s;

/**
 * The same script under a name of its own and without `piece`, which must be in it: otherwise nothing would
 * be mutated.
 */
function without<S extends Pick<typeof project, 'name' | 'lua' | 'keyList'> & { keys: readonly string[] }>(
  redis: RedisClient,
  script: S,
  piece: RegExp,
): S {
  const lua = script.lua.replace(piece, '');
  assert.notEqual(lua, script.lua, `lua/${script.name}.lua has no ${piece}`);
  const name = `${script.name} without ${piece}`;
  const numberOfKeys = script.keys.length;
  redis.defineCommand(name, script.keyList === undefined ? { lua, numberOfKeys } : { lua });
  return { ...script, name, lua };
}
