/** Deliveries of events to endpoints: added, claimed, ended, listed. */

import { z } from 'zod';
import { DELIVERY_STATUSES, type DeliveryStatus } from '../events/event.ts';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import { fromNow, now, takeLease } from '../mysql/leases.ts';
import { parseOrderNo } from '../orders/order.ts';
import { park as parkWork, unpark } from '../parked/parked.sql.ts';
import { type DueDelivery, selectInTurns } from './turns.sql.ts';

/**
 * Deliveries under way to one endpoint, over all workers: a shop's back office is small beside a sale. With
 * all endpoints hanging, a worker holds 200 connections.
 */
export const MAX_PUSHES_IN_FLIGHT = 10;

/** After so many failures with no success between, an endpoint counts as down. */
export const DOWN_AFTER_FAILURES = 5;

const failuresRow = z.object({ failures: z.int(), failed_probes: z.int() });

/**
 * Notes that the endpoint answers.
 * @returns whether it had counted as down; then all that waits is due, else what has failed
 */
export function noteSuccess(pool: Pool, endpointId: number): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const before = await lockFailures(connection, endpointId);
    await modify(
      connection,
      `UPDATE push_endpoints SET failures = 0, failed_probes = 0, failing_since = NULL, probe_at = NULL,
             last_success_at = NOW(3) WHERE endpoint_id = ?`,
      [endpointId],
    );
    if (before.failures === 0) return false;
    const wasDown = before.failures >= DOWN_AFTER_FAILURES;
    await hurryWaiting(connection, endpointId, wasDown ? 'all' : 'fresh');
    return wasDown;
  });
}

/**
 * The endpoint answered that it is gone: nothing is sent to it until an operator enables it. Gives the
 * claim back.
 */
export function disableGone(pool: Pool, delivery: ClaimedDelivery): Promise<void> {
  return inTransaction(pool, async (connection) => {
    const { endpointId, endpointName } = delivery;
    await lockFailures(connection, endpointId);
    const isHeld = await modify(
      connection,
      `UPDATE push_deliveries SET claimed_until = NULL, ${KEEP_TRY} ${OF_CLAIM}`,
      [tryOf(delivery), ...claimOf(delivery)],
    );
    if (isHeld === 0) return;
    const disabled = await modify(
      connection,
      `UPDATE push_endpoints SET disabled_for = 'gone'
           WHERE endpoint_id = ? AND disabled_for IS NULL AND removed_at IS NULL`,
      [endpointId],
    );
    if (disabled === 0) return;
    await parkWork(connection, 'delivery', endpointName, 'the endpoint answered 410: it is gone', {
      cause: 'endpoint_gone',
      inputs: { endpoint: endpointName },
    });
  });
}

/**
 * Counts a failure, in the transaction that has locked the endpoint's row.
 * @param before as the row was found
 * @param probePauseMs how long until the next probe, from the number of those that failed
 * @returns whether it counts as down from now on
 */
async function countFailure(
  connection: PoolConnection,
  before: EndpointFailures,
  { endpointId, isProbe, isDue }: Pick<ClaimedDelivery, 'endpointId' | 'isProbe' | 'isDue'>,
  error: string,
  probePauseMs: (failedProbes: number) => number,
): Promise<boolean> {
  const wasDown = before.failures >= DOWN_AFTER_FAILURES;
  // A probe ahead of the schedule is to find the endpoint back sooner, and never to have it count as down.
  const failures = before.failures + (isProbe && !isDue && !wasDown ? 0 : 1);
  const failedProbes = before.failed_probes + (isProbe ? 1 : 0);
  await modify(
    connection,
    `UPDATE push_endpoints SET failures = ?, failed_probes = ?, last_error = ?,
       failing_since = COALESCE(failing_since, NOW(3)), probe_at = ? WHERE endpoint_id = ?`,
    [failures, failedProbes, cutError(error), fromNow(probePauseMs(failedProbes)), endpointId],
  );
  return failures >= DOWN_AFTER_FAILURES && !wasDown;
}

