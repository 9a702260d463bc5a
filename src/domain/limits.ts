/** Every bound of the product, with its unit and its reason. */

/** SKUs in one cart. A flash sale has a handful, and the bound limits the work of one atomic script. */
export const MAX_CART_LINES = 20;
/** Units of one SKU in one cart. */
export const MAX_LINE_QUANTITY = 100;
/**
 * Minor units. With the cart's bounds a total stays below 2e13, which Lua's JSON encoder still prints exactly
 * (14 digits).
 */
export const MAX_UNIT_PRICE = 1_000_000_000;
/** Units of one SKU on sale; fits MySQL's INT UNSIGNED with room. */
export const MAX_SKU_TOTAL = 10_000_000;
/** SKUs of one sale. Warm-up and the sale's page handle them in one reply. */
export const MAX_SALE_SKUS = 200;
/** Times of a sale, in Unix ms: this century. What is beyond it is a mistake. */
export const MIN_SALE_TIME_MS = Date.UTC(2000, 0, 1);
export const MAX_SALE_TIME_MS = Date.UTC(2100, 0, 1);
/**
 * Bytes of a sale as the shop sends it: 200 SKUs, each with a name of 200 characters, a reference and full
 * metadata, are 450 KiB.
 */
export const MAX_SALE_BODY_BYTES = 512 * 1024;
/** Sales in one page of a list: each comes with its SKUs, so a page is at most some megabytes. */
export const MAX_SALES_LISTED = 50;
/**
 * How long before its opening a sale is put into Redis. Longer than a worker is away for, so that a sale is
 * there when it opens.
 */
export const WARM_UP_AHEAD_MS = 10 * 60 * 1000;
/** Bytes of a JSON request body. A full cart is under 3 KiB. */
export const MAX_BODY_BYTES = 16 * 1024;
/**
 * Bytes of bodies that one API process keeps at once: of notices so many, of purchases, and of the back
 * office. 128 of the largest notices, where 64 are worked on; thousands of usual carts. Without it 15,000
 * connections could fill four gigabytes before anything of them is verified.
 */
export const MAX_BODIES_BYTES = 32 * 1024 * 1024;
/** Bytes of a webhook body. Providers send whole objects, and Stripe's largest are about 100 KiB. */
export const MAX_WEBHOOK_BYTES = 256 * 1024;
/**
 * Purchases that one API process works on at once. As many share one write to the disk of Redis: 24 accepted
 * 5,000 orders a second where 64 accepted 8,300. Not more, because refusals share the event loop with the
 * purchases at work (docs/decisions.md).
 */
export const MAX_PURCHASES_AT_WORK = 64;
/**
 * Tokens that one API process remembers as verified. As many shoppers as may be connected to it, each of whom
 * asks several times; a full memory takes about 10 MB, and 60 MB if
 * all had the greatest length.
 */
export const MAX_REMEMBERED_TOKENS = 15_000;
/**
 * Purchases that wait for such a place: a thirtieth of a second at 8,000 a second, a quarter where an API
 * gets so little of a machine that it takes 1,000. A refusal costs half as much as an order, so waiting
 * spares more than it costs; but on a busy machine many would wait in vain (docs/decisions.md).
 */
export const MAX_PURCHASES_WAITING = 192;
/** Payment notices at once: three rounds of MySQL's 20 connections. The provider repeats refused notices. */
export const MAX_NOTICES_IN_FLIGHT = 64;
/**
 * Shoppers who wait for a payment page at once. While the provider hangs each waits for five seconds, so
 * these calls have a lane of their own. At a third of a second each, this is far more than the provider's
 * pace.
 */
export const MAX_PAYMENTS_IN_FLIGHT = 64;
/** All other calls of shoppers at once. There are more, as they mostly wait for MySQL or a workflow. */
export const MAX_OTHERS_IN_FLIGHT = 256;
/** Calls of the back office at once: a few people and the shop's own systems. No crowd takes their places. */
export const MAX_STAFF_IN_FLIGHT = 64;
/**
 * Queries of Temporal at once, which callers cause. While no worker answers each takes two seconds, and they
 * are not a part of the engine's budget: so they are few.
 */
