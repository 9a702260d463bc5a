/**
 * What an order consists of, each field once: its form, who gives it, where it is kept, who sees it, and when
 * it is cleared. Requests, answers, events, the signed order and both stores take it from here.
 */

import { hash } from 'node:crypto';
import { z } from 'zod';
import { MAX_DECISION_CHARS, SALE_ID_PATTERN } from '../limits.ts';
import {
  CLOSING_REASONS,
  FAILURE_REASONS,
  ORDER_STATUSES,
  PAYMENT_STATES,
  orderDeadlineMs,
  type ClosingReason,
  type OrderState,
} from './order.ts';

/** SKUs in one cart. A flash sale has a handful, and the bound limits the work of one atomic script. */
export const MAX_CART_LINES = 20;

/** Units of one SKU in one cart. */
export const MAX_LINE_QUANTITY = 100;

/**
 * Minor units: the most that Stripe takes, in IDR. Lua's JSON encoder prints it exactly (14 digits). With the
 * cart's bounds a total stays below 2.1e15, which a double holds exactly (9e15); scripts print totals whole.
 */
export const MAX_UNIT_PRICE = 999_999_999_999;

/** Characters of a shop's reference. Numbers of orders and articles are far shorter. */
export const MAX_REFERENCE_CHARS = 128;

/**
 * Keys of a shop's metadata. With the bounds below, an order's metadata fit beside the signed order into what
 * Stripe keeps of a payment: 50 keys of 40 characters, with values of 500.
 */
export const MAX_METADATA_KEYS = 10;

/** Characters of one value of a shop's metadata. */
const MAX_METADATA_VALUE_CHARS = 200;

/** Bytes of a shop's metadata as JSON: a thousand orders' worth still fits one answer. */
export const MAX_METADATA_BYTES = 1_024;

/** Lines that a ticket adds to an order: shipping, a tax or two, some discounts. */
export const MAX_CHARGES = 10;

/** Characters of a charge's name, as the shopper reads it. */
const MAX_CHARGE_NAME_CHARS = 100;

/** Bytes of an order's charges as JSON: ten with names of usual length. */
export const MAX_CHARGES_BYTES = 2_048;

/**
 * UTF-8 bytes of a SKU, which is the shop's own text (`content.ts`). Shops' systems commonly bound theirs by
 * 100 or less, and a full cart of the longest must fit a payment session.
 */
export const MAX_SKU_BYTES = 100;

/**
 * UTF-8 bytes of a user's id, which is the shop's own text (`content.ts`): as many as OpenID Connect allows
 * the subject of a token, and as Temporal's search attributes take.
 */
export const MAX_USER_ID_BYTES = 255;

/** Keys of a shop's metadata: names that every provider takes, of at most 40 characters. */
const METADATA_KEY_PATTERN = /^[A-Za-z0-9_.-]{1,40}$/;

/** Idempotency keys are part of a Redis key: printable ASCII without space. The header suggests UUIDs. */
export const IDEMPOTENCY_KEY_PATTERN = /^[!-~]{1,128}$/;

/** A field, an argument or a reply of JSON text. */
export function jsonText<T extends z.ZodType>(schema: T) {
  return z
    .string()
    .transform((text, ctx): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        ctx.addIssue('is no JSON');
        return z.NEVER;
      }
    })
    .pipe(schema);
}

/**
 * Control characters, invisible ones, halves of a surrogate pair, code points that mean nothing, and breaks
 * of a line or a paragraph; and U+FFFD, which stands for bytes that were no text, and so for any of them.
 */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}\uFFFD]/u;

/** White space at an end is refused, because MySQL ignores it there when it compares. */
function opaqueId(maxBytes: number) {
  return (
    z
      .string()
      .refine((text) => {
        const bytes = Buffer.byteLength(text);
        return bytes >= 1 && bytes <= maxBytes && !UNPRINTABLE.test(text) && text === text.trim();
      }, `1 to ${maxBytes} bytes in UTF-8 of printable text, without white space at its ends`)
      // What a schema can say of it: no character has less than a byte.
      .meta({ minLength: 1, maxLength: maxBytes })
  );
}