type EndpointFailures = z.infer<typeof failuresRow>;

/** Locks the endpoint's row: its deliveries are locked after it, as when they are claimed. */
async function lockFailures(connection: PoolConnection, endpointId: number): Promise<EndpointFailures> {
  const [row] = await selectRows(
    connection,
    failuresRow,
    'SELECT failures, failed_probes FROM push_endpoints WHERE endpoint_id = ? FOR UPDATE',
    [endpointId],
  );
  return row ?? { failures: 0, failed_probes: 0 };
}

// The rows of deliveries: how they are added, and how those of one line follow each other.

/** What is to be delivered. */
export interface NewDelivery {
  eventId: string;
  /** Its place in the feed; null for a test. */
  sequence: number | null;
  /** Deliveries of one line go one after the other. */
  line: string;
}

/** A delivery that was claimed. */
interface HeldDelivery {
  deliveryId: number;
  /** By MySQL's clock. It distinguishes this claim from the next one. */
  claimedUntil: Date;
}

/** An endpoint, as far as its deliveries are concerned. */
export interface DeliveryOwner {
  endpointId: number;
  name: string;
}

/** The width of the column. */
const MAX_ERROR_CHARS = 255;

/** Tries of a delivery that are kept, the latest: its schedule has ten. */
const TRIES_KEPT = 20;
const KEEP_TRY = `tries = SUBSTRING_INDEX(CONCAT_WS(CHAR(10 USING utf8mb4), tries, ?),
  CHAR(10 USING utf8mb4), -${TRIES_KEPT})`;

const triedSchema = z.object({
  /** RFC 3339. */
  at: z.string(),
  tookMs: z.int(),
  /** Of the answer; null: there was none. */
  status: z.int().nullable(),
  /** Why there was no answer; null: there was one. */
  error: z.string().nullable(),
  /** The beginning of the answer's body; null: there was no answer. */
  answer: z.string().nullable(),
});
/** What became of one try. */
export type Tried = z.infer<typeof triedSchema>;

const idRow = z.object({ delivery_id: z.int() });
const lineRow = z.object({ line: z.string() });
const endedRow = z.object({ event_id: z.string(), status: z.string() });

/** How parked work names a delivery. */
function parkedReference(endpointName: string, eventId: string): string {
  return `${endpointName}/${eventId}`;
}

/**
 * Adds deliveries at the ends of their lines. One that has ended begins anew; one that waits stays where it
 * is. The caller holds the lock of the endpoint's row.
 */
export async function addDeliveries(
  connection: PoolConnection,
  endpoint: DeliveryOwner,
  deliveries: readonly NewDelivery[],
): Promise<void> {
  if (deliveries.length === 0) return;
  await removeEnded(connection, endpoint, deliveries);
  const occupied = await lockLines(connection, endpoint, deliveries);
  const rows = deliveries.map(({ eventId, sequence, line }) => {
    const isHead = !occupied.has(line);
    occupied.add(line);
    return [endpoint.endpointId, eventId, sequence, line, turnOf(line), 'waiting', isHead ? now : null];
  });
  await modify(
    connection,
    `INSERT INTO push_deliveries (endpoint_id, event_id, sequence, line, turn, status, due_at) VALUES ?
     ON DUPLICATE KEY UPDATE event_id = push_deliveries.event_id`,
    [rows],
  );
}

/** The sale of the line. A line of no sale has turns of its own. */
function turnOf(line: string): string {
  return parseOrderNo(line)?.saleId ?? line;
}

async function removeEnded(
  connection: PoolConnection,
  { endpointId, name }: DeliveryOwner,
  deliveries: readonly NewDelivery[],
): Promise<void> {
  const ended = await selectRows(
    connection,
    endedRow,
    `SELECT event_id, status FROM push_deliveries WHERE endpoint_id = ? AND event_id IN (?)
       AND status <> 'waiting' FOR UPDATE`,
    [endpointId, deliveries.map(({ eventId }) => eventId)],
  );
  if (ended.length === 0) return;
  for (const row of ended)
    if (row.status === 'parked') await unpark(connection, 'delivery', parkedReference(name, row.event_id));
  await modify(connection, 'DELETE FROM push_deliveries WHERE endpoint_id = ? AND event_id IN (?)', [
    endpointId,
    ended.map((row) => row.event_id),
  ]);
}

