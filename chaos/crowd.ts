/**
 * The shoppers of a trial: they buy, then pay, cancel or walk away, and every answer is kept in the history.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { ulid } from 'ulidx';
import { isFinal } from '../src/orders/order.ts';
import type { Calls } from './caller.ts';
import type { History } from './history.ts';
import { createProviderStaff, type ProviderStaff } from './provider-staff.ts';
import type { Random } from './random.ts';
import { PAYMENT_WINDOW_MS } from './sale.ts';
import { createShopStaff } from './shop-staff.ts';
import { createShopper, type Cart, type OrderEnd, type Plan, type Shopper } from './shopper.ts';
import type { System } from './system.ts';

const USERS = 200;
/**
 * Offered all the time: about a third of what the engine
 * takes on a small machine, so that a recovery can be seen.
 */
const ORDERS_PER_SECOND = 10;
/** Bounds this process' memory when the system stands still. */
const OPEN_ORDERS_MAX = 600;
const BUY_PATIENCE_MS = 60_000;
/** Past its window an order must end within this, whatever has struck, and on a busy machine too. */
const END_PATIENCE_MS = 5 * 60_000;
const RECOVERY_TIMEOUT_MS = 120_000;
const QUICKLY_MS = { min: 50, max: 150 };
const THINKING_MS = 3_000;
/** Of the shoppers: they send the request of an accepted order once more. */
const REPEATS_SHARE = 0.15;

/** Offers orders at an even pace while `goesOn`; then waits until all have ended. */
export async function shop(crowd: Crowd, random: Random, goesOn: () => boolean): Promise<void> {
  const visits = new Set<Promise<void>>();
  while (goesOn()) {
    await delay(1_000 / ORDERS_PER_SECOND);
    if (visits.size >= OPEN_ORDERS_MAX) continue;
    const visit: Promise<void> = crowd.visit(random).finally(() => visits.delete(visit));
    visits.add(visit);
  }
  await Promise.all(visits);
}

export type Crowd = Awaited<ReturnType<typeof createCrowd>>;

