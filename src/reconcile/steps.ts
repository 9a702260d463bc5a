/** All steps of the reconciliation. A further step is one line here. */

import type { RebuildDeps } from '../rebuild/rebuild-sale.ts';
import { createDriftStep } from './drift.ts';
import { createHoldsStep, type HoldsDeps } from './holds.ts';
import {
  createGiveBacksStep,
  type GiveBacksDeps,
  createOpenOrdersStep,
  type OpenOrdersDeps,
  createOpenRefundsStep,
  type OpenRefundsDeps,
} from './lost-work.ts';
import { createOrderBooksStep, createProjectionsStep } from './order-books.ts';
import { createProviderBookStep, type ProviderBookDeps } from './provider-book.ts';
import { createRetentionStep, type RetentionDeps } from './retention.ts';
import { createUnmatchedPaymentsStep, type UnmatchedPaymentDeps } from './unmatched-payments.ts';
import type { Step } from './walk.ts';

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
