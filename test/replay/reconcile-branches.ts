/** The ways a run of the reconciliation can go, to be recorded and replayed: by name, the steps of each. */

import type { Step } from '../../src/reconcile/walk.ts';

const done: Step<unknown> = async () => ({ looked: 1, repaired: 0, parked: 0 });
const fails: Step<unknown> = () => Promise.reject(new Error('the store is away'));

export const reconcileBranches: Record<string, Record<string, Step<unknown>>> = {
  'reconcile-all-steps': {
    'open-orders': done,
    'open-refunds': done,
    'give-backs': done,
    holds: done,
    projections: done,
    'order-books': done,
    drift: done,
    'unmatched-payments': done,
    'provider-book': done,
    retention: done,
  },
  'reconcile-step-fails': { holds: fails, 'provider-book': done },
  'reconcile-provider-fails': { holds: done, 'provider-book': fails },
  'reconcile-no-steps': {},
};
