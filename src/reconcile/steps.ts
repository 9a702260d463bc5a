/** All steps of the reconciliation. A further step is one line here. */

import type { RebuildDeps } from '../rebuild/rebuild-sale.ts';
import { createDriftStep } from './drift.ts';
import { createGiveBacksStep, type GiveBacksDeps } from './give-backs.ts';
import { createHoldsStep, type HoldsDeps } from './holds.ts';
import { createOpenOrdersStep, type OpenOrdersDeps } from './open-orders.ts';
import { createOpenRefundsStep, type OpenRefundsDeps } from './open-refunds.ts';
import { createOrderBooksStep } from './order-books.ts';
import { createProjectionsStep } from './projections.ts';
import { createProviderBookStep, type ProviderBookDeps } from './provider-book.ts';
import type { Step } from './report.ts';
import { createRetentionStep, type RetentionDeps } from './retention.ts';
import { createUnmatchedPaymentsStep, type UnmatchedPaymentDeps } from './unmatched-payments.ts';

export type ReconcileDeps = HoldsDeps &
  OpenOrdersDeps &
  OpenRefundsDeps &
  GiveBacksDeps &
  RebuildDeps &
  RetentionDeps &
  UnmatchedPaymentDeps &
  ProviderBookDeps;

/** By the names under which Temporal's Web UI shows them. */
export type ReconcileSteps = ReadonlyMap<string, Step>;

/** These run beside the other calls to the provider. */
export const PROVIDER_STEPS: ReadonlySet<string> = new Set(['provider-book']);

export function createReconcileSteps(deps: ReconcileDeps): ReconcileSteps {
  return new Map([
    ['open-orders', createOpenOrdersStep(deps)],
    ['open-refunds', createOpenRefundsStep(deps)],
    ['give-backs', createGiveBacksStep(deps)],
    ['holds', createHoldsStep(deps)],
    ['projections', createProjectionsStep(deps)],
    ['order-books', createOrderBooksStep(deps)],
    ['drift', createDriftStep(deps)],
    ['unmatched-payments', createUnmatchedPaymentsStep(deps)],
    ['provider-book', createProviderBookStep(deps)],
    ['retention', createRetentionStep(deps)],
  ]);
}