export const MAX_QUERIES_IN_FLIGHT = 16;
/** Events in one answer: some 400 KB, built from as many orders by one query; 3 MB if all were full. */
export const MAX_EVENTS_PAGE = 500;
/**
 * Bytes of the sales in one answer. A sale of 200 SKUs with all their data has half a megabyte, and 500
 * changes of it would be an answer that no proxy, and hardly a consumer, takes.
 */
export const MAX_EVENTS_PAGE_BYTES = 4 * 1024 * 1024;
/** A call that waits for events waits at most so long: below what proxies commonly cut off (30 s). */
export const MAX_EVENTS_WAIT_SECONDS = 25;
/** Named consumers of the feed. A shop has a handful of systems, and each is a sample of the metrics. */
export const MAX_EVENT_CONSUMERS = 50;
/**
 * Calls for events at once. Each consumer waits in one, so that more than there are consumers would be a
 * mistake; and they have a lane of their own, because they stay for so long.
 */
export const MAX_FEEDS_IN_FLIGHT = 64;
/** Characters of a user agent that are kept. A longer one is cut, because it is only recorded. */
export const MAX_USER_AGENT_CHARS = 255;
/** The longest IPv6 address in text. A zone, which names a link, makes it longer. */
export const MAX_IP_CHARS = 45;
/** Characters of a shop's reference. Numbers of orders and articles are far shorter. */
export const MAX_REFERENCE_CHARS = 128;
/**
 * Keys of a shop's metadata. With the bounds below, an order's metadata fit beside the signed order into what
 * Stripe keeps of a payment: 50 keys of 40 characters, with values of 500.
 */
export const MAX_METADATA_KEYS = 10;
/** Characters of one value of a shop's metadata. */
export const MAX_METADATA_VALUE_CHARS = 200;
/** Bytes of a shop's metadata as JSON: a thousand orders' worth still fits one answer. */
export const MAX_METADATA_BYTES = 1_024;
/** Characters of an operator's reason for a decision: some sentences. The width of the column. */
export const MAX_DECISION_CHARS = 500;
/**
 * Seconds for which a cache may answer with a sale's view as it is, and how many more while it gets a new
 * one. So a page is at most five seconds behind, and a million readers cost one call a second. Only `reserve`
 * says what is left.
 */
export const [SALE_FRESH_SECONDS, SALE_STALE_SECONDS] = [1, 4];
/** Orders in one page of a list: about 100 KiB, and one read of MySQL. */
export const MAX_ORDERS_LISTED = 100;
/** Refunds of one order. Each is a decision of a person; every run of the refund's workflow reads all. */
export const MAX_REFUNDS_PER_ORDER = 100;
/** Lines that a ticket adds to an order: shipping, a tax or two, some discounts. */
export const MAX_CHARGES = 10;
/** Characters of a charge's name, as the shopper reads it. */
export const MAX_CHARGE_NAME_CHARS = 100;
/** Bytes of an order's charges as JSON: ten with names of usual length. */
export const MAX_CHARGES_BYTES = 2_048;
/** How long a repeated request finds its first one. A day covers a phone that slept through the sale. */
export const IDEMPOTENCY_TTL_MS = 24 * 60 * 60 * 1000;
/** A settled order's projection stays readable in Redis this long; MySQL keeps it for good. */
export const PROJECTION_TTL_MS = 24 * 60 * 60 * 1000;
/**
 * How long after its end a settled sale's data in Redis are still watched, and made again when they are lost:
 * refunds may put units back on sale. A sale that is not settled is watched until it is.
 */
export const WATCHED_AFTER_CLOSE_MS = 3 * 24 * 60 * 60 * 1000;
/** Sales in a page of those that Redis has: a relay reads one each second, and more are rarely there. */
export const IN_REDIS_PAGE = 1_000;
/**
 * An order that is known nowhere is said to be lost so long after its sale's data were made again. Until then
 * a relay that had read it may bring it back.
 */
export const LOST_AFTER_MS = 15_000;
/** Until when a relay may bring such an order back; the other half is for what it does afterwards. */
export const BROUGHT_BACK_WITHIN_MS = LOST_AFTER_MS / 2;
/** How long a shopper may take to pay unless the sale says otherwise. */
export const DEFAULT_PAYMENT_WINDOW_MS = 30 * 60 * 1000;
/**
 * Failed attempts to pay for one order. Shoppers mistype, try a second card and a third; more is how stolen
 * cards are tested.
 */
