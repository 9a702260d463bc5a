/**
 * Judges what a back office was told: every change of every order
 * at least once, each order's changes in order, and all of it true.
 */

import { isFinal, type OrderState } from '../src/orders/order.ts';
import type { Recorded, Violation } from './history.ts';

/** One change of an order, as an event told it. */
export interface Told extends Pick<OrderState, 'version' | 'status' | 'payment'> {
  orderNo: string;
}

/** That an order's deadline is near: no change of the order. */
export interface Notice {
  /** Of the event. */
  id: string;
  orderNo: string;
  version: number;
  deadline: string;
}

/** The shop is told once of a deadline, of an order that waits for its payment. @param notices repeats too */
export function checkNotices(notices: readonly Notice[], { states }: Pick<Recorded, 'states'>): Violation[] {
  const known = new Map<string, string>();
  return notices.flatMap(({ id, orderNo: subject, version, deadline }) => {
    const { status, payment } = states.get(subject)?.get(version) ?? {};
    const first = known.get(`${subject} ${deadline}`) ?? id;
    known.set(`${subject} ${deadline}`, first);
    if (status !== 'awaiting_payment' || payment !== 'none')
      return [{ check: 'a notice is of an open order', subject, detail: `${status} (payment ${payment})` }];
    return first === id
      ? []
      : [{ check: 'a deadline is announced once', subject, detail: `${deadline} by ${first} and ${id}` }];
  });
}

/** @param told in the order of arrival, by the feed or by pushes; repeats are no fault */
export function checkTold(told: readonly Told[], { states }: Pick<Recorded, 'states'>): Violation[] {
  const violations: Violation[] = [];
  const found = (check: string, subject: string, detail: string): void => {
    violations.push({ check, subject, detail });
  };
  /** The last version of each order that was told without a gap. */
  const known = new Map<string, number>();
  for (const { orderNo, version, status, payment } of told) {
    const before = known.get(orderNo) ?? 0;
    if (version > before + 1)
      found('events keep their order', orderNo, `version ${version} was told after ${before}`);
    known.set(orderNo, Math.max(before, version));
    const recorded = states.get(orderNo)?.get(version);
    if (recorded?.status === status && recorded.payment === payment) continue;
    const was = recorded ? `${recorded.status} (payment ${recorded.payment})` : 'never recorded';
    found('what is told is true', orderNo, `version ${version} was told as ${status}, and was ${was}`);
  }
  const all = new Set(told.map(({ orderNo, version }) => `${orderNo}.${version}`));
  for (const [orderNo, ofOrder] of states) {
    for (const [version, { status }] of ofOrder) {
      if (all.has(`${orderNo}.${version}`)) continue;
      const check = isFinal(status) ? 'every end is told' : 'every change is told';
      found(check, orderNo, `version ${version} (${status}) was never told`);
    }
  }
  return violations;
}
