/** All steps of the reconciliation. A further step is one line here. */

import { mendDrift } from './drift.ts';
import { mendFreeOrders } from './free-orders.ts';
import { mendHolds } from './holds.ts';
import {
  type CallOffStepDeps,
  mendCallingOffs,
  mendGiveBacks,
  mendOpenOrders,
  mendOpenRefunds,
  type OpenOrdersDeps,
} from './lost-work.ts';
import { mendOpenLists } from './open-lists.ts';
import { checkOrderBooks, mendProjections } from './order-books.ts';
import { compareProviderBook, type ProviderBookDeps } from './provider-book.ts';
import type { RebuildDeps } from './rebuild-sale.ts';
import { clearExpired, type RetentionDeps } from './retention.ts';
import { decideUnmatchedPayments, type UnmatchedPaymentDeps } from './unmatched-payments.ts';
import type { Step } from './walk.ts';

/** What all of them work on together. */
export type ReconcileDeps = OpenOrdersDeps &
  CallOffStepDeps &
  RebuildDeps &
  RetentionDeps &
  UnmatchedPaymentDeps &
  ProviderBookDeps;

type ReconcileStep = Step<ReconcileDeps>;

/** By the names under which Temporal's Web UI shows them. */
export const RECONCILE_STEPS: ReadonlyMap<string, ReconcileStep> = new Map<string, ReconcileStep>([
  ['open-orders', mendOpenOrders],
  ['open-refunds', mendOpenRefunds],
  ['give-backs', mendGiveBacks],
  ['callings-off', mendCallingOffs],
  ['holds', mendHolds],
  ['free-orders', mendFreeOrders],
  ['open-lists', mendOpenLists],
  ['projections', mendProjections],
  ['order-books', checkOrderBooks],
  ['drift', mendDrift],
  ['unmatched-payments', decideUnmatchedPayments],
  ['provider-book', compareProviderBook],
  ['retention', clearExpired],
]);

/** These run beside the other calls to the provider. */
export const PROVIDER_STEPS: ReadonlySet<string> = new Set(['provider-book']);
