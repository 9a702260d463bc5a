/** The bounds that several rooms share. Each other one stands where it acts, with its reason as here. */

/**
 * How long before its opening a sale is put into Redis. Longer than a worker is away for, so that a sale is
 * there when it opens.
 */
export const WARM_UP_AHEAD_MS = 10 * 60 * 1000;
/** Characters of an operator's reason for a decision: some sentences. The width of the column. */
export const MAX_DECISION_CHARS = 500;
/** How long a repeated request finds its first one. A day covers a phone that slept through the sale. */
export const IDEMPOTENCY_TTL_MS = 24 * 60 * 60 * 1000;
/** A settled order's projection stays readable in Redis this long; MySQL keeps it for good. */
export const PROJECTION_TTL_MS = 24 * 60 * 60 * 1000;
/**
 * How long after its end a settled sale's data in Redis are still watched, and made again when they are lost:
 * refunds may put units back on sale. A sale that is not settled is watched until it is.
 */
export const WATCHED_AFTER_CLOSE_MS = 3 * 24 * 60 * 60 * 1000;
/**
 * An order that is known nowhere is said to be lost so long after its sale's data were made again. Until then
 * a relay that had read it may bring it back.
 */
export const LOST_AFTER_MS = 15_000;
/** Until when a relay may bring such an order back; the other half is for what it does afterwards. */
export const BROUGHT_BACK_WITHIN_MS = LOST_AFTER_MS / 2;
/** Sale ids are part of orderNo: lower case, digits and single dashes, at most 32 characters. */
export const SALE_ID_PATTERN = /^(?=.{1,32}$)[a-z0-9]+(?:-[a-z0-9]+)*$/;
/** The name of a deployment that was given none. */
export const DEFAULT_DEPLOYMENT_NAME = 'holdfast';

/**
 * How far the clock of who signs a token or a ticket may be from that of the API. Hosts that follow time
 * servers agree to the millisecond. One that has lost its server drifts by some seconds a day, and a
 * paused virtual machine wakes some seconds late: two hosts that are each ten seconds off, in opposite
 * directions, are 20 seconds apart. The price is that an expired token is taken for half a minute longer.
 */
export const CLOCK_TOLERANCE_MS = 30_000;
/** A provider's notice whose time is further off is refused, by Stripe's library and by that of webhooks. */
export const NOTICE_CLOCK_MS = 5 * 60_000;
/** A host whose clock differs by more from a store's is wrong: sales open and close early or late by it. */
export const CLOCK_WRONG_MS = 5_000;

/** Times of a sale, in Unix ms: this century. What is beyond it is a mistake. */
export const MIN_SALE_TIME_MS = Date.UTC(2000, 0, 1);

export const MAX_SALE_TIME_MS = Date.UTC(2100, 0, 1);

/** The longest payment window. A hold of more than a day would be a reservation, not a checkout. */
export const MAX_PAYMENT_WINDOW_MS = 24 * 60 * 60 * 1000;

/** A session is open no longer than its order may be paid; Stripe's are for 40 minutes at least. */
export const LEAST_SESSION_MS = 40 * 60_000;

// What a process does at once: each is a setting (src/config.ts), and this is what it is unless set.

/**
 * Entries of a page of the outbox, which is also one store batch. Twice as many gain nothing more in MySQL,
 * and would only wait in the worker instead of in Redis (docs/decisions.md).
 */
export const OUTBOX_PAGE = 500;
/** At most: it is stored within the eight seconds of a transaction also where MySQL stores 125 a second. */
export const OUTBOX_PAGE_MAX = 1_000;
/** Store transactions at once. One prepares while another commits; more wait for the same rows of stock. */
export const STORES_AT_ONCE = 2;
/**
 * Calls to the provider at once. With five seconds to each call, ten that hang still leave two a second; more
 * would only make a slow provider slower.
 */
export const PROVIDER_CALLS_AT_ONCE = 10;
/**
 * Purchases that one API process works on at once. As many share one write to the disk of Redis: 24 accepted
 * 5,000 orders a second where 64 accepted 8,300. Not more, because refusals share the event loop with the
 * purchases at work (docs/decisions.md).
 */
export const PURCHASES_AT_ONCE = 64;
/**
 * Callers that wait for changes of orders in one API process, of the 15,000 connections that it takes: the
 * others buy.
 */
export const WATCHERS_AT_ONCE = 10_000;
/** Of them those of one user: some open pages, and what their browser has not closed yet. */
export const WATCHERS_OF_USER = 10;
/**
 * Attempts of one user to buy within a minute: two a second, where an eager shopper makes one. A script that
 * is to have more of a sale than others makes hundreds.
 */
export const USER_PURCHASES_PER_MINUTE = 120;
/** So many that there is no limit: a load test of a few users makes thousands a minute. */
export const MAX_USER_PURCHASES_PER_MINUTE = 1_000_000;
/** Connections of one process to MySQL. More would only queue inside a small server. */
export const MYSQL_CONNECTIONS = 20;

/**
 * How long the tools of an operator wait (ops, audit, doctor, prepare). A shopper had better repeat after two
 * seconds than wait on. A tool is to tell a server that is away from one that is busy, and a machine at ten
 * times its load answers within some seconds.
 */
export const TOOL_WAITS = {
  /** For all that one look or one question asks: the operator sees the answer by then. */
  answerMs: 10_000,
  redis: {
    connectMs: 10_000,
    commandMs: 10_000,
    /** Longer than a command, which fails first. */
    silentMs: 15_000,
  },
  /** A transaction of a tool holds its rows for up to `workMs`; the server ends an idle one later. */
  mysql: {
    connectMs: 10_000,
    waitMs: 10_000,
    workMs: 20_000,
    idleTransactionSeconds: 25,
    idleSeconds: 50,
  },
};
