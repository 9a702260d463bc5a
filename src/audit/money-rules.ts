/** The rules about money: what was paid, what is owed, and what came back. */

import {
  type CollectedPayment,
  sumReversals,
  isUnrequested,
  sumRefunds,
  NO_PROVIDER,
} from '../money/payment.ts';
import type { OrderState } from '../orders/order.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import type { Rule, SaleSnapshot } from './look.ts';
import type { AuditedPayment } from './reads.sql.ts';

// The audit's rules about payments: each is known, and pays for an order, goes back or is parked.

/** Every payment that the provider collected is known, to the cent. */
export const collectedIsKnown: Rule = ({ collected, mysql }) => {
  const known = new Map(mysql.payments.map((payment) => [payment.providerPaymentId, payment]));
  return collected.flatMap(({ providerPaymentId: subject, orderNo, amount, currency }) => {
    const payment = known.get(subject);
    if (!payment)
      return [{ subject, detail: `${amount} ${currency} collected for ${orderNo}, and not recorded` }];
    if (payment.amount === amount && payment.currency === currency && payment.orderNo === orderNo) return [];
    const detail = `collected ${amount} ${currency} for ${orderNo}, recorded ${payment.amount} ${payment.currency} for ${payment.orderNo}`;
    return [{ subject, detail }];
  });
};

/** Every known payment was collected by the provider, but for those of 0, which no provider has. */
export const knownWasCollected: Rule = ({ collected, mysql }) => {
  const known = new Set(collected.map(({ providerPaymentId }) => providerPaymentId));
  return mysql.payments
    .filter(({ provider, providerPaymentId }) => provider !== NO_PROVIDER && !known.has(providerPaymentId))
    .map(({ providerPaymentId, orderNo, status }) => ({
      subject: providerPaymentId,
      detail: `${status} for ${orderNo}, and not collected by the provider`,
    }));
};

/** Each payment paid for an order, goes back or went, is parked, or is about to be acted upon. */
export const paymentsEndSomewhere: Rule = ({ mysql, refunding }) => {
  const orders = new Map(mysql.orders.map((order) => [order.orderNo, order]));
  return mysql.payments.flatMap((payment) => {
    const { providerPaymentId: subject, orderNo, amount, currency, status } = payment;
    const order = orders.get(orderNo);
    const found = (detail: string) => [{ subject, detail: `${status} for ${orderNo}, ${detail}` }];
    const orderIs = `which is ${order?.status ?? 'not stored'}`;
    if ((status === 'applied' || payment.wasApplied) && order?.status !== 'paid') return found(orderIs);
    switch (status) {
      case 'received': {
        // A parked payment without an order stays `received`, because the order might still come. A stored
        // order decides about a payment in the transaction that records it.
        return !order && mysql.parked.has(subject) ? [] : found(orderIs);
      }
      case 'refund_due': {
        const isMoving = payment.isDue || refunding.has(refundWorkflowId(payment));
        return isMoving ? [] : found('and no process refunds it');
      }
      case 'refunded': {
        const returned = sumReversals(payment.currency, payment.reversals).succeeded;
        return returned >= amount
          ? []
          : found(`with ${returned} of ${amount} ${currency} recorded as returned`);
      }
      // The order of an applied payment is paid, and another rule checks parked ones.
      case 'applied':
      case 'parked':
        return [];
      default:
        return status satisfies never;
    }
  });
};

/** A payment with the status `parked` is in the list that operators see. */
export const parkedMoneyIsShown: Rule = ({ mysql }) =>
  mysql.payments
    .filter(({ providerPaymentId, status }) => status === 'parked' && !mysql.parked.has(providerPaymentId))
    .map(({ providerPaymentId, orderNo }) => ({
      subject: providerPaymentId,
      detail: `parked for ${orderNo}, and not in the list of parked work`,
    }));