/**
 * The lines in which something waits. They stay so until the caller commits: the delivery of what waits there
 * finds the next one only after that.
 */
async function lockLines(
  connection: PoolConnection,
  { endpointId }: DeliveryOwner,
  deliveries: readonly NewDelivery[],
): Promise<Set<string>> {
  const rows = await selectRows(
    connection,
    lineRow,
    `SELECT line FROM push_deliveries WHERE endpoint_id = ? AND line IN (?) AND status = 'waiting' FOR UPDATE`,
    [endpointId, [...new Set(deliveries.map(({ line }) => line))]],
  );
  return new Set(rows.map((row) => row.line));
}

/** The next of the line is due: the caller's transaction has ended the one before it. */
async function promoteNext(connection: PoolConnection, endpointId: number, line: string): Promise<void> {
  // Not one UPDATE with a limit: MariaDB reads and sorts the whole line for it.
  const [next] = await selectRows(
    connection,
    idRow,
    `SELECT delivery_id FROM push_deliveries WHERE endpoint_id = ? AND line = ? AND status = 'waiting'
     ORDER BY delivery_id LIMIT 1 FOR UPDATE`,
    [endpointId, line],
  );
  if (!next) return;
  await modify(
    connection,
    'UPDATE push_deliveries SET due_at = COALESCE(due_at, NOW(3)) WHERE delivery_id = ?',
    [next.delivery_id],
  );
}

/**
 * What waits is due at once, for the endpoint is back. What is behind another stays there. Such a try is
 * ahead of the schedule and no part of it: an endpoint that comes and goes would use it up within minutes.
 * @param which fresh: what was not tried so since the last try of its schedule
 */
export async function hurryWaiting(
  connection: PoolConnection,
  endpointId: number,
  which: 'all' | 'fresh',
): Promise<void> {
  // Not one UPDATE: it would read every row that waits, where this reads the index.
  const later = await selectRows(
    connection,
    idRow,
    `SELECT delivery_id FROM push_deliveries FORCE INDEX (push_deliveries_turn)
     WHERE endpoint_id = ? AND status = 'waiting' AND due_at > NOW(3)
       ${which === 'fresh' ? 'AND scheduled_at IS NULL' : ''}`,
    [endpointId],
  );
  if (later.length === 0) return;
  await modify(
    connection,
    `UPDATE push_deliveries SET scheduled_at = COALESCE(scheduled_at, due_at), due_at = NOW(3)
     WHERE delivery_id IN (?) AND due_at > NOW(3)`,
    [later.map((row) => row.delivery_id)],
  );
}

/**
 * Only while the claim is the caller's: a process that stood still for longer knows nothing of the endpoint,
 * and another may have the delivery by now.
 */
const OF_CLAIM = `WHERE delivery_id = ? AND claimed_until = ? AND claimed_until > NOW(3)
  AND status = 'waiting'`;
const claimOf = ({ deliveryId, claimedUntil }: HeldDelivery) => [deliveryId, claimedUntil];

/** Null, which is passed over: it was not tried. */
const tryOf = ({ tried }: ClaimedDelivery) => (tried ? JSON.stringify(tried) : null);

function cutError(error: string): string {
  return error.slice(0, MAX_ERROR_CHARS);
}

// Claims of deliveries that are due: taken by one worker at a time, then delivered, failed or given back.

/**
 * How long a claim lasts: far longer than an attempt with what records it. After this time another worker may
 * take it.
 */
const PUSH_CLAIM_MS = 60_000;
const LEASED = { table: 'push_deliveries', key: 'delivery_id', until: 'claimed_until' };

