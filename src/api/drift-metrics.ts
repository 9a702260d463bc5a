/** Shows in the metrics what the last run of the reconciliation found, as workers serve no port. */

import { Gauge } from 'prom-client';
import type { Metrics } from '../metrics.ts';
import type { Stores } from '../stores/open.ts';
import type { Drift } from '../stores/redis/drift-board.ts';

/** Redis answers within a millisecond. While it does not, the scrape goes on without these samples. */
const DRIFT_TIMEOUT_MS = 500;

/** Read at each scrape. Every process of the API shows the same, so of several the first one counts. */
export function showDrift(
  { registry }: Pick<Metrics, 'registry'>,
  board: Pick<Stores['driftBoard'], 'read'>,
): void {
  const shared = { registers: [registry], aggregator: 'first' as const };
  const units = new Gauge({
    ...shared,
    name: 'holdfast_drift_units',
    help: 'Units that Redis and MySQL counted differently, as the last look of the reconciliation found.',
    labelNames: ['sale', 'sku', 'what'],
    async collect() {
      const drift = await readDriftInTime(board);
      units.reset();
      for (const { saleId: sale, sku, what, units: off } of drift?.entries ?? []) {
        units.inc({ sale, sku, what }, Math.abs(off));
      }
    },
  });
  const lookedAt = new Gauge({
    ...shared,
    name: 'holdfast_drift_looked_at_seconds',
    help: 'When the reconciliation last compared the stores (Unix time).',
    async collect() {
      const drift = await readDriftInTime(board);
      // Without a label there is no gauge without a value: 0 is long ago.
      lookedAt.set((drift?.lookedAtMs ?? 0) / 1_000);
    },
  });
}

/** Undefined when nothing is published, or Redis does not answer in time. */
function readDriftInTime(board: Pick<Stores['driftBoard'], 'read'>): Promise<Drift | undefined> {
  const late = new Promise<undefined>((resolve) => {
    setTimeout(resolve, DRIFT_TIMEOUT_MS, undefined).unref();
  });
  return Promise.race([board.read().catch(() => undefined), late]);
}