/** A paid order was paid by one payment of its total, also when the payment went back later. */
export const paidOrdersArePaidOnce: Rule = ({ mysql }) => {
  const payments = paymentsByOrder(mysql);
  return mysql.orders
    .filter(({ status }) => status === 'paid')
    .flatMap(({ orderNo: subject, total, currency }) => {
      const applied = (payments.get(subject) ?? []).filter(({ wasApplied }) => wasApplied);
      const isRight =
        applied.length === 1 && applied[0]?.amount === total && applied[0].currency === currency;
      if (isRight) return [];
      const sums = applied.map((payment) => `${payment.amount} ${payment.currency}`).join(' and ');
      return [{ subject, detail: `paid, ${total} ${currency} due, applied: ${sums || 'nothing'}` }];
    });
};

/** An order's `payment` and `refunded` are what its payments and their reversals imply. */
export const ordersShowTheirMoney: Rule = ({ mysql }) => {
  const payments = paymentsByOrder(mysql);
  return mysql.orders.flatMap(({ orderNo: subject, payment, refunded }) => {
    const expected = expectedMoney(payments.get(subject) ?? []);
    if (payment === expected.payment && refunded === expected.refunded) return [];
    const detail = `shows ${payment} and ${refunded} back, its payments say ${expected.payment} and ${expected.refunded}`;
    return [{ subject, detail }];
  });
};

/** The order's own payment decides. One whose refund was requested counts until it is refunded. */
function expectedMoney(payments: readonly AuditedPayment[]): {
  payment: OrderState['payment'];
  refunded: number;
} {
  const own = payments.find(({ wasApplied }) => wasApplied);
  if (!own) return { payment: 'none', refunded: 0 };
  const refunded = Math.min(sumReversals(own.currency, own.reversals).succeeded, own.amount);
  if (own.status === 'refunded') return { payment: 'refunded', refunded };
  const isDisputed = own.reversals.some(({ kind, status }) => kind === 'dispute' && status === 'pending');
  const kept = refunded > 0 ? 'partially_refunded' : 'applied';
  return { payment: isDisputed ? 'disputed' : kept, refunded };
}

function paymentsByOrder({ payments }: SaleSnapshot['mysql']) {
  const byOrder = new Map<string, AuditedPayment[]>();
  for (const payment of payments) {
    byOrder.set(payment.orderNo, [...(byOrder.get(payment.orderNo) ?? []), payment]);
  }
  return byOrder;
}

// The audit's rules about reversals: each is known to the cent and has a reason, or was parked.

/** What went back at the provider is recorded, and nothing else. Another rule reports unknown payments. */
export const returnedIsKnown: Rule = (sale) =>
  knownPairs(sale).flatMap(({ payment, collected }) => {
    const { providerPaymentId: subject, currency } = payment;
    const { succeeded: recorded, isMixed } = sumReversals(currency, payment.reversals);
    const strange = payment.reversals.find(
      (reversal) => reversal.status === 'succeeded' && reversal.currency !== currency,
    );
    const isUnknown = collected.isMixed && !isMixed;
    if (collected.returned === recorded && !strange && !isUnknown) return [];
    const also = strange ? `, and ${strange.amount} ${strange.currency}` : '';
    const unknown = isUnknown ? '; more in another currency, not recorded' : '';
    const detail = `${collected.returned} ${currency} went back, recorded ${recorded}${also}${unknown}`;
    return [{ subject, detail }];
  });

/** Payments that paid for an order were kept, refunded ones went back, and none went back without reason. */
export const moneyWasKeptForSomething: Rule = (sale) =>
  knownPairs(sale).flatMap(({ payment, collected }) => {
    const { providerPaymentId: subject, orderNo, amount, status, wasApplied, reason } = payment;
    const found = (detail: string) => [{ subject, detail: `${detail} (for ${orderNo})` }];
    const { returned } = collected;
    if (returned > collected.amount) return found(`${collected.amount} collected, and ${returned} went back`);
    if (status === 'applied' && returned >= amount) return found('applied, and all of it went back');
    if (status === 'refunded' && returned < amount) {
      return found(`refunded, and ${returned} of ${amount} went back`);
    }
    // The order's own payment goes back only by an operator's request or at the provider.
    const isWronglyRefunded = wasApplied && reason !== null && reason !== 'operator_request';
    return isWronglyRefunded ? found(`paid for its order, and is ${status} as ${reason}`) : [];
  });

