/**
 * Troubles that correct software must survive: a store that is
 * away for a moment, a worker that dies, a write that hangs.
 */

import assert from 'node:assert/strict';
import { ulid } from 'ulidx';
import type { Reversal } from '../../src/money/payment.ts';
import { RefundRefusedError, type PaymentProvider } from '../../src/providers/provider.ts';
import type { Stores } from '../../src/stores/open.ts';
import { withOrders, withReservations, type Mutant } from './mutants.ts';

/** Trouble, and how to see that it has come. */
export interface Trouble {
  around: Mutant;
  /** How often it has met this order. */
  met(orderNo: string): number;
}

/** The engine has no room for an order the first `times` that a loop asks. */
export function noRoom(times: number): Trouble {
  const { count, met } = countByOrder();
  return {
    met,
    around: (stores) => ({
      ...stores,
      budget: {
        ...stores.budget,
        acquire: (orderNos) => stores.budget.acquire(orderNos.filter((orderNo) => count(orderNo) > times)),
      },
    }),
  };
}

/** Neither the engine nor MySQL takes an accepted order at first. */
export function relayFailsAtFirst(): Trouble {
  const { count, met } = countByOrder();
  return {
    met,
    around: (stores) =>
      withOrders(noRoom(1).around(stores), {
        async storeOrders(orders, presence) {
          const isFirst = orders.map(({ orderNo }) => count(orderNo)).includes(1);
          if (isFirst && presence === 'due') throw new Error('MySQL is away');
          return stores.orders.storeOrders(orders, presence);
        },
      }),
  };
}

/** The relay stores an order, and fails before it has taken it off the outbox: it is stored again. */
export function projectionFailsAtFirst(): Trouble {
  const { count, met } = countByOrder();
  return {
    met,
    around: (stores) =>
      withReservations(stores, {
        async projectAll(orderNos, state) {
          if (orderNos.map(count).includes(1)) throw new Error('Redis is away');
          return stores.reservations.projectAll(orderNos, state);
        },
      }),
  };
}

/** The worker dies when the step is done and Temporal does not know yet: the step is repeated. */
export function diesAfter(step: 'confirm' | 'release'): Trouble {
  const { count, met } = countByOrder();
  return {
    met,
    around: (stores) =>
      withReservations(stores, {
        async [step](orderNo: string) {
          const outcome = await stores.reservations[step](orderNo);
          if (count(orderNo) === 1) throw new Error('the worker died');
          return outcome;
        },
      }),
  };
}

/** The worker dies when limit or stock has come back and Temporal does not know yet: the step is repeated. */
export function diesAfterGiveBack(): Trouble {
  const { count, met } = countByOrder();
  return {
    met,
    around: (stores) =>
      withReservations(stores, {
        async giveBack(given) {
          const outcome = await stores.reservations.giveBack(given);
          if (count(given.orderNo) === 1) throw new Error('the worker died');
          return outcome;
        },
      }),
  };
}

/**
 * A provider that refunds whatever it is asked to, even more than
 * it collected; its first answer about each payment is lost.
 */
export function lavishProvider(provider: PaymentProvider): PaymentProvider {
  const byKey = new Map<string, Reversal>();
  const extra: Reversal[] = [];
  const answered = new Set<string>();
  const extraOf = (paymentId: string) =>
    extra.filter(({ providerPaymentId }) => providerPaymentId === paymentId);
  return {
    ...provider,
    async refund(request) {
      const { refundKey, providerPaymentId, amount, currency } = request;
      let reversal = byKey.get(refundKey);
      try {
        reversal ??= await provider.refund(request);
      } catch (error) {
        if (!(error instanceof RefundRefusedError)) throw error;
        const id = { providerReversalId: `re_${ulid()}`, providerPaymentId };
        reversal = { kind: 'refund', ...id, amount, currency, status: 'succeeded' };
        extra.push(reversal);
      }
      byKey.set(refundKey, reversal);
      const isFirst = !answered.has(providerPaymentId);
      answered.add(providerPaymentId);
      if (isFirst) throw new Error('the connection broke');
      return reversal;
    },
    listReversals: async (id) => [...(await provider.listReversals(id)), ...extraOf(id)],
    async *listPayments() {
      for await (const payment of provider.listPayments()) {
        const hasExtra = extraOf(payment.providerPaymentId).length > 0;
        yield hasExtra ? { ...payment, totals: null } : payment;
      }
    },
  };
}

