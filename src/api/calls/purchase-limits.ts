/**
 * How often one user, and where a sale asks for it one address, may try to buy. Counted in the memory of this
 * process alone, so that a purchase costs no call to a store.
 */

import ipaddr from 'ipaddr.js';
import { LRUCache } from 'lru-cache';
import { SYSTEM_CLOCK, type Clock } from '../../clock.ts';
import type { Sale } from '../../sales/sale.ts';

/** Limits are of a minute, which begins with the first attempt in it. In ms. */
export const LIMIT_WINDOW_MS = 60_000;
/**
 * Users that a process remembers, and addresses; the one whose last attempt is the longest ago is forgotten
 * first. A process answers some 8,000 purchases a second, so that one who tries every six seconds is never
 * forgotten: the limits are for those who try more often. Full, a memory takes 10 MB, and 25 if all ids had
 * the greatest length.
 */
export const REMEMBERED_MAX = 50_000;
/** Beyond the limit as many attempts as within it are looked up: a repeat may be among them. */
const LOOKED_UP_TIMES = 2;

/** Bits of an IPv6 address that name a subscriber's network; the rest is their own to choose. */
const NETWORK_BITS = 64;

/** The attempts of one user or address in its minute. */
interface Minute {
  attempts: number;
  /** By the clock. */
  endsAtMs: number;
}

/** What an attempt is counted in. */
interface Count {
  name: 'user' | 'address';
  /** Attempts that this process takes. */
  quota: number;
  minute: Minute;
}

/**
 * An attempt that was counted. over: it is answered only where it repeats an accepted order. spent: not even
 * that is looked up, so that no caller makes Redis work without a bound.
 */
export interface CountedAttempt {
  standing: 'within' | 'over' | 'spent';
  /** The limit that it is over. */
  over: { name: Count['name']; retryAfterSeconds: number } | undefined;
  /** It repeats an accepted order, which is no attempt to buy. */
  giveBack: () => void;
  /** By draft-ietf-httpapi-ratelimit-headers. */
  headers: () => { RateLimit: string; 'RateLimit-Policy': string };
}

export type PurchaseLimits = ReturnType<typeof createPurchaseLimits>;

/** @param userPerMinute attempts of one user */
export function createPurchaseLimits(userPerMinute: number, clock = SYSTEM_CLOCK) {
  const [users, addresses] = [createCounts('user'), createCounts('address')];

  return {
    /**
     * @param ip empty where it is not known: then it is not counted
     * @param sale as it was last known, undefined: this process has not seen it yet
     */
    count(
      { userId, ip }: { userId: string; ip: string },
      sale: Pick<Sale, 'saleId' | 'addressPurchasesPerMinute'> | undefined,
    ): CountedAttempt {
      const nowMs = clock.nowMs();
      const counts = [users(userId, userPerMinute, nowMs)];
      const perAddress = sale?.addressPurchasesPerMinute ?? null;
      const network = perAddress === null ? undefined : networkOf(ip);
      if (sale && perAddress !== null && network !== undefined)
        counts.push(addresses(`${sale.saleId} ${network}`, perAddress, nowMs));
      return toAttempt(counts, clock);
    },
  };
}

function createCounts(name: Count['name']) {
  const minutes = new LRUCache<string, Minute>({ max: REMEMBERED_MAX });

  return (key: string, quota: number, nowMs: number): Count => {
    let minute = minutes.get(key);
    if (!minute || nowMs >= minute.endsAtMs) {
      minute = { attempts: 0, endsAtMs: nowMs + LIMIT_WINDOW_MS };
      minutes.set(key, minute);
    }
    minute.attempts += 1;
    return { name, quota, minute };
  };
}

function toAttempt(counts: readonly Count[], clock: Clock): CountedAttempt {
  /** Until the minute is over, which it may be by now. */
  const secondsLeft = ({ minute }: Count): number =>
    Math.max(1, Math.ceil((minute.endsAtMs - clock.nowMs()) / 1_000));
  const over = counts.filter(({ minute, quota }) => minute.attempts > quota);
  const isSpent = over.some(({ minute, quota }) => minute.attempts > LOOKED_UP_TIMES * quota);
  const [longest] = over.toSorted((a, b) => b.minute.endsAtMs - a.minute.endsAtMs);
  return {
    standing: longest ? (isSpent ? 'spent' : 'over') : 'within',
    over: longest && { name: longest.name, retryAfterSeconds: secondsLeft(longest) },
    giveBack() {
      for (const { minute } of counts) minute.attempts -= 1;
    },
    headers: () => ({
      RateLimit: counts
        .map((each) => `"${each.name}";r=${remaining(each)};t=${secondsLeft(each)}`)
        .join(', '),
      'RateLimit-Policy': counts
        .map(({ name, quota }) => `"${name}";q=${quota};w=${LIMIT_WINDOW_MS / 1_000}`)
        .join(', '),
    }),
  };
}

function remaining({ minute, quota }: Count): number {
  return Math.max(0, quota - minute.attempts);
}

/** What of an address is one caller's: of IPv6 the network. Undefined: it is no address. */
function networkOf(ip: string): string | undefined {
  if (!ipaddr.isValid(ip)) return undefined;
  // An IPv4 address that an IPv6 socket shows is the same caller's.
  const address = ipaddr.process(ip);
  if (address instanceof ipaddr.IPv4) return address.toString();
  return address.parts.slice(0, NETWORK_BITS / 16).join(':');
}
