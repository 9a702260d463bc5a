/**
 * Checks whether every answer that a shopper got was true and
 * stayed true. Pure: it reads what the shoppers recorded.
 */

import { isFinal, type OrderState, type OrderStatus } from '../src/orders/order.ts';
import { findLost, findUnrecorded, lossesAreHonest, soldOutWasTrue } from './loss-checks.ts';
import { groupByOrder, versionsNeverGoBack } from './version-check.ts';
import { givenUpIsNotPaid, storedIsDurable, streamsGoForward } from './wait-checks.ts';

/** When a call began and when its answer was there; Unix ms. */
export interface Span {
  startMs: number;
  endMs: number;
}

/** What an API returned about an order. */
export interface Answer extends Span, Pick<OrderState, 'version' | 'status' | 'payment'> {
  orderNo: string;
  reason: string | null;
  /** The API that gave it. */
  api: string;
  /** Whether the call named the newest version that the shopper knew. */
  isNamed: boolean;
  way: Way;
}

/** How an answer came; changed: by a long poll that has waited for it. */
export type Way = 'call' | 'changed' | 'event';

export interface Acceptance extends Span, Hold {
  idempotencyKey: string;
  orderNo: string;
}

/** Units that were taken for an order, by the clock of Redis. */
interface Hold {
  reservedAtMs: number;
  items: readonly { sku: string; quantity: number }[];
}

/** A call that was answered about an order. */
interface Told extends Span {
  orderNo: string;
}

/** When Redis lost what it had acknowledged, to the fault of this name. */
export interface Loss extends Span {
  name: string;
}

/** What one stream of events told of an order. */
interface StreamRead extends Told {
  api: string;
  /** The version that the shopper named as the last one it had. */
  lastId: number | undefined;
  versions: number[];
}

interface SoldOut extends Span {
  sku: string;
  quantity: number;
}

/** A look at Redis: the units that could be had at some instant of it; none of a sale that was paused. */
export interface StockSample extends Span {
  available: ReadonlyMap<string, number>;
}

export interface History {
  acceptances: Acceptance[];
  answers: Answer[];
  /** Answers that an accepted order does not exist. */
  denials: Told[];
  /** Payment sessions that were opened: the order was stored, and open. */
  payable: Told[];
  /** Answers 201: the order was durable in MySQL. */
  stored: (Told & { version: number })[];
  /** Answers 504 to calls that gave up their wait: the order was being cancelled. */
  timedOut: Told[];
  streams: StreamRead[];
  soldOut: SoldOut[];
  stock: StockSample[];
  /** When the shop lowered the stock of a SKU: fewer units can be had than before, though none was taken. */
  lowered: (Span & { sku: string })[];
  losses: Loss[];
  /** When Redis, or a wire to it, was struck. */
  redisStruck: Span[];
}

export const emptyHistory = (): History => ({
  acceptances: [],
  answers: [],
  denials: [],
  payable: [],
  stored: [],
  timedOut: [],
  streams: [],
  soldOut: [],
  stock: [],
  lowered: [],
  losses: [],
  redisStruck: [],
});

type RecordedState = Pick<OrderState, 'status' | 'payment' | 'refunded'>;

/** What the stores have at the end. */
export interface Recorded {
  /** Every state that an order was ever in, by version. */
  states: ReadonlyMap<string, ReadonlyMap<number, RecordedState>>;
  /** Every hold that Redis has or MySQL was told of, by orderNo. */
  holds: ReadonlyMap<string, Hold>;
}

export interface Violation {
  check: string;
  subject: string;
  detail: string;
}

export type Check = (history: History, recorded: Recorded) => Omit<Violation, 'check'>[];

/**
 * The same key is the same order, whichever API answers and however often it
 * is sent; only the key of a lost order may be used again.
 */
const oneKeyOneOrder: Check = (history) => {
  const lost = findLost(history);
  const first = new Map<string, string>();
  return history.acceptances.flatMap(({ idempotencyKey, orderNo }) => {
    const known = first.get(idempotencyKey) ?? orderNo;
    first.set(idempotencyKey, lost.has(known) ? orderNo : known);
    if (known === orderNo || lost.has(known)) return [];
    return [{ subject: idempotencyKey, detail: `named ${known} and ${orderNo}` }];
  });
};

/** One that Redis lost before it was stored is known by its answer alone. */
const acceptedIsRecorded: Check = (history, { states }) => {
  const lost = findUnrecorded(history);
  return [...new Set(history.acceptances.map(({ orderNo }) => orderNo))]
    .filter((orderNo) => !states.has(orderNo) && !lost.has(orderNo))
    .map((subject) => ({ subject, detail: 'was accepted, and MySQL has no record of it' }));
};