export const saleIdSchema = z
  .string()
  .regex(SALE_ID_PATTERN)
  .meta({ description: "The sale's id.", examples: ['demo'] });
export const userIdSchema = opaqueId(MAX_USER_ID_BYTES).meta({
  description: "The user's id, in the shop's own words.",
  examples: ['ada'],
});
export const skuSchema = opaqueId(MAX_SKU_BYTES).meta({
  description: "The SKU, in the shop's own words.",
  examples: ['lamp'],
});

/**
 * Control characters, halves of a pair that stand alone, breaks of a line or a paragraph, and what turns the
 * direction of the text around it.
 */
const UNSHOWABLE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202A-\u202E\u2066-\u2069]/u;
/** A name has one at least. Joiners and marks are of no use alone, but emoji and many scripts need them. */
const VISIBLE = /[^\p{Cf}\p{M}\p{Z}]/u;
/** Half of a pair of characters: no text that MySQL or another language could store. */
const LONE_SURROGATE = /\p{Cs}/u;

/** At a provider the metadata stand beside Holdfast's own, whose keys begin so. */
const OWN_PREFIX = 'holdfast_';

/** Text of a sale, an SKU or a charge for people to read. */
export function nameOf(maxChars: number) {
  return z
    .string()
    .min(1, { abort: true })
    .max(maxChars)
    .refine((text) => VISIBLE.test(text) && !UNSHOWABLE.test(text), 'printable characters only');
}

function printable(maxChars: number) {
  return nameOf(maxChars).refine((text) => text.trim() === text, 'no white space at either end');
}

/** White space at an end would be lost where MySQL compares. */
export const referenceSchema = printable(MAX_REFERENCE_CHARS).meta({
  description: "The shop's own number or name of it.",
  examples: ['R-1001'],
});

/** Why staff decide so. */
export const decisionReason = z
  .string()
  .trim()
  .min(1)
  .max(MAX_DECISION_CHARS)
  .meta({
    description: 'Why, for the audit log.',
    examples: ['The parcel came back unopened.'],
  });

export const metadataSchema = z
  .record(
    z
      .string()
      .regex(METADATA_KEY_PATTERN)
      .refine((key) => !key.startsWith(OWN_PREFIX), `no key that begins with ${OWN_PREFIX}`),
    z
      .string()
      .max(MAX_METADATA_VALUE_CHARS)
      .refine((text) => !LONE_SURROGATE.test(text), 'well-formed text only'),
  )
  .refine(
    (metadata) => Object.keys(metadata).length <= MAX_METADATA_KEYS,
    `at most ${MAX_METADATA_KEYS} keys`,
  )
  .refine(isAtMost(MAX_METADATA_BYTES), `at most ${MAX_METADATA_BYTES} bytes as JSON`)
  .meta({
    description: `The shop's own data: at most ${MAX_METADATA_KEYS} texts, and ${MAX_METADATA_BYTES} bytes as JSON.`,
    examples: [{ channel: 'app' }],
  });

const chargeSchema = z.strictObject({
  code: z.string().regex(METADATA_KEY_PATTERN),
  name: printable(MAX_CHARGE_NAME_CHARS),
  amount: z.int().min(-MAX_UNIT_PRICE).max(MAX_UNIT_PRICE),
});

/** Lines that a ticket adds to an order. */
export const chargesSchema = z
  .array(chargeSchema)
  .max(MAX_CHARGES)
  .refine(isAtMost(MAX_CHARGES_BYTES), `at most ${MAX_CHARGES_BYTES} bytes as JSON`);

function isAtMost(bytes: number): (value: unknown) => boolean {
  return (value) => Buffer.byteLength(JSON.stringify(value)) <= bytes;
}

