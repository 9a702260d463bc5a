/** Events become deliveries: each once, however many workers feed, and no more rows than the window has. */

import { beforeEach, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import { PUSH_WINDOW } from '../../src/push/endpoints.sql.ts';
import { createEventSource, feedEndpoint } from '../../src/push/pusher.ts';
import { select, selectOne } from '../support/rows.ts';
import { openPushWorld, type PushWorld } from './push-world.ts';

let world: PushWorld;
beforeEach(async () => {
  world = await openPushWorld();
});

/** Events of sales, each of a sale of its own. */
async function makeEvents(count: number): Promise<void> {
  const rows = Array.from({ length: count }, (_, i) => ['sale.changed', `sale-${i}`, `sale-${i}`, '{}']);
  await modify(world.stores.pool, 'INSERT INTO shop_events (type, sale_id, subject, data) VALUES ?', [rows]);
  await world.publish();
}

/** As one worker does it, until there is nothing more to add. */
async function feedAll(endpointId: number): Promise<void> {
  const deps = { ...world.stores, source: createEventSource(world.stores) };
  while (await feedEndpoint(deps, endpointId));
}

test('an endpoint that is away gets no more rows than its window has, and misses nothing', async () => {
  const { endpoint } = await world.addEndpoint('office');
  await makeEvents(PUSH_WINDOW + 700);
  await feedAll(endpoint.endpointId);
  await feedAll(endpoint.endpointId);
  expect((await world.stores.endpoints.read('office'))?.health).toMatchObject({
    waiting: PUSH_WINDOW,
    behind: 700,
  });

  const end = `UPDATE push_deliveries SET status = 'delivered', due_at = NULL
    WHERE status = 'waiting' ORDER BY delivery_id LIMIT 600`;
  await modify(world.stores.pool, end);
  await feedAll(endpoint.endpointId);
  expect((await world.stores.endpoints.read('office'))?.health).toMatchObject({
    waiting: PUSH_WINDOW,
    behind: 100,
  });
  await modify(world.stores.pool, end);
  await feedAll(endpoint.endpointId);
  const all = await selectOne(
    world.stores.pool,
    'SELECT COUNT(DISTINCT sequence) AS n, MAX(sequence) - MIN(sequence) + 1 AS width FROM push_deliveries',
  );
  expect(all).toEqual({ n: PUSH_WINDOW + 700, width: PUSH_WINDOW + 700 });
});

test('workers that feed at the same time add each event once, and one head to each line', async () => {
  const { endpoint } = await world.addEndpoint('office');
  await world.makeOrders(150, 3);
  await world.publish();
  await Promise.all(Array.from({ length: 4 }, () => feedAll(endpoint.endpointId)));
  await feedAll(endpoint.endpointId);
  const rows = await select(
    world.stores.pool,
    'SELECT COUNT(*) AS n, COUNT(due_at) AS heads, MIN(event_id) AS first FROM push_deliveries GROUP BY line',
  );
  expect(rows).toHaveLength(150);
  for (const row of rows) expect(row).toMatchObject({ n: 3, heads: 1 });
});