/** What the provider has kept is what MySQL accounts for, per currency, to the cent. */
export const booksBalance: Rule = ({ collected, mysql }) => {
  const kept = new Map<string, number>();
  const accounted = new Map<string, number>();
  const add = (sums: Map<string, number>, currency: string, amount: number) =>
    sums.set(currency, (sums.get(currency) ?? 0) + amount);
  for (const { currency, amount, returned } of collected) add(kept, currency, amount - returned);
  for (const payment of mysql.payments) {
    // A refunded payment has nothing left to account for, and the provider owes nothing of it.
    if (payment.status !== 'refunded')
      add(
        accounted,
        payment.currency,
        payment.amount - sumReversals(payment.currency, payment.reversals).succeeded,
      );
  }
  return [...new Set([...kept.keys(), ...accounted.keys()])].flatMap((subject) => {
    const [there, here] = [kept.get(subject) ?? 0, accounted.get(subject) ?? 0];
    return there === here ? [] : [{ subject, detail: `the provider kept ${there}, accounted for ${here}` }];
  });
};

/** A payment that paid for its order and has an unrequested reversal is or was parked for an operator. */
export const unwantedReversalsAreShown: Rule = ({ mysql }) =>
  mysql.payments
    .filter((payment) => {
      const { wasApplied, currency, reversals, providerPaymentId } = payment;
      const [totals, refunds] = [sumReversals(currency, reversals), sumRefunds(currency, reversals)];
      const isUnwanted = wasApplied && isUnrequested(payment, totals, refunds);
      return isUnwanted && !mysql.everParked.has(providerPaymentId);
    })
    .map(({ providerPaymentId, orderNo }) => ({
      subject: providerPaymentId,
      detail: `paid for ${orderNo}, goes back or went, and was never parked`,
    }));

/** What staff requested of a payment is never more than was paid, and what has ended is with the payer. */
export const refundsAreCovered: Rule = ({ mysql }) =>
  mysql.payments.flatMap(({ providerPaymentId: subject, amount, currency, refunds, reversals }) => {
    const sum = (...statuses: string[]) =>
      refunds.reduce((all, refund) => all + (statuses.includes(refund.status) ? refund.amount : 0), 0);
    const [requested, ended] = [sum('requested', 'succeeded'), sum('succeeded')];
    if (requested > amount) return [{ subject, detail: `${requested} of ${amount} ${currency} requested` }];
    const returned = sumReversals(currency, reversals).succeeded;
    if (ended <= returned) return [];
    return [{ subject, detail: `refunds of ${ended} ${currency} have ended, ${returned} went back` }];
  });

/** The units that refunds put on sale again are those that their order has returned. */
export const restockedIsReturned: Rule = ({ mysql }) => {
  const restocked = new Map<string, number>();
  for (const { orderNo, refunds } of mysql.payments) {
    for (const { items, isStockGiven } of refunds) {
      for (const { sku, quantity } of isStockGiven ? (items ?? []) : []) {
        const key = `${orderNo} ${sku}`;
        restocked.set(key, (restocked.get(key) ?? 0) + quantity);
      }
    }
  }
  return mysql.orders.flatMap(({ orderNo: subject, items }) =>
    items.flatMap(({ sku, quantity, stockReturned }) => {
      const units = restocked.get(`${subject} ${sku}`) ?? 0;
      if (units === stockReturned && stockReturned <= quantity) return [];
      const detail = `of ${quantity} ${sku}, refunds restocked ${units}, and ${stockReturned} are returned`;
      return [{ subject, detail }];
    }),
  );
};

function knownPairs({
  collected,
  mysql,
}: SaleSnapshot): { payment: AuditedPayment; collected: CollectedPayment }[] {
  const byId = new Map(collected.map((payment) => [payment.providerPaymentId, payment]));
  return mysql.payments.flatMap((payment) => {
    const there = byId.get(payment.providerPaymentId);
    return there ? [{ payment, collected: there }] : [];
  });
}
