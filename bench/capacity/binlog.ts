/** The part `binlog`: what MySQL's binary log, which point-in-time recovery needs, costs storing. */

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Figures, OpenPart, Part } from '../compare/part.ts';
import { openCheckoutStack, type CheckoutStack } from '../compare/parts/payable/checkout-stack.ts';
import { COST_COLUMNS } from '../compare/parts/payable/costs.ts';
import { drainOutbox } from '../compare/parts/payable/holdfast.ts';

const ORDERS = 20_000;
const ON = 'with a binary log';

export const binlogPart: Part = {
  name: 'binlog',
  title: 'Binary log: its price on storing',
  about:
    `${ORDERS.toLocaleString('en')} orders wait in the outbox, and a worker stores them: with a binary log of rows that is ` +
    'synced with every commit (`sync_binlog=1`), and without one. Temporal is frozen meanwhile.',
  columns: [
    { key: 'rate', label: 'stored', unit: 'orders/s', digits: 0 },
    ...COST_COLUMNS.map((column) => ({ ...column, digits: 1 })),
    { key: 'bytes', label: 'binary log an order', unit: 'B', digits: 0 },
  ],
  charted: 'rate',
  targets: [],
  async open(progress): Promise<OpenPart> {
    const without = await openCheckoutStack(progress);
    const on = await openCheckoutStack(progress, { binaryLog: true }).catch(async (error: unknown) => {
      await without.close();
      throw error;
    });
    return {
      contestants: [
        { name: ON, role: 'ours', measure: () => store(on) },
        { name: 'without', role: 'variant', measure: () => store(without) },
      ],
      async close() {
        await on.close();
        await without.close();
      },
    };
  },
};

async function store(stack: CheckoutStack): Promise<Figures> {
  const before = readBinlogBytes(stack);
  const figures = await drainOutbox(stack, { orders: ORDERS, temporal: 'frozen' });
  return { ...figures, bytes: (readBinlogBytes(stack) - before) / ORDERS };
}

/** Of all files of the log; none where there is no log. */
export function readBinlogBytes({ processes }: Pick<CheckoutStack, 'processes'>): number {
  const folder = join(processes.dataDir, 'mysql');
  const files = readdirSync(folder).filter((name) => /^binlog\.\d+$/.test(name));
  return files.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}
