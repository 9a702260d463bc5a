/** Shoppers who go on buying one unit each while the stores fail under them. */

import { setImmediate as turn } from 'node:timers/promises';
import type { Checkout } from '../support/checkout.ts';
import { orderOf, problemOf, type Shopper } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';

export interface Bought {
  orderNo: string;
  shopper: Shopper;
}

/** What a purchase may be refused with while Redis is away, or has lost the sale. */
const PASSING = ['sale_paused', 'outcome_unknown', 'overloaded', 'stock_unavailable'];

export type Crowd = ReturnType<typeof openCrowd>;

/** @param buyers who buy one after the other, all at once */
export function openCrowd(checkout: Checkout, saleId: string, buyers = 2) {
  const bought: Bought[] = [];
  const refusals: string[] = [];
  const closing = new AbortController();

  async function buyOne(): Promise<void> {
    const shopper = await checkout.shopper();
    const reply = await shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 1 }] });
    if (reply.status === 202) bought.push({ orderNo: orderOf(reply).orderNo, shopper });
    else refusals.push(problemOf(reply).code);
  }

  async function buyOn(): Promise<void> {
    while (!closing.signal.aborted) {
      await buyOne();
      await turn();
    }
  }
  const ended = Promise.all(Array.from({ length: buyers }, buyOn));
  // A failure of the test's own is thrown by `close`.
  ended.catch(() => {});

  return {
    bought,

    /** Waits until so many more were bought. */
    async more(count: number): Promise<void> {
      const until = bought.length + count;
      await waitFor(`${count} more orders`, () => bought.length >= until);
    },

    /** Waits until an order of this epoch was bought. */
    async ofEpoch(epoch: number): Promise<void> {
      const prefix = `${saleId}-0-${epoch}-`;
      await waitFor(`an order of epoch ${epoch}`, () =>
        bought.some(({ orderNo }) => orderNo.startsWith(prefix)),
      );
    },

    /** @returns what was refused otherwise than for a while */
    async close(): Promise<string[]> {
      closing.abort();
      await ended;
      return refusals.filter((code) => !PASSING.includes(code));
    },
  };
}
