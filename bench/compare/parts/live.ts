/** Whether the engine slows down while thousands of workflows live in it and wait for their payment. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { selectRows } from '../../../src/mysql/connection.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
import type { AppUrls } from '../../../stack/app.ts';
import { waitUntil } from '../../../stack/processes/wait.ts';
import { createShoppers, runConcurrently } from '../../shoppers.ts';
import { openShop, type Shop } from '../growth/shop.ts';
import type { Figures, OpenPart, Part } from '../part.ts';

const LIVE = 5_000;
const LIVE_NAME = '5,000 live';
const NONE_NAME = 'none live';
/** Ten of each shopper. */
const LIVES = 240;
/** Until V8 has compiled what an order runs through. */
const WARM_UP_LIVES = 72;
/** As many as keep the engine full. */
const SHOPPERS = 24;
/** The inverse of the growth that is allowed, 1.3. */
const SHARE_MIN = 0.77;
/** Some fifty start in a second. */
const START_TIMEOUT_MS = 5 * 60_000;
const LIVES_TIMEOUT_MS = 60_000;

const acceptedReply = z.object({ orderNo: z.string() });

export const livePart: Part = {
  name: 'live',
  title: 'Growth: live workflows',
  about:
    `${LIVES} orders, each bought and paid over HTTP by one of ${SHOPPERS} shoppers, from the first call until the ` +
    'last unit is sold, while no other or 5,000 other workflows wait for their payment.',
  columns: [{ key: 'lives', label: 'whole lives', unit: '/s', digits: 1 }],
  charted: 'lives',
  targets: [
    {
      text: 'engine with 5,000 live workflows to none',
      figure: 'lives',
      of: LIVE_NAME,
      against: [NONE_NAME],
      atLeast: SHARE_MIN,
    },
  ],
  open,
};

async function open(progress: (line: string) => void): Promise<OpenPart> {
  const shops: Shop[] = [];
  const close = async (): Promise<void> => {
    for (const shop of shops) await shop.close();
  };
  try {
    const none = await openShop({ orders: 0, stage: 'due', progress });
    shops.push(none);
    const live = await openShop({ orders: LIVE, stage: 'due', progress });
    shops.push(live);
    // The workers stay: one whose cache of workflows is full has more to do than a new one.
    const liveUrls = await live.open();
    await waitUntilStarted(live);
    progress('5,000 workflows are live');
    const noneUrls = await none.open();
    await runLives(none, noneUrls, WARM_UP_LIVES);
    await runLives(live, liveUrls, WARM_UP_LIVES);
    return {
      contestants: [
        { name: NONE_NAME, role: 'reference', measure: () => measure(none, noneUrls) },
        { name: LIVE_NAME, role: 'ours', measure: () => measure(live, liveUrls) },
      ],
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function measure(shop: Shop, urls: AppUrls): Promise<Figures> {
  return { lives: LIVES / (await runLives(shop, urls, LIVES)) };
}

/** @returns seconds from the first call until the last unit is sold */
async function runLives({ redis, saleId }: Shop, { apiUrl }: AppUrls, lives: number): Promise<number> {
  const { stock } = saleKeys({ saleId, shard: 0 });
  const readSold = async (): Promise<number> => Number(await redis.hget(stock, 'unit:sold'));
  const soldBefore = await readSold();
  const shoppers = await createShoppers(apiUrl, SHOPPERS, SHOPPERS);
  const startedMs = performance.now();
  await runConcurrently(lives, SHOPPERS, async (i) => {
    const { status, body } = await shoppers.placeOrder(i, saleId);
    assert.equal(status, 202, body);
    await shoppers.pay(i, acceptedReply.parse(JSON.parse(body)).orderNo);
  });
  await waitUntil({
    what: 'every unit to be sold',
    timeoutMs: LIVES_TIMEOUT_MS,
    check: async () => (await readSold()) === soldBefore + lives,
  });
  const seconds = (performance.now() - startedMs) / 1_000;
  shoppers.close();
  return seconds;
}

async function waitUntilStarted({ pool }: Shop): Promise<void> {
  await waitUntil({
    what: `${LIVE} workflows to start`,
    timeoutMs: START_TIMEOUT_MS,
    check: async () => {
      const [row] = await selectRows(
        pool,
        z.object({ due: z.int() }),
        'SELECT COUNT(*) AS due FROM orders WHERE engine_due_at IS NOT NULL',
        [],
      );
      return row?.due === 0;
    },
  });
}
