/** The shop's endpoints: their terms, secrets and health, and where each stands in the feed. */

import { z } from 'zod';
import { type EventType, EVENT_TYPES } from '../events/event.ts';
import {
  modify,
  selectRows,
  type Executor,
  type PoolConnection,
  inTransaction,
  type Pool,
} from '../mysql/connection.ts';
import { fromNow } from '../mysql/leases.ts';
import { recordAction, type EndpointAction, unpark } from '../parked/parked.sql.ts';
import { hurryWaiting, DOWN_AFTER_FAILURES, addDeliveries, type NewDelivery } from './deliveries.sql.ts';

/** Endpoints that events are pushed to. Each may hold its share of connections in every worker process. */
export const MAX_PUSH_ENDPOINTS = 20;

/**
 * Deliveries that wait for one endpoint, in MySQL. Beyond them its place in the feed waits instead, so an
 * endpoint that is away during a sale costs no more than that, and misses nothing.
 */
export const PUSH_WINDOW = 5_000;

// The rows of endpoints: how they are read and locked, and what it takes to try one afresh.

const endpointRow = z
  .object({
    endpoint_id: z.int(),
    name: z.string(),
    url: z.string(),
    types: z.string().nullable(),
    sale_id: z.string().nullable(),
    description: z.string(),
    disabled_for: z.enum(['operator', 'gone']).nullable(),
    former_until: z.date().nullable(),
    fed_sequence: z.int(),
    last_sequence: z.int(),
    replaying: z.coerce.boolean(),
    failures: z.int(),
    failing_since: z.date().nullable(),
    last_success_at: z.date().nullable(),
    last_error: z.string().nullable(),
    waiting: z.int(),
    waiting_since: z.date().nullable(),
    created_at: z.date(),
    now: z.date(),
  })
  .transform((row) => ({
    endpointId: row.endpoint_id,
    name: row.name,
    url: row.url,
    types: parseTypes(row.types),
    saleId: row.sale_id,
    description: row.description,
    disabledFor: row.disabled_for,
    /** Until then the former secret signs too. */
    rotatingUntil: row.former_until,
    createdAt: row.created_at,
    /** When it was read, by MySQL's clock, as are all of its times. */
    readAt: row.now,
    fedSequence: row.fed_sequence,
    isReplaying: row.replaying,
    health: {
      isDown: row.failures >= DOWN_AFTER_FAILURES,
      failures: row.failures,
      failingSince: row.failing_since,
      lastSuccessAt: row.last_success_at,
      lastError: row.last_error,
      waiting: row.waiting,
      waitingSince: row.waiting_since,
      /** Events of the feed that were not looked at for it yet. */
      behind: Math.max(0, row.last_sequence - row.fed_sequence),
    },
  }));
const idRow = z.object({ endpoint_id: z.int(), former_active: z.coerce.boolean() });

/** An endpoint and how it fares, without its secrets. */
export type Endpoint = z.infer<typeof endpointRow>;

/** Undefined when there is none of this name. */
async function readEndpoint(executor: Executor, name: string): Promise<Endpoint | undefined> {
  return (await selectEndpoints(executor, 'name = ?', [name]))[0];
}

function selectEndpoints(executor: Executor, condition: string, values: unknown[]): Promise<Endpoint[]> {
  return selectRows(
    executor,
    endpointRow,
    `SELECT endpoint_id, name, url, types, sale_id, description, disabled_for, fed_sequence, failures,
       failing_since, last_success_at, last_error, created_at, NOW(3) AS now,
       IF(former_until > NOW(3), former_until, NULL) AS former_until, replay_until IS NOT NULL AS replaying,
       (SELECT last_sequence FROM event_dispatch) AS last_sequence,
       (SELECT COUNT(*) FROM push_deliveries d
        WHERE d.endpoint_id = e.endpoint_id AND d.status = 'waiting') AS waiting,
       (SELECT created_at FROM push_deliveries d WHERE d.endpoint_id = e.endpoint_id AND d.status = 'waiting'
        ORDER BY d.delivery_id LIMIT 1) AS waiting_since
     FROM push_endpoints e WHERE removed_at IS NULL AND ${condition}`,
    values,
  );
}

