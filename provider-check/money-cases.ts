/** The cases that need a payment: notices, the book, the void of what is paid, refunds. */

import { isDeepStrictEqual } from 'node:util';
import { alreadyPaidReplySchema, reversalReplySchema } from '../src/providers/remote-wire.ts';
import { describeOne, expectRefused, openExpired } from './call-cases.ts';
import {
  buildTerms,
  describeReply,
  listPayments,
  listReversals,
  newKey,
  NotCheckedError,
  openSession,
  postRefund,
  readAs,
  voidSession,
  type Payment,
  type Reversal,
  type Session,
  type SessionTerms,
} from './calls.ts';
import { expectThat, once, type Case, type Check } from './check.ts';
import type { Notice } from './receiver.ts';

/** Between two looks into the book for a payment that is on its way. */
const LOOK_EVERY_MS = 1_000;
/** Two clocks of the same machine room; the contract allows five minutes, the book is asked by seconds. */
const BOOK_BEGINS_MS = 60_000;
/** Parts that are refunded one by one before the rest is. */
const PART = 8;

interface Paid {
  session: Session;
  terms: SessionTerms;
  payment: Payment;
}

export function buildMoneyCases(check: Check): Case[] {
  const { provider, receiver, money } = check;
  const since = new Date(Date.now() - BOOK_BEGINS_MS).toISOString();
  const book = () => listPayments(provider, { since });

  /** Opens a session and pays it. Its notice is answered 503 at first where `isRefused`. */
  async function payOne(isRefused: boolean): Promise<Paid> {
    const terms = buildTerms(money);
    if (isRefused) receiver.refuseNext(terms.reference);
    const session = await openSession(provider, terms);
    expectThat(await pay(check, session.url), 'the command of --pay ended with an error');
    const deadlineMs = Date.now() + check.waitMs;
    for (;;) {
      const payment = ofOrder(await book(), terms)[0];
      if (payment) return { session, terms, payment };
      expectThat(Date.now() < deadlineMs, `no payment in the book within ${check.waitMs / 1_000} s`);
      await pause(LOOK_EVERY_MS);
    }
  }
  const first = once('paying', () => payOne(true));
  const second = once('paying', () => payOne(false));

  const firstNotice = once('waiting for the notice', async () => {
    const { terms } = await first();
    const notice = await receiver.wait((each) => isOfPayment(each, terms), check.waitMs);
    const elsewhere = [...receiver.misdirected].map((call) => `; instead ${call}`).join('');
    const unread = receiver.notices.find(({ said }) => said === undefined);
    const other = unread ? `; one came that is not read: ${unread.fault ?? 'of another type'}` : '';
    expectThat(notice !== undefined, `none within ${check.waitMs / 1_000} s${elsewhere}${other}`);
    return notice;
  });

  const cases: Case[] = [
    {
      name: 'page-pays',
      expected: 'the page takes the payment, and the book has it',
      run: async () => (await first()).payment.id,
    },
    {
      name: 'payment-listed',
      expected: 'once in the book, with the terms, the signed order and the deployment of its session',
      run: async () => {
        const { payment, terms, session } = await first();
        const listed = ofOrder(await book(), terms);
        expectThat(listed.length === 1, `${listed.length} payments of the order`);
        expectSame(payment, { ...carriedBy(terms), session_id: session.id, returned: 0, disputed: false });
        return `${payment.id} of ${payment.amount} ${payment.currency}`;
      },
    },
    {
      name: 'payment-in-time',
      expected: '`since` takes a payment of that time, `until` leaves it out',
      run: async () => {
        const { payment, terms } = await first();
        // Holdfast asks by whole seconds.
        const seconds = Math.floor(Date.parse(payment.created_at) / 1_000);
        const at = new Date(seconds * 1_000).toISOString();
        const from = ofOrder(await listPayments(provider, { since: at }), terms).length;
        const before = ofOrder(await listPayments(provider, { since, until: at }), terms).length;
        expectThat(from === 1 && before === 0, `${from} with since, ${before} with until`);
        return `1 with since=${at}, 0 with until=${at}`;
      },
    },
    {
      name: 'notice-sent',
      expected: 'a notice payment.succeeded, signed, within five minutes of this clock',
      run: async () => {
        const notice = await firstNotice();
        expectThat(notice.fault === undefined, notice.fault ?? '');
        return `${notice.id}, answered ${notice.answered}`;
      },
    },
    {
      name: 'notice-terms',
      expected: 'the notice says what the session and the book say',
      run: async () => {
        const { said } = await firstNotice();
        const { payment, terms, session } = await first();
        expectSame(said?.data ?? {}, {
          ...carriedBy(terms),
          payment_id: payment.id,
          session_id: session.id,
        });
        return `payment ${payment.id} of ${payment.amount} ${payment.currency}`;
      },
    },
    {
      name: 'notice-repeated',
      expected: 'a notice that was answered 503 comes again, signed, with the same id and the same content',
      run: async () => {
        const notice = await firstNotice();
        const isAgain = (each: Notice) => each !== notice && each.id === notice.id;
        const again = await receiver.wait(isAgain, check.waitMs);
        expectThat(again !== undefined, `none with the id ${notice.id} within ${check.waitMs / 1_000} s`);
        expectThat(again.fault === undefined, again.fault ?? '');
        expectThat(
          isDeepStrictEqual(again.said, notice.said),
          `${JSON.stringify(notice.said?.data)}, then ${JSON.stringify(again.said?.data)}`,
        );
        const apartMs = again.atMs - notice.atMs;
        const isFresh = apartMs < 2_000 || again.sentAtSeconds > notice.sentAtSeconds;
        expectThat(isFresh, `the timestamp of the first, ${Math.round(apartMs / 1_000)} s later`);
        return `${again.id} again after ${(apartMs / 1_000).toFixed(1)} s`;
      },
    },
    {
      name: 'void-paid',
      expected: '409 already_paid with the payment, and the same when repeated',
      run: async () => {
        const { session, payment, terms } = await first();
        for (const reply of [
          await voidSession(provider, session.id),
          await voidSession(provider, session.id),
        ]) {
          const answered = alreadyPaidReplySchema.safeParse(reply.body).data?.payment;
          expectThat(reply.status === 409 && answered !== undefined, describeReply(reply));
          const { reference, amount, currency, signed_order } = terms;
          expectSame(answered, { id: payment.id, reference, amount, currency, signed_order });
        }
        return `409 already_paid with ${payment.id}`;
      },
    },
    {
      name: 'paid-once',
      expected: 'a page that is paid takes nothing when it is paid again',
      run: async () => {
        const { session, terms } = await first();
        await pay(check, session.url);
        return expectTaken(ofOrder(await book(), terms), 1);
      },
    },
    {
      name: 'void-decides',
      expected: 'the page of a session that was voided takes nothing',
      run: async () => {
        await first();
        const terms = buildTerms(money);
        const session = await openSession(provider, terms);
        const voided = await voidSession(provider, session.id);
        expectThat(voided.ok, describeReply(voided));
        await pay(check, session.url);
        return expectTaken(ofOrder(await book(), terms), 0);
      },
    },
    {
      name: 'expiry-decides',
      expected: 'the page of a session that has expired takes nothing',
      run: async () => {
        await first();
        const terms = buildTerms(money);
        const session = await openExpired(provider, terms);
        await pay(check, session.url);
        return expectTaken(ofOrder(await book(), terms), 0);
      },
    },
    {
      name: 'book-pages',
      expected: 'pages of one payment list each payment once, the oldest first',
      run: async () => {
        const both = [(await first()).payment, (await second()).payment].map(({ id }) => id);
        const ids = (await listPayments(provider, { since, limit: 1 })).map(({ id }) => id);
        const got = `${ids.length} payments, ${new Set(ids).size} ids`;
        expectThat(new Set(ids).size === ids.length, got);
        const ours = ids.filter((id) => both.includes(id));
        expectThat(isDeepStrictEqual(ours, both), `${ours.join(', ')} of ${both.join(', ')}`);
        return got;
      },
    },
    ...buildRefundCases(check, first, book),
    {
      name: 'notices-signed',
      expected: 'every notice of this run is signed over its bytes, and of a form of the contract',
      run: async () => {
        if (receiver.notices.length === 0) throw new NotCheckedError('none came');
        const faults = receiver.notices.flatMap(({ id, fault }) =>
          fault === undefined ? [] : [`${id}: ${fault}`],
        );
        expectThat(
          faults.length === 0,
          `${faults.length} of ${receiver.notices.length} are not; ${faults[0]}`,
        );
        return `${receiver.notices.length} notices`;
      },
    },
  ];
  return cases.map((each) => ({ ...each, needsPay: true }));
}

