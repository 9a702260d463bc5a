/** The audit's rules about payments: each is known, and pays for an order, goes back or is parked. */

import { isFinal, type OrderState } from '../domain/order.ts';
import { sumReversals } from '../domain/reversals.ts';
import type { AuditedPayment } from '../stores/audit/money-reads.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import type { Rule, SaleSnapshot } from './snapshot.ts';

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

/** Every known payment was collected by the provider. */
export const knownWasCollected: Rule = ({ collected, mysql }) => {
  const known = new Set(collected.map(({ providerPaymentId }) => providerPaymentId));
  return mysql.payments
    .filter(({ providerPaymentId }) => !known.has(providerPaymentId))
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
        // A parked payment without an order stays `received`, because the order might still come.
        const isShown = !order && mysql.parked.has(subject);
        return !isShown && (!order || isFinal(order.status)) ? found(orderIs) : [];
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
  if (!own) {
    const isReceived = payments.some(({ status }) => status === 'received');
    return { payment: isReceived ? 'received' : 'none', refunded: 0 };
  }
  const refunded = Math.min(sumReversals(own.currency, own.reversals).succeeded, own.amount);
  if (own.status === 'refunded') return { payment: 'refunded', refunded };
  const isDisputed = own.reversals.some(({ kind, status }) => kind === 'dispute' && status === 'pending');
  return { payment: isDisputed ? 'disputed' : 'applied', refunded };
}

function paymentsByOrder({ payments }: SaleSnapshot['mysql']) {
  const byOrder = new Map<string, AuditedPayment[]>();
  for (const payment of payments) {
    byOrder.set(payment.orderNo, [...(byOrder.get(payment.orderNo) ?? []), payment]);
  }
  return byOrder;
}