/** Undefined when there is none of this name. */
export async function lockEndpoint(connection: PoolConnection, name: string) {
  const [row] = await selectRows(
    connection,
    idRow,
    `SELECT endpoint_id, COALESCE(former_until > NOW(3), FALSE) AS former_active FROM push_endpoints
     WHERE name = ? FOR UPDATE`,
    [name],
  );
  return row;
}

/** The caller holds the lock of its row. */
export async function enableEndpoint(
  connection: PoolConnection,
  endpointId: number,
  name: string,
): Promise<void> {
  await modify(connection, 'UPDATE push_endpoints SET disabled_for = NULL WHERE endpoint_id = ?', [
    endpointId,
  ]);
  await unpark(connection, 'delivery', name);
  await startAfresh(connection, endpointId);
}

/** Its failures are forgotten, and all that waits is due. */
async function startAfresh(connection: PoolConnection, endpointId: number): Promise<void> {
  await modify(
    connection,
    `UPDATE push_endpoints SET failures = 0, failed_probes = 0, failing_since = NULL, probe_at = NULL
     WHERE endpoint_id = ?`,
    [endpointId],
  );
  await hurryWaiting(connection, endpointId, 'all');
}

/** A retired secret still signs for so long: a shop's next deployment, also over a weekend. */
const ROTATION_MS = 72 * 60 * 60 * 1000;

const dispatchRow = z.object({ last_sequence: z.int() });
const countRow = z.object({ endpoints: z.int() });

/** What the shop says of it. Null: every type, every sale. */
export interface EndpointTerms {
  url: string;
  types: readonly EventType[] | null;
  saleId: string | null;
  description: string;
}

/** created: with the secret that was given. full: there are as many as may be. */
export type PutOutcome = { kind: 'created' | 'changed'; endpoint: Endpoint } | { kind: 'full' };

export function list(pool: Pool): Promise<Endpoint[]> {
  return selectEndpoints(pool, 'TRUE ORDER BY name', []);
}

/** Undefined when there is none of this name. */
export function read(pool: Pool, name: string): Promise<Endpoint | undefined> {
  return readEndpoint(pool, name);
}

/**
 * Creates it, or changes what is said of it. A new one gets what happens from now on.
 * @param secret becomes its secret where it is new, and is not used otherwise
 */
export function put(
  pool: Pool,
  name: string,
  terms: EndpointTerms,
  secret: string,
  actor: string,
): Promise<PutOutcome> {
  return inTransaction(pool, async (connection) => {
    // The lock also makes rivals who create one go one after the other, so that the bound holds.
    const lastSequence = await lockDispatch(connection);
    const before = await lockEndpoint(connection, name);
    if (before) await change(connection, before.endpoint_id, terms);
    else if (await isFull(connection)) return { kind: 'full' };
    else await insert(connection, name, { terms, secret, lastSequence });
    const endpoint = await readEndpoint(connection, name);
    if (!endpoint) throw new Error(`endpoint ${name} is gone although its row is locked`);
    const { host } = new URL(terms.url);
    await recordEndpointAction(connection, before ? 'endpoint_changed' : 'endpoint_created', name, actor, {
      host,
    });
    return { kind: before ? 'changed' : 'created', endpoint };
  });
}

