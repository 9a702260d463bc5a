/**
 * The shoppers of a trial: they buy, then pay, cancel or walk away, and every answer is kept in the history.
 * Some wait until their order is stored, and some watch it instead of asking again and again.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { ulid } from 'ulidx';
import { isFinal } from '../src/orders/order.ts';
import type { Calls } from './caller.ts';
import type { History } from './history.ts';
import { createProviderStaff, type ProviderStaff } from './provider-staff.ts';
import type { Random } from './random.ts';
import { CALLED_OFF_SKU, PAYMENT_WINDOW_MS } from './sale.ts';
import { createShopStaff } from './shop-staff.ts';
import {
  createShopper,
  type Cart,
  type Following,
  type OrderEnd,
  type Placed,
  type Plan,
  type Shopper,
  type Wait,
} from './shopper.ts';
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
/** Of the purchases: their answers wait until the order is stored. And of these: they give up at the end. */
const WAITING_SHARE = 0.4;
const GIVING_UP_SHARE = 0.6;
/** Short, so that a store which is struck for a moment ends some of the waits. */
const WAIT_SECONDS = { min: 1, max: 3 };
/** Of those whose deadline was extended: they pay after the first deadline, where the order is open still. */
const LATE_PAYERS_SHARE = 0.6;

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

  async function buy(
    shopper: Shopper,
    cart: Cart[],
    patienceMs: number,
    how: { api?: string; wait?: Wait },
  ): Promise<Placed | undefined> {
    placed += 1;
    const answer = await shopper.buy(saleId, cart, Date.now() + patienceMs, how);
    count(answers, typeof answer === 'string' ? answer : answer ? 'accepted' : 'no answer');
    if (answer === undefined || typeof answer === 'string') return undefined;
    open.add(answer.orderNo);
    return answer;
  }

  function end(orderNo: string, how: OrderEnd | undefined, isFree = false): void {
    count(ends, how?.status === 'failed' ? `failed (${how.reason})` : (how?.status ?? 'open'));
    if (isFree && how?.status === 'paid') count(ends, 'of them free');
    if (how !== undefined && isFinal(how.status)) open.delete(orderNo);
  }

  async function visit(chance: Random): Promise<void> {
    const shopper = chance.pick(shoppers);
    await providerStaff.maybePayUnknown(chance);
    const cart = fillCart(chance);
    const wait = chooseWait(chance);
    const order = await buy(shopper, cart, BUY_PATIENCE_MS, wait ? { wait } : {});
    if (order === undefined) return;
    const { orderNo } = order;
    const untilMs = Date.now() + PAYMENT_WINDOW_MS + END_PATIENCE_MS;
    const purchase = { shopper, ...order, untilMs };
    const by = chance.pick<Following>(['poll', 'long-poll', 'events']);
    const [how] = await Promise.all([
      shopper.follow(orderNo, untilMs, { by }),
      carryOut(purchase, chance, providerStaff),
      getMoreTime(purchase, chance),
    ]);
    end(orderNo, how, shopper.totalOf(orderNo) === 0);
    // What goes back of these goes back by the calling-off alone, so that each cent can be counted.
    const isCalledOff = cart.some(({ sku }) => sku === CALLED_OFF_SKU);
    if (how?.status !== 'paid' || isCalledOff) return;
    if (await shopStaff.maybeRefund(orderNo, cart, chance)) return;
    await providerStaff.maybeReverse(shopper, orderNo, chance);
  }

  /** Now and then the shop's staff extend the deadline, and some pay after the first one. */
  async function getMoreTime(
    { shopper, orderNo, reservedAtMs, untilMs, isGivenUp }: Purchase,
    chance: Random,
  ): Promise<void> {
    if (isGivenUp || shopper.totalOf(orderNo) === 0) return;
    const deadlineMs = reservedAtMs + PAYMENT_WINDOW_MS;
    const isExtended = await shopStaff.maybeExtend(orderNo, deadlineMs, chance);
    if (!isExtended || chance.next() >= LATE_PAYERS_SHARE) return;
    await delay(Math.max(0, deadlineMs - Date.now()));
    await shopper.pay(orderNo, untilMs);
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
        const order = await buy(probe, [{ sku: 'lamp', quantity: 1 }], RECOVERY_TIMEOUT_MS, { api });
        if (order === undefined) return undefined;
        const { orderNo } = order;
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

interface Purchase extends Placed {
  shopper: Shopper;
  /** Unix ms; when its shopper stops trying. */
  untilMs: number;
}

async function carryOut(
  { shopper, orderNo, untilMs, isGivenUp }: Purchase,
  chance: Random,
  providerStaff: ProviderStaff,
): Promise<void> {
  await delay(chance.int(0, THINKING_MS));
  if (chance.next() < REPEATS_SHARE) await shopper.repeat(orderNo, untilMs);
  const plan = choosePlan(chance);
  // There is nothing to pay.
  if ((isGivenUp || shopper.totalOf(orderNo) === 0) && plan !== 'cancel') return;
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

function chooseWait(chance: Random): Wait | undefined {
  if (chance.next() >= WAITING_SHARE) return undefined;
  const seconds = chance.int(WAIT_SECONDS.min, WAIT_SECONDS.max);
  return { seconds, cancels: chance.next() < GIVING_UP_SHARE };
}

/** Plenty of lamps, few rugs, vases of which one may have two, what is called off, and what is free. */
function fillCart(chance: Random): Cart[] {
  const roll = chance.next();
  if (roll < 0.5) return [{ sku: 'lamp', quantity: chance.int(1, 2) }];
  if (roll < 0.67) return [{ sku: 'rug', quantity: 1 }];
  if (roll < 0.82) return [one('vase'), one('lamp')];
  if (roll < 0.87) return [{ sku: CALLED_OFF_SKU, quantity: chance.int(1, 2) }];
  return roll < 0.92 ? [one(CALLED_OFF_SKU), one('lamp')] : [one('card')];
}

const one = (sku: string): Cart => ({ sku, quantity: 1 });

function count(counts: Map<string, number>, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1);
}
