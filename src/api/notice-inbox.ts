/**
 * Takes notices of the payment provider: each is committed to the inbox before the provider has its answer,
 * and what it changes is brought to Redis and to the order's workflow afterwards.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { EngineNotifier } from '../engine/order-engine.ts';
import type { NoticeReceived, Received } from '../money/inbox.sql.ts';
import type { PaymentNotice } from '../money/payment.ts';
import { follow } from '../orders/follow.ts';
import type { Stores } from '../stores/open.ts';

/** Notices of one transaction: the rows of their SKUs are locked for as long. */
const PAGE_MAX = 100;
/** Orders that are brought to Redis at once: some milliseconds of Redis. */
const FOLLOWED_AT_ONCE = 200;
/**
 * Orders that wait for that. While Redis is slow or away, the others stay due in MySQL, and a worker brings
 * them ten seconds later.
 */
const FOLLOWED_MAX = 2_000;

type Succeeded = Received<Extract<PaymentNotice, { kind: 'payment_succeeded' }>>;
type Answer = NoticeReceived | undefined;

interface Waiting {
  received: Succeeded;
  resolve: (answer: Answer | Promise<Answer>) => void;
}

export type NoticeInbox = ReturnType<typeof createNoticeInbox>;

export function createNoticeInbox(stores: Stores, provider: string, notifier: Pick<EngineNotifier, 'paid'>) {
  const { payments, log } = stores;
  const waiting: Waiting[] = [];
  /** By orderNo, the last notice that is received alone: the next one of the order comes after it. */
  const alone = new Map<string, Promise<Answer>>();
  const ended: NoticeReceived[] = [];
  let receiving: Promise<void> | undefined;
  let following: Promise<void> | undefined;

  /** No answer waits for this, and no failure of it changes one: what remains is due in MySQL. */
  async function followAll(): Promise<void> {
    while (ended.length > 0) {
      const page = ended.splice(0, FOLLOWED_AT_ONCE);
      const changes = page.map(({ order: { orderNo }, state }) => ({ orderNo, state }));
      try {
        await follow(stores, changes);
      } catch (error) {
        log.warn({ err: error, orders: page.length }, 'Redis does not have these payments yet');
      }
      for (const stored of page) notifier.paid(stored);
    }
    following = undefined;
  }

  function bring(answer: Answer): Answer {
    if (answer?.isEnd === true && ended.length < FOLLOWED_MAX) {
      ended.push(answer);
      following ??= followAll();
    }
    return answer;
  }

  async function receiveAlone(received: Received): Promise<Answer> {
    return bring(await payments.receive(provider, received.notice, received.rawBody));
  }

  function receiveInTurn(received: Succeeded): Promise<Answer> {
    const { orderNo } = received.notice.payment;
    const before = alone.get(orderNo) ?? Promise.resolve();
    const next = before.catch(() => {}).then(() => receiveAlone(received));
    const forget = (): void => {
      if (alone.get(orderNo) === next) alone.delete(orderNo);
    };
    next.then(forget, forget);
    alone.set(orderNo, next);
    return next;
  }

  async function receivePage(waited: readonly Waiting[]): Promise<void> {
    const page: Waiting[] = [];
    for (const one of waited) {
      // An earlier notice of the order may have been left to be received alone since this one came.
      if (alone.has(one.received.notice.payment.orderNo)) one.resolve(receiveInTurn(one.received));
      else page.push(one);
    }
    if (page.length === 0) return;
    const together = page.map(({ received }) => received);
    const done = await payments.receivePage(provider, together).catch((error: unknown) => {
      log.warn({ err: error, notices: page.length }, 'notices are received one by one');
      return new Map<number, NoticeReceived>();
    });
    for (const [i, { received, resolve }] of page.entries()) {
      const answer = done.get(i);
      resolve(answer ? bring(answer) : receiveInTurn(received));
    }
  }

  async function receiveAll(): Promise<void> {
    // Notices of one turn are received together.
    await nextTurn();
    while (waiting.length > 0) await receivePage(waiting.splice(0, PAGE_MAX));
    receiving = undefined;
  }

  return {
    /**
     * @returns the notice's order as it is now; undefined when it is not stored or the notice names none
     * @throws when MySQL is away: the provider is to send the notice again
     */
    receive({ notice, rawBody }: Received): Promise<Answer> {
      if (notice.kind !== 'payment_succeeded') return receiveAlone({ notice, rawBody });
      const received = { notice, rawBody };
      if (alone.has(notice.payment.orderNo)) return receiveInTurn(received);
      return new Promise((resolve) => {
        waiting.push({ received, resolve });
        receiving ??= receiveAll();
      });
    },

    /** For an ordered shutdown: what is under way is finished. */
    async drain(): Promise<void> {
      await receiving;
      await Promise.allSettled(alone.values());
      await following;
    },
  };
}