/** Its name is free at once; its rows are deleted in batches. @returns whether there was one */
export function remove(pool: Pool, name: string, actor: string): Promise<boolean> {
  return inTransaction(pool, async (connection) => {
    const found = await lockEndpoint(connection, name);
    if (!found) return false;
    // No name may look like this one.
    await modify(
      connection,
      `UPDATE push_endpoints SET removed_at = NOW(3), name = CONCAT('!', endpoint_id) WHERE endpoint_id = ?`,
      [found.endpoint_id],
    );
    await modify(
      connection,
      // Also what an operator settled: another endpoint of this name is a matter of its own.
      `UPDATE parked SET resolved_at = COALESCE(resolved_at, NOW(3)), settled_by = 'rules'
           WHERE kind = 'delivery' AND (reference = ? OR reference LIKE ?)`,
      [name, `${name}/%`],
    );
    await recordEndpointAction(connection, 'endpoint_removed', name, actor, {});
    return true;
  });
}

/**
 * Makes this the secret that signs. The former one signs beside it for a while, and stays the former one
 * when this is called again meanwhile, as receivers may not have got the secret of the first call.
 */
export function rotateSecret(
  pool: Pool,
  name: string,
  secret: string,
  actor: string,
): Promise<Endpoint | undefined> {
  return inTransaction(pool, async (connection) => {
    const found = await lockEndpoint(connection, name);
    if (!found) return undefined;
    await modify(
      connection,
      `UPDATE push_endpoints SET former_secret = IF(?, former_secret, secret), former_until = ?, secret = ?
           WHERE endpoint_id = ?`,
      [found.former_active, fromNow(ROTATION_MS), secret, found.endpoint_id],
    );
    await recordEndpointAction(connection, 'secret_rotated', name, actor, {});
    return readEndpoint(connection, name);
  });
}

/** From now on the current secret alone signs. */
export function retireSecret(pool: Pool, name: string, actor: string): Promise<Endpoint | undefined> {
  return inTransaction(pool, async (connection) => {
    const found = await lockEndpoint(connection, name);
    if (!found) return undefined;
    await modify(
      connection,
      'UPDATE push_endpoints SET former_secret = NULL, former_until = NULL WHERE endpoint_id = ?',
      [found.endpoint_id],
    );
    await recordEndpointAction(connection, 'secret_retired', name, actor, {});
    return readEndpoint(connection, name);
  });
}

/** Nothing is sent to it, and its place in the feed waits. */
export function disable(pool: Pool, name: string, actor: string): Promise<Endpoint | undefined> {
  return inTransaction(pool, async (connection) => {
    const found = await lockEndpoint(connection, name);
    if (!found) return undefined;
    await modify(
      connection,
      `UPDATE push_endpoints SET disabled_for = COALESCE(disabled_for, 'operator') WHERE endpoint_id = ?`,
      [found.endpoint_id],
    );
    await recordEndpointAction(connection, 'endpoint_disabled', name, actor, {});
    return readEndpoint(connection, name);
  });
}

/** All that waits for it is due. */
export function enable(pool: Pool, name: string, actor: string): Promise<Endpoint | undefined> {
  return inTransaction(pool, async (connection) => {
    const found = await lockEndpoint(connection, name);
    if (!found) return undefined;
    await enableEndpoint(connection, found.endpoint_id, name);
    await recordEndpointAction(connection, 'endpoint_enabled', name, actor, {});
    return readEndpoint(connection, name);
  });
}

async function lockDispatch(connection: PoolConnection): Promise<number> {
  const [row] = await selectRows(
    connection,
    dispatchRow,
    'SELECT last_sequence FROM event_dispatch FOR UPDATE',
  );
  return row?.last_sequence ?? 0;
}

async function isFull(connection: PoolConnection): Promise<boolean> {
  const [row] = await selectRows(
    connection,
    countRow,
    'SELECT COUNT(*) AS endpoints FROM push_endpoints WHERE removed_at IS NULL',
  );
  return (row?.endpoints ?? 0) >= MAX_PUSH_ENDPOINTS;
}

function termsOf({ url, types, saleId, description }: EndpointTerms): unknown[] {
  return [url, types === null ? null : JSON.stringify(types), saleId, description];
}

