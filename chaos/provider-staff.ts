/** What happens at the provider without Holdfast: orders paid twice, money for nothing, money that is taken back. */

import { setTimeout as delay } from 'node:timers/promises';
import { ulid } from 'ulidx';
import { formatOrderNo } from '../src/domain/order.ts';
import { REVERSALS, type FarSide } from './far-side.ts';
import type { Random } from './random.ts';
import { LAMP_PRICE } from './sale.ts';
import type { Shopper } from './shopper.ts';

/** Rare, and enough of them to meet every fault. */
const REVERSED_SHARE = 0.06;
const REVERSALS_MAX = 25;
const UNKNOWN_SHARE = 0.01;
const UNKNOWN_MAX = 3;
const UNKNOWN = 'for an order nobody knows';
/** How often, and how soon, a shopper looks what is told of money that goes back. */
const LOOKS = 3;
const LOOK_EVERY_MS = { min: 1_000, max: 3_000 };
const LOOK_PATIENCE_MS = 60_000;

export type ByHand = ReturnType<typeof createByHand>;

export function createByHand(farSide: FarSide, saleId: string) {
  const counts = new Map<string, number>();
  const count = (what: string): unknown => counts.set(what, (counts.get(what) ?? 0) + 1);
  const countOf = (whats: readonly string[]): number =>
    whats.reduce((sum, what) => sum + (counts.get(what) ?? 0), 0);

  return {
    counts,

    /** Beside whatever the shopper pays in a session. */
    async payOnceMore(orderNo: string, amount: number): Promise<void> {
      count('paid twice');
      await farSide.payOutside(orderNo, amount);
    },

    /** Now and then: money that names an order of this sale which nobody has ever placed. */
    async maybePayForNothing(chance: Random): Promise<void> {
      if (chance.next() >= UNKNOWN_SHARE || countOf([UNKNOWN]) >= UNKNOWN_MAX) return;
      count(UNKNOWN);
      await farSide.payOutside(formatOrderNo({ saleId, shard: 0, epoch: 1, ulid: ulid() }), LAMP_PRICE);
    },

    /** Now and then: the money of a paid order goes back, or its payer wants it to. The shopper looks what is told of it. */
    async maybeReverse(shopper: Shopper, orderNo: string, chance: Random): Promise<void> {
      if (chance.next() >= REVERSED_SHARE || countOf(REVERSALS) >= REVERSALS_MAX) return;
      const how = chance.pick(REVERSALS);
      count(how);
      if (!(await farSide.reverse(orderNo, how))) return;
      for (let looks = 0; looks < LOOKS; looks += 1) {
        await delay(chance.int(LOOK_EVERY_MS.min, LOOK_EVERY_MS.max));
        await shopper.look(orderNo, Date.now() + LOOK_PATIENCE_MS);
      }
    },
  };
}