/** What is so of a field; where it is kept, the groups below say. */
interface Facts {
  /** call: its token, its header, its connection. */
  givenBy: 'holdfast' | 'sale' | 'shopper' | 'call' | 'ticket';
  /** In the signed order, from which an order comes back that every store has lost. */
  signed?: true;
  /** Part of the fingerprint: with another value a repeated request is another one. */
  identifies?: true;
  /** contact: some time after the order was placed, and once the person is erased. person: only then. */
  clearedWith?: 'contact' | 'person';
}
const facts = z.registry<Facts>();

/** A line beside the items, which a ticket of the shop adds: shipping, tax, a discount. */
const charge = z.object({
  code: z.string().meta({
    description: "The kind of the line, as the shop's books know it.",
    examples: ['shipping'],
  }),
  name: z.string().meta({ description: 'The name of the line, for the shopper.', examples: ['Shipping'] }),
  amount: z.int().meta({
    description: "Minor units of the order's currency; negative for a discount.",
    examples: [495],
  }),
});

const spentTicket = z.object({
  /** A digest of the ticket's issuer and its own id. */
  id: z.string(),
  /** Unix time in ms from which the ticket would be refused anyway, so that nothing need remember it. */
  endsAtMs: z.int(),
});

/**
 * What rules and scripts read: each a field of the order's hash in Redis, and a column in MySQL. The orderNo
 * is the key of the hash, and the items have a table.
 */
const own = {
  orderNo: z.string().register(facts, { givenBy: 'holdfast', signed: true }),
  saleId: z.string().register(facts, { givenBy: 'shopper', identifies: true }),
  /** After the person was erased, the token in their place. */
  userId: userIdSchema.clone().register(facts, { givenBy: 'call', signed: true, clearedWith: 'person' }),
  /** The lines of the cart. `unitPrice` in minor units of the order's currency. */
  items: z
    .array(z.object({ sku: skuSchema, quantity: z.int().positive(), unitPrice: z.int().nonnegative() }))
    .min(1)
    .max(MAX_CART_LINES)
    .register(facts, { givenBy: 'shopper', signed: true, identifies: true }),
  /** Minor units of `currency`: the sum of items and charges. 0: the order is free, and paid once stored. */
  total: z.int().nonnegative().register(facts, { givenBy: 'holdfast', signed: true }),
  /** ISO 4217. */
  currency: z
    .string()
    .regex(/^[A-Z]{3}$/)
    .register(facts, { givenBy: 'sale', signed: true }),
  idempotencyKey: z
    .string()
    .regex(IDEMPOTENCY_KEY_PATTERN)
    .register(facts, { givenBy: 'call', signed: true, clearedWith: 'person' }),
  /** Unix time in ms at which the stock was reserved, by Redis' clock. */
  reservedAtMs: z.int().positive().register(facts, { givenBy: 'holdfast', signed: true }),
  /** Length of the payment window in ms. */
  paymentWindowMs: z.int().positive().register(facts, { givenBy: 'sale', signed: true }),
};

/** What statements read: each a column in MySQL; in Redis members of the JSON text `carried`. */
const columns = {
  /** The shop's own number of the order. */
  reference: z
    .string()
    .exactOptional()
    .register(facts, { givenBy: 'shopper', signed: true, identifies: true, clearedWith: 'person' }),
  /** Lines beside the items; at least one, where there are any. */
  charges: z.array(charge).exactOptional().register(facts, { givenBy: 'ticket', signed: true }),
};

/**
 * What is only kept: members of the JSON text `carried`, in Redis a field of the hash, in MySQL a column. No
 * script and no statement decides by them. An order from before a field lacks it, so each may be absent.
 */