function buildRefundCases(check: Check, paid: () => Promise<Paid>, book: () => Promise<Payment[]>): Case[] {
  const { provider, receiver } = check;
  const key = newKey();
  const partOf = ({ payment }: Paid) => ({
    payment_id: payment.id,
    amount: Math.floor(payment.amount / PART),
    currency: payment.currency,
  });
  const refunded = once('refunding', async () => {
    const made = readAs(reversalReplySchema, await postRefund(provider, partOf(await paid()), key));
    const { payment_id, amount, currency } = partOf(await paid());
    expectSame(made, { kind: 'refund', payment_id, amount, currency });
    expectThat(made.status !== 'failed', `a refund that is ${made.status}`);
    return made;
  });
  /** What is not failed is on its way, or is there. */
  const listed = async () => {
    const all = await listReversals(provider, (await paid()).payment.id);
    return all.filter(({ status }) => status !== 'failed');
  };

  return [
    {
      name: 'refund-made',
      expected: 'a refund of a part, and the list of reversals has it',
      run: async () => {
        const made = await refunded();
        const ids = (await listed()).map(({ id }) => id);
        expectThat(isDeepStrictEqual(ids, [made.id]), `${made.id}; the list has ${ids.join(', ') || 'none'}`);
        return `${made.id} of ${made.amount}, ${made.status}`;
      },
    },
    {
      name: 'refund-repeated',
      expected: 'the same key with the same terms answers the same refund, and refunds no more',
      run: async () => {
        const made = await refunded();
        const before = sum(await listed());
        const again = readAs(reversalReplySchema, await postRefund(provider, partOf(await paid()), key));
        const after = sum(await listed());
        const got = `${made.id}, then ${again.id}; ${before}, then ${after} refunded`;
        expectThat(made.id === again.id && before === after, got);
        return got;
      },
    },
    {
      name: 'refund-at-once',
      expected: 'two calls at once under one key make one refund',
      run: async () => {
        const part = partOf(await paid());
        const before = sum(await listed());
        const at = newKey();
        const both = await Promise.all([postRefund(provider, part, at), postRefund(provider, part, at)]);
        const got = describeOne(both, await postRefund(provider, part, at));
        const more = sum(await listed()) - before;
        expectThat(more === part.amount, `${more} refunded instead of ${part.amount}`);
        return got;
      },
    },
    {
      name: 'refund-key-reused',
      expected: 'other terms under the same key: 4XX idempotency_key_reused, and nothing refunded',
      run: async () => {
        await refunded();
        const part = partOf(await paid());
        return expectNoRefund({ ...part, amount: part.amount + 1 }, key, 'idempotency_key_reused');
      },
    },
    {
      name: 'refund-too-much',
      expected: 'more than is left: 4XX refund_exceeds_payment, and nothing refunded',
      run: async () => {
        const { payment } = await paid();
        const terms = { ...partOf(await paid()), amount: payment.amount + 1 };
        return expectNoRefund(terms, newKey(), 'refund_exceeds_payment');
      },
    },
    {
      name: 'refund-currency',
      expected: 'another currency: 4XX currency_mismatch, and nothing refunded',
      run: async () => {
        const part = partOf(await paid());
        const currency = part.currency === 'USD' ? 'EUR' : 'USD';
        return expectNoRefund({ ...part, currency }, newKey(), 'currency_mismatch');
      },
    },
    {
      name: 'refund-rest',
      expected: 'all that is left is refunded, and no more than that',
      run: async () => {
        const { payment } = await paid();
        const rest = { ...partOf(await paid()), amount: payment.amount - sum(await listed()) };
        readAs(reversalReplySchema, await postRefund(provider, rest));
        const all = sum(await listed());
        expectThat(all === payment.amount, `${all} of ${payment.amount} is refunded`);
        await expectNoRefund({ ...rest, amount: 1 }, newKey(), 'refund_exceeds_payment');
        return `${all} of ${payment.amount}; 1 more is refused`;
      },
    },
    {
      name: 'refund-noticed',
      expected: 'a notice refund.updated says of each refund that it succeeded',
      run: async () => {
        const refunds = await listed();
        expectThat(refunds.length > 0, 'no refund');
        for (const refund of refunds) await expectNotice(refund);
        return `${refunds.length} refunds`;
      },
    },
    {
      name: 'reversals-listed',
      expected: "the list's refunds add up to what the book shows as returned",
      run: async () => {
        const { payment, terms } = await paid();
        const refunds = await listed();
        for (const refund of refunds)
          expectSame(refund, { kind: 'refund', payment_id: payment.id, reference: terms.reference });
        const done = sum(refunds.filter(({ status }) => status === 'succeeded'));
        const [inBook] = ofOrder(await book(), terms);
        const got = `${done} listed, ${inBook?.returned} returned`;
        expectThat(inBook?.returned === done && !inBook.disputed, got);
        return got;
      },
    },
  ];

  async function expectNoRefund(
    terms: { payment_id: string; amount: number; currency: string },
    idempotencyKey: string,
    code: string,
  ): Promise<string> {
    const before = sum(await listed());
    const reply = await postRefund(provider, terms, idempotencyKey);
    const more = sum(await listed()) - before;
    expectThat(more === 0, `${describeReply(reply)}, and ${more} refunded`);
    expectRefused(reply, [code]);
    return describeReply(reply);
  }

  async function expectNotice({ id }: Reversal): Promise<void> {
    const isOfRefund = ({ said }: Notice) => said?.type === 'refund.updated' && said.data.refund_id === id;
    const isDone = (each: Notice) =>
      isOfRefund(each) && each.said?.type === 'refund.updated' && each.said.data.status === 'succeeded';
    const notice = await receiver.wait(isDone, check.waitMs);
    const seconds = check.waitMs / 1_000;
    if (notice === undefined && receiver.notices.some(isOfRefund))
      throw new NotCheckedError(`${id} is pending after ${seconds} s`);
    expectThat(notice !== undefined, `none of ${id} within ${seconds} s`);
    expectThat(notice.fault === undefined, `of ${id}: ${notice.fault}`);
    const refund = (await listed()).find((each) => each.id === id);
    const { payment_id, reference, amount, currency } = refund ?? {};
    expectSame(notice.said?.data ?? {}, { refund_id: id, payment_id, reference, amount, currency });
  }
}

