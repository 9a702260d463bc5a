/** Whether accepting and polling slow down, or API and worker need more memory, as open orders pile up. */

import { startLoadGenerator } from '../../load.ts';
import { signTokens } from '../../shoppers.ts';
import { openShop, type Shop } from '../growth/shop.ts';
import { measureSteadyLoad, RATE, SECONDS, type Generators } from '../growth/steady-load.ts';
import { median } from '../judgement.ts';
import type { OpenPart, Part, Target } from '../part.ts';

const SMALLEST = 1_000;
const LARGEST = 100_000;
const SIZES = [SMALLEST, 10_000, LARGEST];
const GROWTH_MAX = 1.3;
const USERS = 1_000;
/**
 * Orders that Temporal works on at once. As shipped, it takes both cores while it follows, and a percentile
 * would show how the cores are shared out, whatever the number of orders.
 */
const ENGINE_BUDGET = 1;

/** Of each the largest shop is compared with the smallest. */
const COMPARED = [
  { key: 'acceptP99', label: 'accept p99', unit: 'ms', digits: 1 },
  { key: 'statusP99', label: 'status p99', unit: 'ms', digits: 1 },
  { key: 'apiMb', label: 'memory of the API', unit: 'MB', digits: 0 },
  { key: 'workerMb', label: 'memory of the worker', unit: 'MB', digits: 0 },
];

export const growthPart: Part = {
  name: 'growth',
  title: 'Growth: open orders',
  about:
    `${RATE} orders and ${RATE} polls a second for ${SECONDS} s, each counted from the moment at which it was due, ` +
    'while so many orders await payment in MySQL and Redis; then the resident memory. All servers, API and worker run.',
  columns: [...COMPARED, { key: 'idleShare', label: 'processors idle', unit: '%', digits: 0 }],
  charted: 'acceptP99',
  targets: COMPARED.map(({ key, label }): Target => ({
    text: `${label}, 100,000 open orders to 1,000`,
    figure: key,
    of: nameOf(LARGEST),
    against: [nameOf(SMALLEST)],
    atMost: GROWTH_MAX,
  })),
  open,
};

function nameOf(orders: number): string {
  return `${orders.toLocaleString('en')} open`;
}

async function open(progress: (line: string) => void): Promise<OpenPart> {
  const shops: Shop[] = [];
  const generators: Generators = {
    buying: startLoadGenerator(),
    polling: startLoadGenerator(),
    tokens: await signTokens(USERS),
  };
  const close = async (): Promise<void> => {
    await generators.buying.stop();
    await generators.polling.stop();
    for (const shop of shops) await shop.close();
  };
  try {
    for (const orders of SIZES)
      shops.push(await openShop({ orders, stage: 'open', engineBudget: ENGINE_BUDGET, progress }));
  } catch (error) {
    await close();
    throw error;
  }
  const idleApi: number[] = [];
  const idleWorker: number[] = [];
  return {
    contestants: shops.map((shop) => ({
      name: nameOf(shop.seeded.length),
      role: shop.seeded.length === SMALLEST ? 'reference' : 'ours',
      async measure() {
        const { figures, idle } = await measureSteadyLoad(shop, generators);
        idleApi.push(idle.apiMb);
        idleWorker.push(idle.workerMb);
        return figures;
      },
    })),
    notes: () => [
      `Right after their start the API has ${median(idleApi)} MB and the worker ${median(idleWorker)} MB (medians of all sizes). The load's own orders start workflows, which the worker keeps.`,
      `Temporal works on one order at a time here, so that the percentiles do not tell how the cores are shared with the engine. The load adds its own orders in each round, to each size alike. Percentiles of a machine without idle time say nothing about the number of orders.`,
    ],
    close,
  };
}
