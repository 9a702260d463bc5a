/** Rules about money: all that was taken is known, and what is known ends on a paid order, goes back, or is shown to a person. */

import { isFinal } from '../domain/order.ts';
import type { Rule, SaleSnapshot } from './snapshot.ts';

/** All the provider took is known, to the cent. */
export const takenIsKnown: Rule = ({ taken, mysql }) => {
  const known = new Map(mysql.payments.map((payment) => [payment.providerPaymentId, payment]));
  return taken.flatMap(({ providerPaymentId: subject, orderNo, amount, currency }) => {
    const payment = known.get(subject);
    if (!payment)
      return [{ subject, detail: `${amount} ${currency} taken for ${orderNo}, and not known here` }];
    if (payment.amount === amount && payment.currency === currency && payment.orderNo === orderNo) return [];
    const detail = `taken ${amount} ${currency} for ${orderNo}, recorded ${payment.amount} ${payment.currency} for ${payment.orderNo}`;
    return [{ subject, detail }];
  });
};

/** Nothing counts as money that the provider did not take. */
export const knownWasTaken: Rule = ({ taken, mysql }) => {
  const known = new Set(taken.map(({ providerPaymentId }) => providerPaymentId));
  return mysql.payments
    .filter(({ providerPaymentId }) => !known.has(providerPaymentId))
    .map(({ providerPaymentId, orderNo, status }) => ({
      subject: providerPaymentId,
      detail: `${status} for ${orderNo}, and the provider took nothing of the kind`,
    }));
};

/** Money that was received paid an order, goes back, waits for a person, or is about to be acted upon. */
export const paymentsEndSomewhere: Rule = ({ mysql }) => {
  const orders = new Map(mysql.orders.map((order) => [order.orderNo, order]));
  return mysql.payments.flatMap(({ providerPaymentId: subject, orderNo, status }) => {
    const order = orders.get(orderNo);
    const found = [
      { subject, detail: `${status} for ${orderNo}, which is ${order?.status ?? 'not stored'}` },
    ];
    if (status === 'applied' && order?.status !== 'paid') return found;
    // Money whose order is nowhere to be found stays received, for a person to see: the order might still come.
    const isShown = !order && mysql.parked.has(subject);
    return status === 'received' && !isShown && (!order || isFinal(order.status)) ? found : [];
  });
};

/** A parked payment is among what is shown to a person. */
export const parkedMoneyIsShown: Rule = ({ mysql }) =>
  mysql.payments
    .filter(({ providerPaymentId, status }) => status === 'parked' && !mysql.parked.has(providerPaymentId))
    .map(({ providerPaymentId, orderNo }) => ({
      subject: providerPaymentId,
      detail: `parked for ${orderNo}, and no person can see it`,
    }));

/** A paid order has one payment, of its total. */
export const paidOrdersArePaidOnce: Rule = ({ mysql }) => {
  const payments = paymentsByOrder(mysql);
  return mysql.orders
    .filter(({ status }) => status === 'paid')
    .flatMap(({ orderNo: subject, total, currency }) => {
      const applied = (payments.get(subject) ?? []).filter(({ status }) => status === 'applied');
      const isRight =
        applied.length === 1 && applied[0]?.amount === total && applied[0].currency === currency;
      return isRight
        ? []
        : [{ subject, detail: `paid, with ${applied.length} payments applied to ${total} ${currency}` }];
    });
};

/** What an order says of its money is what the payments say. */
export const ordersShowTheirMoney: Rule = ({ mysql }) => {
  const payments = paymentsByOrder(mysql);
  return mysql.orders.flatMap(({ orderNo: subject, payment }) => {
    const statuses = (payments.get(subject) ?? []).map(({ status }) => status);
    const expected = (['applied', 'received'] as const).find((status) => statuses.includes(status)) ?? 'none';
    return payment === expected ? [] : [{ subject, detail: `shows ${payment}, its money says ${expected}` }];
  });
};

function paymentsByOrder({ payments }: SaleSnapshot['mysql']) {
  const byOrder = new Map<string, typeof payments>();
  for (const payment of payments) {
    byOrder.set(payment.orderNo, [...(byOrder.get(payment.orderNo) ?? []), payment]);
  }
  return byOrder;
}
