/** The walk over jobs that call something off: one whose workflow runs no more is begun again. */

import { expect, test } from 'vitest';
import { mendCallingOffs } from '../../src/reconcile/lost-work.ts';
import { callOffWorkflowId } from '../../src/workflows/contract.ts';
import { openTestStores, silent } from '../support/stores.ts';

/** More than one page of the walk. */
const JOBS = 501;
const jobIdOf = (i: number): string => `01JD3Q8K5T6Z7B9C2D4E6F${String(i).padStart(4, '0')}`;

test('of many open jobs the last is begun again too, and those that run are left alone', async () => {
  const stores = await openTestStores();
  const jobs = Array.from({ length: JOBS }, (_, i) => [jobIdOf(i), `sale-${i}`, '', false, 'grace']);
  await stores.pool.query('INSERT INTO calling_offs (job_id, sale_id, sku, restock, actor) VALUES ?', [jobs]);
  const lost = jobIdOf(JOBS - 1);
  const begun: string[] = [];
  const engine = {
    isRunning: async (workflowId: string) => workflowId !== callOffWorkflowId({ jobId: lost }),
    startCallOff: async ({ jobId }: { jobId: string }) => void begun.push(jobId),
  };
  const { signal } = new AbortController();

  expect(await mendCallingOffs({ ...stores, engine, log: silent }, signal)).toEqual({
    looked: JOBS,
    repaired: 1,
    parked: 0,
  });
  expect(begun).toEqual([lost]);
});