async function insert(
  connection: PoolConnection,
  name: string,
  { terms, secret, lastSequence }: { terms: EndpointTerms; secret: string; lastSequence: number },
): Promise<void> {
  await modify(
    connection,
    `INSERT INTO push_endpoints (name, url, types, sale_id, description, secret, fed_sequence)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
    [name, ...termsOf(terms), secret, lastSequence],
  );
}

/** At another address it may answer again. */
async function change(connection: PoolConnection, endpointId: number, terms: EndpointTerms): Promise<void> {
  const moved = await modify(
    connection,
    'UPDATE push_endpoints SET url = ? WHERE endpoint_id = ? AND url <> ?',
    [terms.url, endpointId, terms.url],
  );
  await modify(
    connection,
    'UPDATE push_endpoints SET url = ?, types = ?, sale_id = ?, description = ? WHERE endpoint_id = ?',
    [...termsOf(terms), endpointId],
  );
  if (moved > 0) await startAfresh(connection, endpointId);
}

export function recordEndpointAction(
  connection: PoolConnection,
  action: EndpointAction,
  name: string,
  actor: string,
  detail: Record<string, unknown>,
): Promise<void> {
  return recordAction(connection, { actor, reason: null, action, subject: `endpoint ${name}`, detail });
}

/** Rows of a removed endpoint that one statement deletes: few enough to hold their locks for milliseconds. */
const REMOVED_BATCH = 500;

const busyRow = z.object({ endpoint_id: z.int() });
const cursorRow = z
  .object({
    name: z.string(),
    types: z.string().nullable(),
    sale_id: z.string().nullable(),
    fed_sequence: z.int(),
    replay_after: z.int().nullable(),
    replay_until: z.int().nullable(),
    replay_since: z.date().nullable(),
    replay_before: z.date().nullable(),
    waiting: z.int(),
  })
  .transform((row) => ({
    name: row.name,
    filter: { types: parseTypes(row.types), saleId: row.sale_id },
    fed: row.fed_sequence,
    replay: replayOf(row),
    room: PUSH_WINDOW - row.waiting,
  }));
const sequencesRow = z.object({ fed_sequence: z.int(), replay_after: z.int().nullable(), name: z.string() });

const typesJson = z.array(z.enum(EVENT_TYPES));

/** Null: every type, every sale. */
export interface EndpointFilter {
  types: readonly EventType[] | null;
  saleId: string | null;
}

/** Events that are to be delivered again: those of these sequences that occurred within this time. */
export interface ReplayRange {
  after: number;
  until: number;
  /** Unix ms. */
  sinceMs: number;
  /** Unix ms. */
  beforeMs: number;
}

/** Where an endpoint stands in the feed. */
export type FeedCursor = z.infer<typeof cursorRow>;

/** Not what has ended, which is a hundred times as much. */
const WAITING = `SELECT 1 FROM push_deliveries d FORCE INDEX (push_deliveries_turn)
  WHERE d.endpoint_id = e.endpoint_id AND d.status = 'waiting'`;

/** The active endpoints that have events to look at, or something to be delivered now. */
export async function listBusy(pool: Pool): Promise<number[]> {
  const rows = await selectRows(
    pool,
    busyRow,
    `SELECT e.endpoint_id FROM push_endpoints e, event_dispatch f
         WHERE e.removed_at IS NULL AND e.disabled_for IS NULL AND (
           e.fed_sequence < f.last_sequence OR e.replay_until IS NOT NULL
           OR e.failures >= ${DOWN_AFTER_FAILURES} AND COALESCE(e.probe_at <= NOW(3), TRUE)
           OR e.failures < ${DOWN_AFTER_FAILURES} AND EXISTS (
             ${WAITING} AND d.due_at <= NOW(3) AND (d.claimed_until IS NULL OR d.claimed_until <= NOW(3)))
           OR e.failures > 0 AND e.probe_at <= NOW(3) AND EXISTS (${WAITING}))`,
  );
  return rows.map((row) => row.endpoint_id);
}

/** Undefined when it is disabled or gone. */
export async function readCursor(pool: Pool, endpointId: number): Promise<FeedCursor | undefined> {
  const [place] = await selectRows(
    pool,
    cursorRow,
    `SELECT name, types, sale_id, fed_sequence, replay_after, replay_until, replay_since, replay_before,
           (SELECT COUNT(*) FROM push_deliveries d
            WHERE d.endpoint_id = e.endpoint_id AND d.status = 'waiting') AS waiting
         FROM push_endpoints e WHERE endpoint_id = ? AND disabled_for IS NULL AND removed_at IS NULL`,
    [endpointId],
  );
  return place;
}

/** Adds what follows in the feed, unless another worker has done so since the place was read. */
export function advance(
  pool: Pool,
  endpointId: number,
  { from, to }: { from: number; to: number },
  deliveries: readonly NewDelivery[],
): Promise<void> {
  return inTransaction(pool, async (connection) => {
    const now = await lockSequences(connection, endpointId);
    if (now?.fed_sequence !== from) return;
    await addDeliveries(connection, { endpointId, name: now.name }, deliveries);
    await modify(connection, 'UPDATE push_endpoints SET fed_sequence = ? WHERE endpoint_id = ?', [
      to,
      endpointId,
    ]);
  });
}

/** As `advance`, for what is to be delivered again. */
export function advanceReplay(
  pool: Pool,
  endpointId: number,
  { from, to, isLast }: { from: number; to: number; isLast: boolean },
  deliveries: readonly NewDelivery[],
): Promise<void> {
  return inTransaction(pool, async (connection) => {
    const now = await lockSequences(connection, endpointId);
    if (now?.replay_after !== from) return;
    await addDeliveries(connection, { endpointId, name: now.name }, deliveries);
    await modify(
      connection,
      `UPDATE push_endpoints SET replay_after = ?, replay_until = IF(?, NULL, replay_until)
           WHERE endpoint_id = ?`,
      [isLast ? null : to, isLast, endpointId],
    );
  });
}

/** Deletes rows of endpoints that were removed. @returns whether there may be more */
export async function deleteRemoved(pool: Pool): Promise<boolean> {
  const [removed] = await selectRows(
    pool,
    busyRow,
    'SELECT endpoint_id FROM push_endpoints WHERE removed_at IS NOT NULL LIMIT 1',
  );
  if (!removed) return false;
  const deleted = await modify(pool, 'DELETE FROM push_deliveries WHERE endpoint_id = ? LIMIT ?', [
    removed.endpoint_id,
    REMOVED_BATCH,
  ]);
  // Nothing is added to it any more, so what was few is all.
  if (deleted < REMOVED_BATCH)
    await modify(pool, 'DELETE FROM push_endpoints WHERE endpoint_id = ?', [removed.endpoint_id]);
  return true;
}

function parseTypes(json: string | null): EventType[] | null {
  return json === null ? null : typesJson.parse(JSON.parse(json));
}

async function lockSequences(connection: PoolConnection, endpointId: number) {
  const [row] = await selectRows(
    connection,
    sequencesRow,
    `SELECT name, fed_sequence, replay_after FROM push_endpoints
     WHERE endpoint_id = ? AND removed_at IS NULL FOR UPDATE`,
    [endpointId],
  );
  return row;
}

function replayOf(row: {
  replay_after: number | null;
  replay_until: number | null;
  replay_since: Date | null;
  replay_before: Date | null;
}): ReplayRange | undefined {
  const { replay_after: after, replay_until: until, replay_since: since, replay_before: before } = row;
  if (after === null || until === null || since === null || before === null) return undefined;
  return { after, until, sinceMs: since.getTime(), beforeMs: before.getTime() };
}
