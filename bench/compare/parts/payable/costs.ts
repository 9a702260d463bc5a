/** The processor time that an order takes of each server while a worker is at work. */

import { readCpuSeconds } from '../../../http/cpu.ts';
import type { Column, Figures } from '../../part.ts';
import type { CheckoutStack } from './checkout-stack.ts';

const PROCESSES = ['worker', 'mysql', 'redis'] as const;
const LABELS = { worker: 'CPU of the worker', mysql: 'of MySQL', redis: 'of Redis' };

export const COST_COLUMNS: readonly Column[] = PROCESSES.map((name) => ({
  key: `${name}Us`,
  label: LABELS[name],
  unit: 'µs',
  digits: 0,
  isOfOurs: true,
}));

/** From now until `each`, shared out among so many orders. */
export function countCosts({ processes }: Pick<CheckoutStack, 'processes'>) {
  const read = (): number[] => PROCESSES.map((name) => readCpuSeconds(processes.pid(name)));
  const before = read();
  return {
    each(orders: number): Figures {
      const now = read();
      return Object.fromEntries(
        COST_COLUMNS.map(({ key }, i) => [key, (1_000_000 * ((now[i] ?? 0) - (before[i] ?? 0))) / orders]),
      );
    },
  };
}