const endpointRow = z.object({
  name: z.string(),
  url: z.string(),
  secret: z.string(),
  former_secret: z.string().nullable(),
  down: z.coerce.boolean(),
  failing: z.coerce.boolean(),
  probe_due: z.coerce.boolean(),
  in_flight: z.int(),
});
/** A delivery that is the caller's until its claim runs out. */
export interface ClaimedDelivery extends DueDelivery {
  endpointId: number;
  endpointName: string;
  /** It tries out whether an endpoint is back that has failed, and nothing else is tried meanwhile. */
  isProbe: boolean;
  /** By MySQL's clock. It distinguishes this claim from the next one. */
  claimedUntil: Date;
  /** Once it was tried. */
  tried?: Tried;
}

/** Where and how the claimed deliveries go. */
export interface Claim {
  url: string;
  /** The current one first; while rotating also the one before. */
  secrets: string[];
  deliveries: ClaimedDelivery[];
  /** The sale that had the last turn, for the next claim. */
  lastTurn: string;
}

/**
 * Claims what is due at this endpoint, in turns by sale, as far as there is room beside what all workers are
 * delivering to it. Of an endpoint that is down, or has failed and has nothing due, it claims a single
 * delivery, when a probe is due.
 * @param after the sale that had the last turn; empty: none
 * @returns undefined: the endpoint is disabled or gone
 */
export function take(pool: Pool, endpointId: number, after = ''): Promise<Claim | undefined> {
  return inTransaction(pool, async (connection) => {
    const endpoint = await lockEndpoint(connection, endpointId);
    if (!endpoint) return undefined;
    const room = endpoint.down ? 0 : MAX_PUSHES_IN_FLIGHT - endpoint.in_flight;
    let taken = await selectInTurns(connection, endpointId, 'due', room, after);
    const isProbe =
      taken.due.length === 0 && endpoint.failing && endpoint.probe_due && endpoint.in_flight === 0;
    if (isProbe) taken = await selectInTurns(connection, endpointId, 'waiting', 1, after);
    const { due, lastTurn } = taken;
    return {
      url: endpoint.url,
      secrets: [endpoint.secret, ...(endpoint.former_secret === null ? [] : [endpoint.former_secret])],
      deliveries: await claim(connection, due, { endpointId, endpointName: endpoint.name, isProbe }),
      lastTurn,
    };
  });
}

async function claim(
  connection: PoolConnection,
  due: readonly DueDelivery[],
  common: Pick<ClaimedDelivery, 'endpointId' | 'endpointName' | 'isProbe'>,
): Promise<ClaimedDelivery[]> {
  if (due.length === 0) return [];
  const ids = due.map(({ deliveryId }) => deliveryId);
  const claimedUntil = await takeLease(connection, LEASED, ids, PUSH_CLAIM_MS);
  return due.map((delivery) => ({ ...delivery, ...common, claimedUntil }));
}

/**
 * The endpoint has taken it. The next of its line is due, also where its claim had run out.
 * @returns whether the claim was still the caller's
 */
export function complete(pool: Pool, delivery: ClaimedDelivery): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const { deliveryId, endpointId, line } = delivery;
    const tried = tryOf(delivery);
    const isHeld =
      (await modify(connection, `${END_DELIVERED} ${OF_CLAIM}`, [tried, ...claimOf(delivery)])) > 0;
    const hasEnded =
      isHeld ||
      (await modify(connection, `${END_DELIVERED} WHERE delivery_id = ? AND status = 'waiting'`, [
        tried,
        deliveryId,
      ])) > 0;
    if (hasEnded) await promoteNext(connection, endpointId, line);
    return isHeld;
  });
}

/**
 * It failed, and so did the endpoint: it is due again by its schedule, or parked after the last try.
 * Where the claim has run out the attempt counts for neither, and it is due anyway.
 * @returns whether the endpoint counts as down from now on
 */
export function fail(
  pool: Pool,
  delivery: ClaimedDelivery,
  error: string,
  pauses: FailurePauses,
): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const before = await lockFailures(connection, delivery.endpointId);
    const { retryMs } = pauses;
    // A try ahead of the schedule is no part of it, so it is never the last one either.
    const isHeld = await (retryMs === undefined && delivery.isDue
      ? parkHeld(connection, delivery, error)
      : postponeHeld(connection, delivery, error, { ...pauses, retryMs: retryMs ?? 0 }));
    return isHeld && countFailure(connection, before, delivery, error, pauses.probeMs);
  });
}

