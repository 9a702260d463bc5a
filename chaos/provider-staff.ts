/**
 * What happens at the provider without Holdfast: its staff, shoppers and their
 * banks pay orders twice, pay for orders that do not exist, refund and dispute.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { ulid } from 'ulidx';
import { ConsoleRefusedError, type SandboxConsole } from '../sandbox/console.ts';
import { formatOrderNo } from '../src/orders/order.ts';
import type { Random } from './random.ts';
import { LAMP_PRICE } from './sale.ts';
import type { Shopper } from './shopper.ts';

/** Of the paid orders; rare, and enough of them to meet every fault. */
const REVERSED_SHARE = 0.06;
const REVERSALS_MAX = 25;
const UNKNOWN_SHARE = 0.01;
const UNKNOWN_MAX = 3;
const UNKNOWN = 'for an unknown order';
/** How often, and how soon, a shopper reads the order after its money went back. */
const LOOKS = 3;
const LOOK_EVERY_MS = { min: 1_000, max: 3_000 };
const LOOK_PATIENCE_MS = 60_000;
/** A part of a refund; less than anything costs. Minor units. */
const PART = 100;

/** What the provider's staff, or a payer's bank, do to a payment. */
const REVERSALS = ['refund', 'part refund', 'dispute', 'dispute won', 'dispute lost'] as const;
type ReversalByStaff = (typeof REVERSALS)[number];

export type ProviderStaff = ReturnType<typeof createProviderStaff>;

export function createProviderStaff(providerConsole: SandboxConsole, saleId: string) {
  const counts = new Map<string, number>();
  const count = (what: string): unknown => counts.set(what, (counts.get(what) ?? 0) + 1);
  const countOf = (whats: readonly string[]): number =>
    whats.reduce((sum, what) => sum + (counts.get(what) ?? 0), 0);

  /** Only where the order has one payment: then it is the one that counts. @returns whether it was done */
  async function reverse(orderNo: string, how: ReversalByStaff): Promise<boolean> {
    const [payment, another] = await providerConsole.listPayments(orderNo);
    if (payment === undefined || another !== undefined) return false;
    return isAccepted(() => reversePayment(providerConsole, payment.id, how));
  }

  return {
    counts,

    /** In addition to what the shopper pays in a session. */
    async payOnceMore(orderNo: string, amount: number): Promise<void> {
      count('paid twice');
      await providerConsole.takeStrayPayment({ reference: orderNo, amount });
    },

    /** Now and then: money that names an order of this sale which was never placed. */
    async maybePayUnknown(chance: Random): Promise<void> {
      if (chance.next() >= UNKNOWN_SHARE || countOf([UNKNOWN]) >= UNKNOWN_MAX) return;
      count(UNKNOWN);
      const reference = formatOrderNo({ saleId, shard: 0, epoch: 1, ulid: ulid() });
      await providerConsole.takeStrayPayment({ reference, amount: LAMP_PRICE });
    },

    /**
     * Now and then: the money of a paid order goes back, or
     * is disputed. The shopper reads the order afterwards.
     */
    async maybeReverse(shopper: Shopper, orderNo: string, chance: Random): Promise<void> {
      if (chance.next() >= REVERSED_SHARE || countOf(REVERSALS) >= REVERSALS_MAX) return;
      const how = chance.pick(REVERSALS);
      count(how);
      if (!(await reverse(orderNo, how))) return;
      for (let looks = 0; looks < LOOKS; looks += 1) {
        await delay(chance.int(LOOK_EVERY_MS.min, LOOK_EVERY_MS.max));
        await shopper.look(orderNo, Date.now() + LOOK_PATIENCE_MS);
      }
    },
  };
}

async function reversePayment(
  providerConsole: SandboxConsole,
  paymentId: string,
  how: ReversalByStaff,
): Promise<unknown> {
  const closeDispute = async (won: boolean): Promise<unknown> => {
    const { id } = await providerConsole.openDispute(paymentId);
    // A repeat of a call that was not answered meets a dispute that is closed already.
    return isAccepted(() => providerConsole.closeDispute(id, { won }));
  };
  switch (how) {
    case 'refund':
      return providerConsole.refund(paymentId);
    case 'part refund':
      return providerConsole.refund(paymentId, PART);
    case 'dispute':
      return providerConsole.openDispute(paymentId);
    case 'dispute won':
      return closeDispute(true);
    case 'dispute lost':
      return closeDispute(false);
    default:
      return how satisfies never;
  }
}

/** False when the provider refused: the money is back already, or a repeat met what its first try did. */
async function isAccepted(act: () => Promise<unknown>): Promise<boolean> {
  try {
    await act();
    return true;
  } catch (error) {
    if (error instanceof ConsoleRefusedError) return false;
    throw error;
  }
}