async function pay({ pay: command }: Check, url: string): Promise<boolean> {
  if (command === undefined) throw new NotCheckedError('needs --pay');
  return command(url);
}

function ofOrder(payments: readonly Payment[], { reference }: SessionTerms): Payment[] {
  return payments.filter((payment) => payment.reference === reference);
}

function isOfPayment({ said }: Notice, { reference }: SessionTerms): boolean {
  return said?.type === 'payment.succeeded' && said.data.reference === reference;
}

/** What of a session comes back with its payment. */
function carriedBy({ reference, amount, currency, signed_order, deployment }: SessionTerms) {
  return { reference, amount, currency, signed_order, deployment };
}

function expectSame(got: Readonly<Record<string, unknown>>, expected: Readonly<Record<string, unknown>>) {
  const wrong = Object.keys(expected).filter((name) => got[name] !== expected[name]);
  const list = wrong.map(
    (name) => `${name} is ${JSON.stringify(got[name])}, not ${JSON.stringify(expected[name])}`,
  );
  expectThat(wrong.length === 0, list.join(', '));
}

function expectTaken(payments: readonly Payment[], expected: number): string {
  const got = `${payments.length} payments of the order`;
  expectThat(payments.length === expected, got);
  return got;
}

function sum(reversals: readonly Reversal[]): number {
  return reversals.reduce((total, { amount }) => total + amount, 0);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
