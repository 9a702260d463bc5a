/** What is delivered to an endpoint on request: tests, events that were delivered before, parked ones. */

import { z } from 'zod';
import { inTransaction, modify, selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import { addDeliveries, type NewDelivery } from './deliveries.sql.ts';
import { type ReplayRange, enableEndpoint, lockEndpoint, recordEndpointAction } from './endpoints.sql.ts';

/**
 * The type of tests of an endpoint, and their line, in which at most one waits. A sale's id has no dot, so no
 * sale shares the line.
 */
export const TEST_TYPE = 'endpoint.test';
/** Events of one order: some changes of it, and each partial refund. */
const ORDER_EVENTS_MAX = 200;
/** Of an order's event `<orderNo>.<version>`, of another one `shop.<sequence>`. */
const EVENT_ID = /^(?:shop\.(?<shopEvent>[1-9]\d{0,14})|(?<orderNo>.{1,80})\.(?<version>\d{1,9}))$/;

const stateRow = z.object({
  endpoint_id: z.int(),
  disabled: z.coerce.boolean(),
  fed_sequence: z.int(),
  replay_until: z.int().nullable(),
  replay_since: z.date().nullable(),
  replay_before: z.date().nullable(),
});
const eventIdRow = z.object({ event_id: z.string() });
const sequenceRow = z.object({ sequence: z.int() });
const parkedRow = z.object({ sequence: z.int().nullable(), line: z.string() });

export type TestOutcome = { kind: 'due'; eventId: string } | { kind: 'disabled' } | { kind: 'unknown' };
/** running: another range is being delivered again. */
export type RangeOutcome = 'started' | 'running' | 'unknown';

/** Has a test delivered, unless one waits already. @param eventId of the new one */
export function test(pool: Pool, name: string, eventId: string): Promise<TestOutcome> {
  return inTransaction(pool, async (connection) => {
    const state = await lockState(connection, name);
    if (!state) return { kind: 'unknown' };
    if (state.disabled) return { kind: 'disabled' };
    const [waiting] = await selectRows(
      connection,
      eventIdRow,
      `SELECT event_id FROM push_deliveries WHERE endpoint_id = ? AND line = ? AND status = 'waiting'`,
      [state.endpoint_id, TEST_TYPE],
    );
    if (waiting) return { kind: 'due', eventId: waiting.event_id };
    const event = { eventId, sequence: null, line: TEST_TYPE };
    await addDeliveries(connection, { endpointId: state.endpoint_id, name }, [event]);
    return { kind: 'due', eventId };
  });
}

/**
 * Has these events delivered once more, each after what waits in its line. Those that the endpoint's
 * place in the feed has not reached come anyway.
 * @returns how many; undefined: there is no such endpoint
 */
export function replay(
  pool: Pool,
  name: string,
  events: readonly NewDelivery[],
  actor: string,
): Promise<number | undefined> {
  return inTransaction(pool, async (connection) => {
    const state = await lockState(connection, name);
    if (!state) return undefined;
    const reached = events.filter(({ sequence }) => (sequence ?? 0) <= state.fed_sequence);
    await addDeliveries(connection, { endpointId: state.endpoint_id, name }, reached);
    const eventIds = reached.map(({ eventId }) => eventId);
    await recordEndpointAction(connection, 'events_replayed', name, actor, { eventIds });
    return reached.length;
  });
}

/** As `replay`, for a range of the feed, page by page as the endpoint takes them. */
export function replayRange(
  pool: Pool,
  name: string,
  range: ReplayRange,
  actor: string,
): Promise<RangeOutcome> {
  return inTransaction(pool, async (connection) => {
    const state = await lockState(connection, name);
    if (!state) return 'unknown';
    const [since, before] = [new Date(range.sinceMs), new Date(range.beforeMs)];
    if (state.replay_until !== null) {
      const isSame =
        state.replay_since?.getTime() === range.sinceMs && state.replay_before?.getTime() === range.beforeMs;
      return isSame ? 'started' : 'running';
    }
    const until = Math.min(range.until, state.fed_sequence);
    if (range.after >= until) return 'started';
    await modify(
      connection,
      `UPDATE push_endpoints SET replay_after = ?, replay_until = ?, replay_since = ?, replay_before = ?
           WHERE endpoint_id = ?`,
      [range.after, until, since, before, state.endpoint_id],
    );
    await recordEndpointAction(connection, 'events_replayed', name, actor, { since, before });
    return 'started';
  });
}

/** The sequences of an order's events, the first first. */
export async function sequencesOfOrder(pool: Pool, orderNo: string): Promise<number[]> {
  const rows = await selectRows(
    pool,
    sequenceRow,
    'SELECT sequence FROM order_events WHERE order_no = ? AND sequence > 0 ORDER BY version LIMIT ?',
    [orderNo, ORDER_EVENTS_MAX],
  );
  return rows.map((row) => row.sequence);
}

/** Undefined when there is no such event, or it has no place in the feed yet. */
export async function sequenceOfEvent(pool: Pool, eventId: string): Promise<number | undefined> {
  const parts = EVENT_ID.exec(eventId)?.groups;
  if (!parts) return undefined;
  const { shopEvent, orderNo, version } = parts;
  const [row] = await (shopEvent === undefined
    ? selectRows(
        pool,
        sequenceRow,
        'SELECT sequence FROM order_events WHERE order_no = ? AND version = ? AND sequence > 0',
        [orderNo, Number(version)],
      )
    : selectRows(pool, sequenceRow, 'SELECT sequence FROM shop_events WHERE sequence = ?', [
        Number(shopEvent),
      ]));
  return row?.sequence;
}

/**
 * Has a parked delivery tried again from the start of its schedule, or enables the endpoint that was gone.
 * @returns whether there still is something to try
 */
export async function retryParkedDelivery(connection: PoolConnection, reference: string): Promise<boolean> {
  const [name = '', ...rest] = reference.split('/');
  const endpoint = await lockEndpoint(connection, name);
  if (!endpoint) return false;
  if (rest.length === 0) {
    await enableEndpoint(connection, endpoint.endpoint_id, name);
    return true;
  }
  const eventId = rest.join('/');
  const [parked] = await selectRows(
    connection,
    parkedRow,
    `SELECT sequence, line FROM push_deliveries WHERE endpoint_id = ? AND event_id = ? AND status = 'parked'`,
    [endpoint.endpoint_id, eventId],
  );
  if (!parked) return false;
  await addDeliveries(connection, { endpointId: endpoint.endpoint_id, name }, [{ eventId, ...parked }]);
  return true;
}

async function lockState(connection: PoolConnection, name: string) {
  const [state] = await selectRows(
    connection,
    stateRow,
    `SELECT endpoint_id, disabled_for IS NOT NULL AS disabled, fed_sequence, replay_until, replay_since,
       replay_before FROM push_endpoints WHERE name = ? FOR UPDATE`,
    [name],
  );
  return state;
}