export async function createCrowd(system: System, saleId: string, history: History, random: Random) {
  const { apiUrls, providerConsole } = system;
  const calls: Calls = { made: 0, repeated: 0, unanswered: 0, longestMs: 0 };
  const create = (userId: string) => createShopper({ apiUrls, userId, random, history, calls });
  const shoppers = await Promise.all(Array.from({ length: USERS }, (_, i) => create(`shopper-${i}`)));
  const open = new Set<string>();
  const answers = new Map<string, number>();
  const ends = new Map<string, number>();
  const providerStaff = createProviderStaff(providerConsole, saleId);
  const { lowered } = history;
  const shopStaff = await createShopStaff({ apiUrls, saleId, random, calls, lowered });
  let placed = 0;

  async function buy(shopper: Shopper, cart: Cart[], patienceMs: number, api?: string) {
    placed += 1;
    const answer = await shopper.buy(saleId, cart, Date.now() + patienceMs, api);
    count(answers, typeof answer === 'string' ? answer : answer ? 'accepted' : 'no answer');
    if (answer === undefined || typeof answer === 'string') return undefined;
    open.add(answer.orderNo);
    return answer.orderNo;
  }

  function end(orderNo: string, how: OrderEnd | undefined): void {
    count(ends, how?.status === 'failed' ? `failed (${how.reason})` : (how?.status ?? 'open'));
    if (how !== undefined && isFinal(how.status)) open.delete(orderNo);
  }

  async function visit(chance: Random): Promise<void> {
    const shopper = chance.pick(shoppers);
    await providerStaff.maybePayUnknown(chance);
    const cart = fillCart(chance);
    const orderNo = await buy(shopper, cart, BUY_PATIENCE_MS);
    if (orderNo === undefined) return;
    const untilMs = Date.now() + PAYMENT_WINDOW_MS + END_PATIENCE_MS;
    const [how] = await Promise.all([
      shopper.follow(orderNo, untilMs),
      carryOut({ shopper, orderNo, untilMs }, chance, providerStaff),
    ]);
    end(orderNo, how);
    if (how?.status !== 'paid' || (await shopStaff.maybeRefund(orderNo, cart, chance))) return;
    await providerStaff.maybeReverse(shopper, orderNo, chance);
  }

  /**
   * Pays, and has the callback sent at once, so that mischief with it does not blur the time of recovery.
   * @returns whether all of the money was collected
   */
  async function payProbe(probe: Shopper, orderNo: string, untilMs: number, api?: string): Promise<boolean> {
    if ((await probe.pay(orderNo, untilMs, api)) !== 'collected') return false;
    const payments = await providerConsole.redeliverPayments(orderNo);
    return payments.some(({ amount }) => amount === probe.totalOf(orderNo));
  }

  /**
   * One order through each API; one is paid and one cancelled, so that every part has had its turn.
   * @returns the milliseconds until both have ended; undefined when they have not in time
   */
  async function recover(): Promise<number | undefined> {
    const startedMs = Date.now();
    const untilMs = startedMs + RECOVERY_TIMEOUT_MS;
    const ended = await Promise.all(
      apiUrls.map(async (api, i) => {
        // Each time another: one user would come to the limits that the staff set.
        const probe = await create(`probe-${ulid()}`);
        const orderNo = await buy(probe, [{ sku: 'lamp', quantity: 1 }], RECOVERY_TIMEOUT_MS, api);
        if (orderNo === undefined) return undefined;
        const isPaid = i === 0 && (await payProbe(probe, orderNo, untilMs, api));
        if (!isPaid) await probe.cancel(orderNo, untilMs, api);
        const how = await probe.follow(orderNo, untilMs, { everyMs: QUICKLY_MS });
        end(orderNo, how);
        return how;
      }),
    );
    return ended.includes(undefined) ? undefined : Date.now() - startedMs;
  }

  return {
    visit,
    recover,
    open: () => [...open],
    placed: () => placed,
    answers,
    ends,
    byStaff: providerStaff.counts,
    shopStaff,
    calls,
  };
}

interface Purchase {
  shopper: Shopper;
  orderNo: string;
  /** Unix ms; when its shopper stops trying. */
  untilMs: number;
}

async function carryOut(
  { shopper, orderNo, untilMs }: Purchase,
  chance: Random,
  providerStaff: ProviderStaff,
): Promise<void> {
  await delay(chance.int(0, THINKING_MS));
  if (chance.next() < REPEATS_SHARE) await shopper.repeat(orderNo, untilMs);
  const plan = choosePlan(chance);
  switch (plan) {
    case 'pay':
      await shopper.pay(orderNo, untilMs);
      return;
    case 'pay-twice':
      await shopper.pay(orderNo, untilMs);
      return providerStaff.payOnceMore(orderNo, shopper.totalOf(orderNo));
    case 'cancel':
      return shopper.cancel(orderNo, untilMs);
    case 'pay-and-cancel':
      await Promise.all([shopper.pay(orderNo, untilMs), shopper.cancel(orderNo, untilMs)]);
      return;
    case 'walk-away':
      return;
    default:
      plan satisfies never;
  }
}

function choosePlan(chance: Random): Plan {
  const roll = chance.next();
  if (roll < 0.49) return 'pay';
  if (roll < 0.55) return 'pay-twice';
  if (roll < 0.7) return 'cancel';
  return roll < 0.8 ? 'pay-and-cancel' : 'walk-away';
}

/** Plenty of lamps, few rugs, and vases of which one may have two. */
function fillCart(chance: Random): Cart[] {
  const roll = chance.next();
  if (roll < 0.6) return [{ sku: 'lamp', quantity: chance.int(1, 2) }];
  if (roll < 0.8) return [{ sku: 'rug', quantity: 1 }];
  return [
    { sku: 'vase', quantity: 1 },
    { sku: 'lamp', quantity: 1 },
  ];
}

function count(counts: Map<string, number>, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1);
}