/** It cannot be sent at all: an operator is to see to it, and the next of its line is due. */
export function park(pool: Pool, delivery: ClaimedDelivery, error: string): Promise<boolean> {
  return inTransaction(pool, (connection) => parkHeld(connection, delivery, error));
}

/** How long to wait after a failure, in ms. */
export interface FailurePauses {
  /** Until the next try of the schedule; undefined: this was the last. */
  retryMs: number | undefined;
  /** What the endpoint asked for; 0: nothing. */
  askedMs: number;
  /** Until the endpoint is probed, from the number of probes that failed. */
  probeMs: (failedProbes: number) => number;
}

const END_DELIVERED = `UPDATE push_deliveries SET status = 'delivered', due_at = NULL, claimed_until = NULL,
  attempts = attempts + 1, last_error = NULL, ended_at = NOW(3), ${KEEP_TRY}`;

/** A try ahead of the schedule leaves that as it was. @returns whether the claim was the caller's */
async function postponeHeld(
  connection: PoolConnection,
  delivery: ClaimedDelivery,
  error: string,
  { retryMs, askedMs }: { retryMs: number; askedMs: number },
): Promise<boolean> {
  // Each assignment sees those before it: what the endpoint asked to have later is not tried sooner.
  const [assignments, values] = delivery.isDue
    ? [
        'attempts = attempts + 1, due_at = ?, scheduled_at = IF(?, due_at, NULL)',
        [fromNow(retryMs), askedMs > 0],
      ]
    : ['due_at = GREATEST(COALESCE(scheduled_at, due_at), ?)', [fromNow(askedMs)]];
  const postponed = await modify(
    connection,
    `UPDATE push_deliveries SET claimed_until = NULL, last_error = ?, ${KEEP_TRY}, ${assignments} ${OF_CLAIM}`,
    [cutError(error), tryOf(delivery), ...values, ...claimOf(delivery)],
  );
  return postponed > 0;
}

/** @returns whether the claim was the caller's */
async function parkHeld(
  connection: PoolConnection,
  delivery: ClaimedDelivery,
  error: string,
): Promise<boolean> {
  const ended = await modify(
    connection,
    `UPDATE push_deliveries SET status = 'parked', due_at = NULL, claimed_until = NULL,
       attempts = attempts + 1, last_error = ?, ended_at = NOW(3), ${KEEP_TRY} ${OF_CLAIM}`,
    [cutError(error), tryOf(delivery), ...claimOf(delivery)],
  );
  if (ended === 0) return false;
  const { endpointId, endpointName, eventId, line, sequence } = delivery;
  await promoteNext(connection, endpointId, line);
  // The caller who asked for a test watches it.
  if (sequence === null) return true;
  const reason = `no try of the schedule reached the endpoint; the last: ${error}`;
  await parkWork(connection, 'delivery', parkedReference(endpointName, eventId), reason, {
    cause: 'delivery_failing',
    inputs: { endpoint: endpointName, eventId, ...(parseOrderNo(line) && { orderNo: line }) },
  });
  return true;
}

/** The lock makes the claims of all workers one after the other, so that together they keep the bound. */
async function lockEndpoint(connection: PoolConnection, endpointId: number) {
  const [endpoint] = await selectRows(
    connection,
    endpointRow,
    `SELECT name, url, secret, IF(former_until > NOW(3), former_secret, NULL) AS former_secret,
       failures >= ${DOWN_AFTER_FAILURES} AS down, failures > 0 AS failing,
       COALESCE(probe_at <= NOW(3), TRUE) AS probe_due,
       (SELECT COUNT(*) FROM push_deliveries d
        WHERE d.endpoint_id = e.endpoint_id AND d.claimed_until > NOW(3)) AS in_flight
     FROM push_endpoints e WHERE endpoint_id = ? AND disabled_for IS NULL AND removed_at IS NULL FOR UPDATE`,
    [endpointId],
  );
  return endpoint;
}