const carried = {
  /** The shop's own data. */
  metadata: z
    .record(z.string(), z.string())
    .exactOptional()
    .register(facts, { givenBy: 'shopper', signed: true, identifies: true, clearedWith: 'person' }),
  /** The ticket of single use that the order has spent. A repeat of the request may come with another. */
  ticket: spentTicket
    .exactOptional()
    .register(facts, { givenBy: 'ticket', signed: true, clearedWith: 'person' }),
  /** The shopper's address; empty: none that is worth keeping. */
  ip: z.string().default('').register(facts, { givenBy: 'call', clearedWith: 'contact' }),
  /** The shopper's browser, by its own account; empty: it gave none. */
  userAgent: z.string().default('').register(facts, { givenBy: 'call', clearedWith: 'contact' }),
  /** Of its purchase (W3C Trace Context), whose trace its steps join. Absent: it has none. */
  traceparent: z.string().exactOptional().register(facts, { givenBy: 'call', clearedWith: 'person' }),
};

const orderContent = z.object({ ...own, ...columns, ...carried });
type OrderContent = z.infer<typeof orderContent>;

/** Everything an accepted order consists of. `reserve` fixes it at the moment of acceptance. */
export interface Order extends OrderContent {
  /**
   * The epoch of its hold, where that is not the orderNo's: the sale's data were made again before the order
   * was stored, and its stock was reserved again.
   */
  holdEpoch?: number;
  /**
   * Its caller was told that it is being cancelled, before MySQL had it: it is stored as one that is closing.
   */
  wish?: ClosingReason;
  /** Its state as pollers see it, where it was stored before: MySQL may have lost it since. */
  shown?: OrderState;
}

/** ETags and ids of events have nine digits for it. */
const VERSION_END = 1_000_000_000;

/**
 * The order with its state in Redis, so that it is stored above what was shown if MySQL has lost it. A
 * version that no order comes to is damaged.
 */
export function withShown(order: Order, state: OrderState): Order {
  return state.version > 0 && state.version < VERSION_END ? { ...order, shown: state } : order;
}

/** What a shopper may say of an order beside its cart. */
export const askedOfOrder = {
  reference: referenceSchema.exactOptional(),
  metadata: metadataSchema.exactOptional(),
};
type Asked = Pick<OrderContent, keyof typeof askedOfOrder>;

/** Each field with all that is so of it, in the order in which the signed order has them. */
export const CONTENT = [
  ...describe('own', own),
  ...describe('column', columns),
  ...describe('carried', carried),
];

function describe(kept: 'own' | 'column' | 'carried', fields: Record<string, z.ZodType>) {
  return Object.entries(fields).map(([name, schema]) => {
    const known = facts.get(schema);
    if (!known) throw new Error(`nothing is said of ${name}`);
    return { name, kept, ...known };
  });
}

const SIGNED = CONTENT.filter(({ signed }) => signed).map(({ name }) => name);
const IN_MYSQL = Object.keys(carried);
const IN_REDIS = [...Object.keys(columns), ...IN_MYSQL];

/** These fields of an order, without what is absent or empty. */
function take(content: Readonly<Record<string, unknown>>, names: readonly string[]): Record<string, unknown> {
  const taken: Record<string, unknown> = {};
  for (const name of names) {
    const value = content[name];
    if (!isEmpty(value)) taken[name] = value;
  }
  return taken;
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === '') return true;
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

const redisContent = z.object({ ...columns, ...carried });
export type Carried = z.infer<typeof redisContent>;

/** The JSON text `carried`: its form, and how it is written, without what is empty. */
export const carriedText = {
  inRedis: {
    schema: redisContent,
    write: (content: Partial<Carried>): string => JSON.stringify(take(content, IN_REDIS)),
  },
  inMysql: {
    schema: z.object(carried),
    write: (content: Partial<Carried>): string => JSON.stringify(take(content, IN_MYSQL)),
    /** JSON paths of what is cleared with the shopper's contact. */
    contact: describe('carried', carried)
      .filter(({ clearedWith }) => clearedWith === 'contact')
      .map(({ name }) => `$.${name}`),
  },
};

