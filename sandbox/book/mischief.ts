/**
 * Mischief: shares of callbacks, payments and refunds that go wrong on purpose. What goes wrong is decided
 * when it is made, and written with it, so that a restart changes nothing. The n-th decision under a seed is
 * always the same.
 */

import { createHash } from 'node:crypto';
import { z } from 'zod';

const shareSchema = z.number().min(0).max(1).default(0);
/** Timers hold no more than 24 days; nothing that is promised here need wait longer than one. */
const delaySchema = z
  .int()
  .min(0)
  .max(24 * 60 * 60 * 1000)
  .default(1000);

/** A mistyped switch would quietly do nothing, so an unknown one is refused. */
export const mischiefSettingsSchema = z.strictObject({
  /** The callback is sent twice, at the same time or one after the other. */
  duplicate: shareSchema,
  /** The callback is held back up to `reorder_ms`, so that later ones overtake it. */
  reorder: shareSchema,
  reorder_ms: delaySchema,
  /** The callback of a payment or a refund is never sent. */
  drop: shareSchema,
  /**
   * What the shopper pays is taken only `late_ms` later, even if the session has been voided or has expired
   * by then.
   */
  late: shareSchema,
  late_ms: delaySchema,
  /** One minor unit less is taken. */
  wrong_amount: shareSchema,
  /** The payment's first refund is refused; what counts is that none of its refunds was refused before. */
  refund_refused: shareSchema,
  /** The refund stays pending for `slow_refund_ms`. */
  slow_refund: shareSchema,
  slow_refund_ms: delaySchema,
  /** The shop's call is answered 429, as by a provider that gets too many, and does nothing. */
  rate_limited: shareSchema,
  seed: z.int().min(0).default(1),
});
export type MischiefSettings = z.infer<typeof mischiefSettingsSchema>;

/** What was decided about an event's callback. */
export const fateSchema = z.object({
  drop: z.boolean(),
  duplicate: z.enum(['no', 'together', 'after']),
  /** Counted from the event's making. */
  delayMs: z.int().min(0),
});
export type Fate = z.infer<typeof fateSchema>;
export const UNTOUCHED: Fate = { drop: false, duplicate: 'no', delayMs: 0 };

const struckSchema = z.object({
  duplicate: z.int(),
  reorder: z.int(),
  drop: z.int(),
  late: z.int(),
  wrong_amount: z.int(),
  refund_refused: z.int(),
  slow_refund: z.int(),
  rate_limited: z.int(),
});
type Struck = z.infer<typeof struckSchema>;
type Switch = keyof Struck;

export const mischiefReplySchema = z.object({ settings: mischiefSettingsSchema, struck: struckSchema });
export type MischiefReply = z.infer<typeof mischiefReplySchema>;

export interface MischiefState {
  settings: MischiefSettings;
  /** How many of each were made under these settings: the place in the seed's sequence. */
  made: Made;
  /** Since the book began, so that switching mischief off does not forget it. */
  struck: Struck;
}

/** Calls are counted in memory alone: after a restart their sequence begins anew. */
interface Made {
  events: number;
  payments: number;
  refunds: number;
  calls: number;
}

export function nothingMade(): Made {
  return { events: 0, payments: 0, refunds: 0, calls: 0 };
}

export function createMischiefState(): MischiefState {
  return {
    settings: mischiefSettingsSchema.parse({}),
    made: nothingMade(),
    struck: {
      duplicate: 0,
      reorder: 0,
      drop: 0,
      late: 0,
      wrong_amount: 0,
      refund_refused: 0,
      slow_refund: 0,
      rate_limited: 0,
    },
  };
}

/** A dispute's callbacks are never dropped: the shop learns of a dispute from them alone. */
export function decideFate({ settings, made }: MischiefState, eventType: string): Fate {
  const nth = made.events;
  const isDropped = !eventType.startsWith('dispute.') && strikes(settings, 'drop', nth);
  if (isDropped) return { ...UNTOUCHED, drop: true };
  const isDuplicated = strikes(settings, 'duplicate', nth);
  const isHeldBack = strikes(settings, 'reorder', nth);
  return {
    drop: false,
    duplicate: isDuplicated ? (draw(settings.seed, 'manner', nth) < 0.5 ? 'together' : 'after') : 'no',
    delayMs: isHeldBack ? Math.ceil(draw(settings.seed, 'delay', nth) * settings.reorder_ms) : 0,
  };
}

/** What a shopper's payment meets: when it is taken, null for now, and how much of it. */
export function decidePayment({ settings, made }: MischiefState, amount: number) {
  const isShort = amount > 1 && strikes(settings, 'wrong_amount', made.payments);
  return {
    delayMs: strikes(settings, 'late', made.payments) ? settings.late_ms : null,
    amount: isShort ? amount - 1 : amount,
  };
}

/** What a refund meets: a refusal, or when it is made, null for now. */
export function decideRefund({ settings, made }: MischiefState, refusedBefore: boolean) {
  return {
    isRefused: !refusedBefore && strikes(settings, 'refund_refused', made.refunds),
    delayMs: strikes(settings, 'slow_refund', made.refunds) ? settings.slow_refund_ms : null,
  };
}

/** Whether the shop's call is one too many. */
export function decideCall({ settings, made }: MischiefState): { isLimited: boolean } {
  made.calls += 1;
  return { isLimited: strikes(settings, 'rate_limited', made.calls) };
}

export function countFate({ made, struck }: MischiefState, fate: Fate): void {
  made.events += 1;
  if (fate.drop) struck.drop += 1;
  if (fate.duplicate !== 'no') struck.duplicate += 1;
  if (fate.delayMs > 0) struck.reorder += 1;
}

function strikes(settings: MischiefSettings, name: Switch, nth: number): boolean {
  // A draw is below 1, so a share of 1 strikes always, and 0 never.
  return settings[name] > 0 && draw(settings.seed, name, nth) < settings[name];
}

/** From 0 up to, but not including, 1; the same for the same three. */
function draw(seed: number, purpose: string, nth: number): number {
  return createHash('sha256').update(`${seed}:${purpose}:${nth}`).digest().readUIntBE(0, 6) / 2 ** 48;
}