export const MAX_FAILED_ATTEMPTS_OF_ORDER = 10;
/** Failed attempts of one user within the window below, whatever the orders: two orders full of them. */
export const MAX_FAILED_ATTEMPTS_OF_USER = 20;
/** Payment pages opened for one user within it: two a minute, where a shopper opens one an order. */
export const MAX_OPENED_SESSIONS_OF_USER = 120;
/** It counts from the first of them. */
export const USER_ATTEMPTS_WINDOW_MS = 60 * 60 * 1000;
/** The longest payment window. A hold of more than a day would be a reservation, not a checkout. */
export const MAX_PAYMENT_WINDOW_MS = 24 * 60 * 60 * 1000;
/**
 * Orders stored in one transaction. The gain of a group commit flattens beyond this, and nine halvings find
 * an order that fails its batch (docs/decisions.md).
 */
export const STORE_BATCH_MAX = 500;

/**
 * UTF-8 bytes of a SKU, which is the shop's own text (`ids.ts`). Shops' systems commonly bound theirs by 100
 * or less, and a full cart of the longest must fit a payment session.
 */
export const MAX_SKU_BYTES = 100;
/** Sale ids are part of orderNo: lower case, digits and single dashes, at most 32 characters. */
export const SALE_ID_PATTERN = /^(?=.{1,32}$)[a-z0-9]+(?:-[a-z0-9]+)*$/;
/**
 * UTF-8 bytes of a user's id, which is the shop's own text (`ids.ts`): as many as OpenID Connect allows the
 * subject of a token, and as Temporal's search attributes take.
 */
export const MAX_USER_ID_BYTES = 255;
/**
 * Names of deployments travel in a provider's metadata and in JSON, and stand in Redis' keys, where a brace
 * would change the slot: lower case, digits and single dashes, at most 32 characters.
 */
export const DEPLOYMENT_NAME_PATTERN = /^(?=.{1,32}$)[a-z0-9]+(?:-[a-z0-9]+)*$/;
/** The name of a deployment that was given none. */
export const DEFAULT_DEPLOYMENT_NAME = 'holdfast';
/** The task queue of a deployment that has the namespace to itself, as in `src/workflows/contract.ts`. */
export const DEFAULT_TASK_QUEUE = 'orders';
/** Keys of a shop's metadata: names that every provider takes, of at most 40 characters. */
export const METADATA_KEY_PATTERN = /^[A-Za-z0-9_.-]{1,40}$/;
/** Idempotency keys are part of a Redis key: printable ASCII without space. The header suggests UUIDs. */
export const IDEMPOTENCY_KEY_PATTERN = /^[!-~]{1,128}$/;
/** Names of consumers are part of an address and of a metric: lower case, digits, single dots or dashes. */
export const EVENT_CONSUMER_PATTERN = /^(?=.{1,64}$)[a-z0-9]+(?:[-.][a-z0-9]+)*$/;

/** Endpoints that events are pushed to. Each may hold its share of connections in every worker process. */
export const MAX_PUSH_ENDPOINTS = 20;
/**
 * Deliveries under way to one endpoint, over all workers: a shop's back office is small beside a sale. With
 * all endpoints hanging, a worker holds 200 connections.
 */
export const MAX_PUSHES_IN_FLIGHT = 10;
/**
 * Deliveries that wait for one endpoint, in MySQL. Beyond them its place in the feed waits instead, so an
 * endpoint that is away during a sale costs no more than that, and misses nothing.
 */
export const PUSH_WINDOW = 5_000;
/** Characters of an endpoint's address: what browsers and proxies take as well. */
export const MAX_ENDPOINT_URL_CHARS = 2_048;
/** Characters of an endpoint's description. The width of the column. */
export const MAX_ENDPOINT_DESCRIPTION_CHARS = 255;
/** Deliveries in one answer: some 30 KB. */
export const MAX_DELIVERIES_PAGE = 100;
/** Names of endpoints are part of addresses and of parked work: lower case, digits and single dashes. */
export const ENDPOINT_NAME_PATTERN = /^(?=.{1,64}$)[a-z0-9]+(?:-[a-z0-9]+)*$/;
