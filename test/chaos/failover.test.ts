/**
 * A replica takes over in mid-sale while the old server lives on and follows it. Real processes, Redis and
 * MariaDB; `npm run chaos -- --failover redis` has more purchases and prints how long each thing took.
 */

import { expect, onTestFinished, test } from 'vitest';
import { FAILED_OVER, runFailover } from '../../chaos/failover.ts';
import { openTestProcesses } from '../support/test-processes.ts';

/** The servers and processes start, the unpaid orders run out of their window, and the audit looks again. */
const TIMEOUT_MS = 8 * 60_000;
/** What a failover may cost. */
const MOST_MS = 10_000;

test.each(FAILED_OVER)(
  'after a failover of %s that lost the last second, purchases, payments and orders go on within ten seconds',
  { timeout: TIMEOUT_MS },
  async (store) => {
    const crashes: string[] = [];
    const { processes, close } = await openTestProcesses((_, name) => void crashes.push(name));
    onTestFinished(close);
    const { purchase, payment, paidMs, faults } = await runFailover(processes, crashes, {
      store,
      lagMs: 1_000,
      purchasesPerSecond: 10,
      progress: (line) => console.log(`· ${line}`),
    });
    expect(faults).toEqual([]);
    const took = [purchase.firstMs, payment.firstMs, paidMs];
    expect(Math.max(...took.map((ms) => ms ?? Infinity)), took.join(', ')).toBeLessThan(MOST_MS);
  },
);