const acceptedIsFound: Check = ({ acceptances, denials }) => {
  const acceptedAt = new Map(acceptances.map(({ orderNo, endMs }) => [orderNo, endMs]));
  const denied = denials.filter(({ orderNo, startMs }) => startMs >= (acceptedAt.get(orderNo) ?? Infinity));
  return [...new Set(denied.map(({ orderNo }) => orderNo))].map((subject) => ({
    subject,
    detail: 'was accepted, and then said not to exist',
  }));
};

/**
 * What was answered is what MySQL recorded under that version; only `queued` is returned before there is a
 * record, and `lost_before_stored` where there never was one.
 */
const answersWereTrue: Check = (history, { states }) => {
  const unrecorded = findUnrecorded(history);
  return history.answers.flatMap(({ orderNo: subject, version, status, payment }) => {
    if (version === 0 && status === 'queued') return [];
    if (!states.has(subject) && status === 'failed' && unrecorded.has(subject)) return [];
    const known = states.get(subject)?.get(version);
    if (known?.status === status && known.payment === payment) return [];
    const was = known ? `${known.status} (payment ${known.payment})` : 'never recorded';
    return [
      { subject, detail: `returned ${status} (payment ${payment}) as version ${version}, which was ${was}` },
    ];
  });
};

/** Paid stays paid, cancelled stays cancelled, failed stays failed. */
const endsAreFinal: Check = ({ answers }, { states }) => {
  const returned = groupByOrder(answers.filter(({ status }) => isFinal(status)));
  return [...new Set([...states.keys(), ...returned.keys()])].flatMap((subject) => {
    const known = endsOf(states.get(subject) ?? new Map());
    const ends = [...known, ...(returned.get(subject) ?? []).map(({ status }) => status)];
    if (new Set(ends).size <= 1 && known.length <= 1) return [];
    return [{ subject, detail: `ended more than once: ${ends.join(', ')}` }];
  });
};

/** A payment is applied by the very change that makes its order paid, and is never unknown again. */
const moneyMovesAsItMay: Check = (_, { states }) =>
  [...states].flatMap(([subject, ofOrder]) => {
    let before: OrderState['payment'] = 'none';
    return inOrder(ofOrder).flatMap(({ status, payment }) => {
      const [from, to] = [before, payment];
      before = payment;
      const isAllowed = from === 'none' ? to === (status === 'paid' ? 'applied' : 'none') : to !== 'none';
      return isAllowed ? [] : [{ subject, detail: `its money was ${from}, and then ${to} (${status})` }];
    });
  });

/** No payment is begun for an order whose end was told before. */
const endedIsNotPayable: Check = ({ answers, payable }) => {
  const ends = answers.filter(({ status }) => isFinal(status));
  const toldAt = new Map(
    ends.toSorted((a, b) => b.endMs - a.endMs).map(({ orderNo, endMs }) => [orderNo, endMs]),
  );
  return payable
    .filter(({ orderNo, startMs }) => startMs > (toldAt.get(orderNo) ?? Infinity))
    .map(({ orderNo: subject }) => ({ subject, detail: 'had ended, and a payment was begun' }));
};

const CHECKS: { [name: string]: Check } = {
  'one key, one order': oneKeyOneOrder,
  'what was accepted is recorded': acceptedIsRecorded,
  'what was accepted is found': acceptedIsFound,
  'versions never go back': versionsNeverGoBack,
  'every answer was true': answersWereTrue,
  'an end is final': endsAreFinal,
  'what has ended is not payable': endedIsNotPayable,
  'only what a loss caught is lost': lossesAreHonest,
  'money moves as it may': moneyMovesAsItMay,
  'sold out was true': soldOutWasTrue,
  'what was answered as stored is durable': storedIsDurable,
  'what was given up is not paid': givenUpIsNotPaid,
  'a stream of events goes forward': streamsGoForward,
};

export const CHECK_NAMES = Object.keys(CHECKS);

export function checkHistory(history: History, recorded: Recorded): Violation[] {
  return Object.entries(CHECKS).flatMap(([check, find]) =>
    find(history, recorded).map((violation) => ({ check, ...violation })),
  );
}

/**
 * The ends that were recorded, one after the other: one is
 * right. What happens to a paid order's money is no end.
 */
export function endsOf(ofOrder: ReadonlyMap<number, RecordedState>): OrderStatus[] {
  return inOrder(ofOrder)
    .filter(({ status, payment, refunded = 0 }, i, all) => {
      const before = all[i - 1];
      const isPaidBefore = status === 'paid' && before?.status === 'paid';
      const isOtherMoney = before?.payment !== payment || (before.refunded ?? 0) !== refunded;
      return isFinal(status) && !(isPaidBefore && isOtherMoney);
    })
    .map(({ status }) => status);
}

const inOrder = (ofOrder: ReadonlyMap<number, RecordedState>): RecordedState[] =>
  [...ofOrder].toSorted(([a], [b]) => a - b).map(([, state]) => state);
