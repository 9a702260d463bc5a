/** All steps of the reconciliation. A further step is one line here. */

import { createHoldsStep, type HoldsDeps } from './holds.ts';
import { createOverdueOrdersStep, type OverdueOrdersDeps } from './overdue-orders.ts';
import { createOverdueRefundsStep, type OverdueRefundsDeps } from './overdue-refunds.ts';
import { createProviderBookStep, type ProviderBookDeps } from './provider-book.ts';
import type { Step } from './report.ts';
import { createUnmatchedPaymentsStep, type UnmatchedPaymentDeps } from './unmatched-payments.ts';

export type ReconcileDeps = HoldsDeps &
  OverdueOrdersDeps &
  OverdueRefundsDeps &
  UnmatchedPaymentDeps &
  ProviderBookDeps;

/** By the names under which Temporal's Web UI shows them. */
export type ReconcileSteps = ReadonlyMap<string, Step>;

export function createReconcileSteps(deps: ReconcileDeps): ReconcileSteps {
  return new Map([
    ['overdue-orders', createOverdueOrdersStep(deps)],
    ['overdue-refunds', createOverdueRefundsStep(deps)],
    ['holds', createHoldsStep(deps)],
    ['unmatched-payments', createUnmatchedPaymentsStep(deps)],
    ['provider-book', createProviderBookStep(deps)],
  ]);
}