/** The signed order. What is not signed comes back absent or empty; the orderNo has the sale. */
export const signedContent = {
  schema: orderContent.omit({ saleId: true }),
  write: (content: OrderContent): string => JSON.stringify(take(content, SIGNED)),
};

// A request, by which the reuse of its idempotency key for another is noticed.

interface Request extends Asked {
  saleId: string;
  items: readonly { sku: string; quantity: number }[];
}

const IDENTIFYING = CONTENT.filter(({ identifies, kept }) => identifies && kept !== 'own').map(
  ({ name }) => name,
);

/**
 * A digest of a shopper's request, by which the reuse of its idempotency key for another is noticed. The
 * order of the cart's lines makes no difference, nor does that of the metadata.
 */
export function fingerprintOf({ saleId, items, ...said }: Request): string {
  const lines = items.map(({ sku, quantity }) => `${sku}=${quantity}`).toSorted();
  const rest = Object.entries(take(said, IDENTIFYING)).map(([name, value]) => [name, inOrder(value)]);
  return hash('sha256', JSON.stringify([saleId, ...lines, ...rest]), 'base64url');
}

/** The pairs of an object by their names; else the value itself. */
function inOrder(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1));
}

// An order's state, where it is read from outside, such as a reply of Redis or of a workflow.

export const orderStateSchema = z.object({
  status: z.enum(ORDER_STATUSES).meta({
    description:
      'The status of the order. `queued`: accepted, its stock is held. `awaiting_payment`: stored, it can be paid. `paid`, `cancelled` and `failed` are final.',
    examples: ['awaiting_payment'],
  }),
  version: z.int().meta({
    description: 'Grows by one with each change of the order. Drop an answer with a smaller version.',
    examples: [1],
  }),
  payment: z
    .enum(PAYMENT_STATES)
    .describe(
      'The money of the order. `none`: no money is known. `applied`: it pays for the order. `disputed`: the payer has charged it back. `refunded`: it went back.',
    ),
  reason: z
    .enum([...CLOSING_REASONS, ...FAILURE_REASONS])
    .nullable()
    .meta({
      description: 'Why the order is closing, was cancelled or has failed; null: it is none of these.',
      examples: [null],
    }),
  refunded: z.int().min(1).exactOptional().describe('What went back to the payer, in minor units.'),
  extendedUntilMs: z.int().positive().exactOptional(),
});

// What answers and events show of an order.

/** What they show beside what rules and scripts read. */
export const shownContent = {
  reference: z
    .string()
    .nullable()
    .meta({
      description: "The shop's own number of the order; null: the shop gave none.",
      examples: ['R-1001'],
    }),
  metadata: z.record(z.string(), z.string()).meta({
    description: "The shop's own data about the order; empty: the shop gave none.",
    examples: [{ channel: 'app' }],
  }),
  charges: z
    .array(z.strictObject(charge.shape))
    .describe('Lines that the ticket added, such as shipping. The total is the sum of items and charges.'),
};

/** What callers see of an order is fixed when it is accepted, except for its state. */
export type VisibleOrder = Pick<
  Order,
  | 'orderNo'
  | 'saleId'
  | 'items'
  | 'total'
  | 'currency'
  | 'reservedAtMs'
  | 'paymentWindowMs'
  | keyof typeof shownContent
>;

export function showOrder(order: VisibleOrder, state: OrderState) {
  return {
    orderNo: order.orderNo,
    saleId: order.saleId,
    status: state.status,
    version: state.version,
    payment: state.payment,
    refunded: state.refunded ?? 0,
    reason: state.reason,
    items: order.items,
    charges: order.charges ?? [],
    total: order.total,
    currency: order.currency,
    reference: order.reference ?? null,
    metadata: order.metadata ?? {},
    reservedAt: new Date(order.reservedAtMs).toISOString(),
    deadline: new Date(orderDeadlineMs(order, state)).toISOString(),
  };
}
