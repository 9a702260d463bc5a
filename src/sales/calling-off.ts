/** What was called off is refused in Redis, by the ordinary way of a sale's change; the report of its job. */

import type { Stores } from '../stores/open.ts';
import type { CallOffException, CallOffFigures, CallOffJob, CallOffTerms } from './calling-off.sql.ts';
import type { Ask } from './changes.sql.ts';

/** Changes that are completed before it. More are no accident, and it is repeated. */
const EARLIER_MAX = 5;

/**
 * Closes the sale, or has the SKU refused. One that has closed takes no orders anyway.
 * @throws while Redis cannot decide it: to be repeated
 */
export async function refuseOrders(
  { saleChanges, saleStock }: Stores,
  { saleId, sku, actor, reason }: CallOffTerms,
): Promise<void> {
  const ask: Ask = sku === '' ? { action: 'close', saleId } : { action: 'call_off', saleId, sku };
  for (let earlier = 0; earlier <= EARLIER_MAX; earlier += 1) {
    const recorded = await saleChanges.record(ask, { actor, reason });
    if (recorded.kind === 'unchanged' || recorded.kind === 'changed' || recorded.kind === 'ended') return;
    if (recorded.kind !== 'recorded' && recorded.kind !== 'pending')
      throw new Error(`sale ${saleId} cannot be changed now: ${recorded.kind}`);
    // Its own outcome shows in the next round.
    if (!(await saleChanges.complete(recorded.change, saleStock)))
      throw new Error(`Redis cannot decide a change of sale ${saleId} now`);
  }
  throw new Error(`other changes of sale ${saleId} come in between`);
}

/** Orders of a report that are named. An operator who has more of them needs a list of another kind. */
const NAMED_MAX = 200;

/** How far a job is. */
export interface CallOffReport extends CallOffFigures {
  /** Orders whose money does not go back by the job; the first of them. */
  exceptions: CallOffException[];
}

/** @throws when MySQL is away */
export async function reportOf({ callingOffs }: Stores, job: CallOffJob): Promise<CallOffReport> {
  const { jobId } = job;
  const [figures, noted, stuck] = await Promise.all([
    callingOffs.readFigures(job),
    callingOffs.listExceptions(jobId, NAMED_MAX),
    callingOffs.listStuck(jobId, NAMED_MAX),
  ]);
  const isNoted = new Set(noted.map(({ orderNo }) => orderNo));
  const exceptions = [...noted, ...stuck.filter(({ orderNo }) => !isNoted.has(orderNo))];
  // The end of a dispute decides, so these never crowd out those that take a hand.
  const isDisputed = ({ cause }: CallOffException) => Number(cause === 'disputed');
  return {
    ...figures,
    exceptions: exceptions.toSorted((a, b) => isDisputed(a) - isDisputed(b)).slice(0, NAMED_MAX),
  };
}