const LISTED = 'delivery_id, event_id, sequence, status, attempts, due_at, last_error, created_at, ended_at';
const listedRow = z
  .object({
    delivery_id: z.int(),
    event_id: z.string(),
    sequence: z.int().nullable(),
    status: z.enum(DELIVERY_STATUSES),
    attempts: z.int(),
    due_at: z.date().nullable(),
    last_error: z.string().nullable(),
    created_at: z.date(),
    ended_at: z.date().nullable(),
  })
  .transform((row) => ({
    deliveryId: row.delivery_id,
    eventId: row.event_id,
    sequence: row.sequence,
    status: row.status,
    attempts: row.attempts,
    /** Null: it has ended, or waits for another one. */
    dueAt: row.due_at,
    lastError: row.last_error,
    createdAt: row.created_at,
    endedAt: row.ended_at,
  }));

export type Delivery = z.infer<typeof listedRow>;

/** The deliveries of this status, or those of one order or sale. */
export type DeliveryQuery = { status: DeliveryStatus } | { line: string };

/** In the order in which they were added. @param after the delivery at which the page before ended */
export function list(
  pool: Pool,
  endpointId: number,
  query: DeliveryQuery,
  { after, limit }: { after: number; limit: number },
): Promise<Delivery[]> {
  const [condition, value, index] =
    'line' in query
      ? ['line = ? AND status IN (?)', query.line, 'push_deliveries_line']
      : ['status = ?', query.status, 'push_deliveries_status'];
  return selectRows(
    pool,
    listedRow,
    `SELECT ${LISTED}
         FROM push_deliveries FORCE INDEX (${index}) WHERE endpoint_id = ? AND ${condition} AND delivery_id > ?
         ORDER BY delivery_id LIMIT ?`,
    [endpointId, value, ...('line' in query ? [DELIVERY_STATUSES] : []), after, limit],
  );
}

const triesRow = z.object({ tries: z.string().nullable() });

/** A delivery of this endpoint with its latest tries, the oldest first. */
export async function read(
  pool: Pool,
  endpointId: number,
  deliveryId: number,
): Promise<(Delivery & { tries: Tried[] }) | undefined> {
  const values = [deliveryId, endpointId];
  const from = 'FROM push_deliveries WHERE delivery_id = ? AND endpoint_id = ?';
  const [[delivery], [kept]] = await Promise.all([
    selectRows(pool, listedRow, `SELECT ${LISTED} ${from}`, values),
    selectRows(pool, triesRow, `SELECT tries ${from}`, values),
  ]);
  const lines = kept?.tries?.split('\n').filter((line) => line !== '') ?? [];
  return delivery && { ...delivery, tries: lines.map((line) => triedSchema.parse(JSON.parse(line))) };
}

/** Deliveries of one order that are shown: its events at each endpoint. */
const LINE_MAX = 100;
const lineDeliveryRow = z.object({
  endpoint: z.string(),
  eventId: z.string(),
  status: z.enum(DELIVERY_STATUSES),
  lastError: z.string().nullable(),
  createdAt: z.date(),
  endedAt: z.date().nullable(),
});
export type LineDelivery = z.infer<typeof lineDeliveryRow>;

/** The deliveries of one order to all endpoints. */
export function listOfLine(pool: Pool, line: string): Promise<LineDelivery[]> {
  return selectRows(
    pool,
    lineDeliveryRow,
    `SELECT e.name AS endpoint, d.event_id AS eventId, d.status, d.last_error AS lastError,
       d.created_at AS createdAt, d.ended_at AS endedAt
     FROM push_endpoints e STRAIGHT_JOIN push_deliveries d FORCE INDEX (push_deliveries_line)
       ON d.endpoint_id = e.endpoint_id AND d.line = ?
     WHERE e.removed_at IS NULL LIMIT ${LINE_MAX}`,
    [line],
  );
}