/**
 * The first write of an order by its workflow hangs until `commit`; every other try meanwhile, also by the
 * relay, returns that there is no stock.
 */
export function writeHangs(): Trouble & { commit(orderNo: string): Promise<void> } {
  const { count, met } = countByOrder();
  const hanging = new Map<string, () => Promise<unknown>>();
  return {
    met,
    around: (stores) =>
      withOrders(stores, {
        async storeOrders(orders, presence) {
          const own = presence === 'started' ? orders : [];
          for (const order of own.filter(({ orderNo }) => count(orderNo) === 1)) {
            hanging.set(order.orderNo, () => stores.orders.storeOrders([order], presence));
          }
          return new Map(
            orders.map(({ orderNo }) => [orderNo, { kind: 'refused', reason: 'stock_exhausted' }]),
          );
        },
      }),
    async commit(orderNo) {
      await hanging.get(orderNo)?.();
    },
  };
}

/** No notice can be committed for an order, the first `times` that it comes. */
export function inboxAway(times: number): Trouble {
  const { count, met } = countByOrder();
  return {
    met,
    around: (stores) => ({
      ...stores,
      payments: {
        ...stores.payments,
        async receive(provider, notice, rawBody) {
          const isFirst = notice.kind === 'payment_succeeded' && count(notice.payment.orderNo) <= times;
          if (isFirst) throw new Error('MySQL is away');
          return stores.payments.receive(provider, notice, rawBody);
        },
        // Each notice is received alone.
        receivePage: async () => new Map(),
      },
    }),
  };
}

/** A part's methods may be exchanged while the service runs on it. */
const EXCHANGEABLE = [
  'orders',
  'orderClaims',
  'payments',
  'refunds',
  'reservations',
  'budget',
  'eventRows',
] as const;

/** Stores that can be exchanged under a running service, so that one service serves for every fault. */
export function openExchange(stores: Stores): { under: Stores; exchange(next: Stores): void } {
  let current = stores;
  const delegate = (name: (typeof EXCHANGEABLE)[number]) =>
    new Proxy(stores[name], { get: (_, method) => Reflect.get(current[name], method) as unknown });
  return {
    under: {
      ...stores,
      ...Object.fromEntries(EXCHANGEABLE.map((name) => [name, delegate(name)])),
      connectBlocking: () => current.connectBlocking(),
    },
    exchange(next) {
      const exchangeable = new Set<string>([...EXCHANGEABLE, 'connectBlocking']);
      for (const [name, part] of Object.entries(next)) {
        const isReached = exchangeable.has(name) || part === Reflect.get(stores, name);
        assert(isReached, `${name} is not exchangeable, so a mutant of it would have no effect`);
      }
      current = next;
    },
  };
}

/** The same for the provider. */
export function openProviderExchange(provider: PaymentProvider) {
  let current = provider;
  return {
    inFront: new Proxy(provider, { get: (_, name) => Reflect.get(current, name) as unknown }),
    exchange(next: PaymentProvider) {
      current = next;
    },
  };
}

function countByOrder() {
  const counts = new Map<string, number>();
  return {
    met: (orderNo: string): number => counts.get(orderNo) ?? 0,
    count(orderNo: string): number {
      const next = (counts.get(orderNo) ?? 0) + 1;
      counts.set(orderNo, next);
      return next;
    },
  };
}
