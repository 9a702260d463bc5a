/** What an order takes of each process, in one table, from the parts that measured it. */

import { mediansOf } from './judgement.ts';
import type { Figures } from './part.ts';
import type { Results } from './results.ts';
import { alignTable, formatFigure, type Cell } from './tables.ts';

const PROCESSES = ['api', 'redis', 'worker', 'mysql', 'temporal'] as const;
type Costs = Partial<Record<(typeof PROCESSES)[number], number | undefined>>;

const NAMES = { api: 'API', redis: 'Redis', worker: 'worker', mysql: 'MySQL', temporal: 'Temporal' };
const MICROSECONDS = { unit: '', digits: 0 };

interface Step {
  what: string;
  part: string;
  contestant: string;
  /** In microseconds. */
  read: (figures: Figures) => Costs;
  /** Every order takes it, whatever becomes of it. */
  isOfAll: boolean;
}

const readStored = ({ workerUs, mysqlUs, redisUs }: Figures): Costs => ({
  redis: redisUs,
  worker: workerUs,
  mysql: mysqlUs,
});
const inMicroseconds = (ms: number | undefined): number | undefined => (ms === undefined ? ms : 1_000 * ms);

const STEPS: readonly Step[] = [
  {
    what: 'accepted',
    part: 'accept',
    contestant: 'Holdfast, front alone',
    // The processor's share is in percent, and the rate in orders a second.
    read: ({ serverCpu = NaN, rate = NaN, redisUs }) => ({
      api: (10_000 * serverCpu) / rate,
      redis: redisUs,
    }),
    isOfAll: true,
  },
  { what: 'stored', part: 'payable', contestant: 'Holdfast', read: readStored, isOfAll: true },
  {
    what: 'ended without a workflow',
    part: 'ending',
    contestant: 'Holdfast',
    read: readStored,
    isOfAll: true,
  },
  {
    what: 'a whole life in Temporal: begun, paid, ended',
    part: 'engine',
    contestant: 'Holdfast',
    read: ({ worker, temporal, mysql, redis }) => ({
      redis: inMicroseconds(redis),
      worker: inMicroseconds(worker),
      mysql: inMicroseconds(mysql),
      temporal: inMicroseconds(temporal),
    }),
    isOfAll: false,
  },
];

/** The steps that their parts have measured, each with its microseconds. */
export function readSteps({ parts }: Results) {
  return STEPS.flatMap((step) => {
    const part = parts.find(({ name }) => name === step.part);
    const figures = part === undefined ? undefined : mediansOf(part.measurements).get(step.contestant);
    const costs = figures === undefined ? {} : step.read(figures);
    return costs.redis === undefined ? [] : [{ ...step, costs, redis: costs.redis }];
  });
}

/** @returns none as long as a part has not measured it */
export function costsSection(results: Results): string[] {
  const measured = readSteps(results);
  if (measured.length < STEPS.length) return [];
  const left = (text: string): Cell => ({ text, align: 'left' });
  const right = (text: string): Cell => ({ text, align: 'right' });
  const header = [left('step'), left('part'), ...PROCESSES.map((name) => right(`${NAMES[name]}, µs`))];
  const rows = measured.map(({ what, part, costs }) => [
    left(what),
    left(part),
    ...PROCESSES.map((name) => right(formatFigure(costs[name], MICROSECONDS))),
  ]);
  const redisUs = measured.filter(({ isOfAll }) => isOfAll).reduce((sum, { redis }) => sum + redis, 0);
  return [
    '## What an order costs',
    '',
    'Processor time of an order at each process, each step measured by its part at full load.',
    '',
    ...alignTable([header, ...rows]),
    '',
    `Redis is the one process of a sale that cannot be doubled. Accepting an order, storing it and ending it unpaid take ` +
      `${redisUs.toFixed(0)} µs of it, so one Redis takes some ${formatFigure(100 * Math.round(10_000 / redisUs), MICROSECONDS)} orders a ` +
      'second from as many APIs and workers as it needs to be full.',
    '',
  ];
}
