/** The audit's rules about reversals: each is known to the cent and has a reason, or was parked. */

import type { CollectedPayment } from '../domain/payment.ts';
import { isUnrequested, sumRefunds, sumReversals } from '../domain/reversals.ts';
import type { AuditedPayment } from '../stores/audit/money-reads.ts';
import type { Rule, SaleSnapshot } from './snapshot.ts';

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
