/** Changes a sale through its three steps, and says what came of it. */

import type { Decision } from '../../stores/mysql/rows/audit-log.ts';
import type { PendingChange } from '../../stores/mysql/sales/change-rows.ts';
import type { Ask, Recorded, Refusal } from '../../stores/mysql/sales/sale-changes.ts';
import type { Stores } from '../../stores/open.ts';
import { Problem, unavailable } from '../http/problem.ts';

/** Changes of others that are completed before this one. More are no accident, and the caller may repeat. */
const EARLIER_MAX = 5;

/** @throws Problem when it was not made; `sale_change_unavailable`: it may yet be */
export async function changeSale(
  { saleChanges, saleStock, log }: Stores,
  ask: Ask,
  decision: Decision,
): Promise<Done['kind']> {
  /**
   * Settles the change. A refusal concerns the caller only if it is the caller's own.
   * @returns whether it was made; otherwise it was withdrawn
   */
  async function complete(change: PendingChange, isOwn: boolean): Promise<boolean> {
    const end = await saleChanges.complete(change, saleStock).catch(failLater);
    if (!end) failLater(undefined);
    if (end.kind === 'withdrawn') {
      const { saleId, changeNo, action } = change;
      log.error(
        { saleId, changeNo, action },
        'MySQL had lost changes of a sale; they were taken over from Redis',
      );
    }
    if (end.kind === 'ended' && isOwn) throw refusalOf(end);
    if (end.kind === 'refused' && isOwn) {
      const { sku, committed } = end;
      throw new Problem('stock_below_committed', 'More is held and sold than the new total.', {
        extra: { sku, committed },
      });
    }
    return end.kind !== 'withdrawn';
  }

  for (let earlier = 0; earlier <= EARLIER_MAX; earlier += 1) {
    const recorded = await saleChanges.record(ask, decision).catch(failUnrecorded);
    if (isDone(recorded)) return recorded.kind;
    if (recorded.kind === 'recorded') {
      if (await complete(recorded.change, true)) return 'changed';
      continue;
    }
    if (recorded.kind !== 'pending') throw refusalOf(recorded);
    await complete(recorded.change, false);
  }
  return failUnrecorded(undefined);
}

type Done = Extract<Recorded, { kind: 'created' | 'changed' | 'unchanged' }>;

function isDone(recorded: Recorded): recorded is Done {
  return ['created', 'changed', 'unchanged'].includes(recorded.kind);
}

function refusalOf(recorded: Refusal): Problem {
  switch (recorded.kind) {
    case 'unknown':
      return saleUnknown();
    case 'ended':
      return new Problem('sale_ended', 'The sale has closed, and that is final.');
    case 'draft':
      return new Problem('sale_is_draft', 'The sale is a draft.');
    case 'conflict':
      return new Problem('version_conflict', 'The sale is not in the state that the request expects.', {
        extra: { version: recorded.version ?? null },
      });
    case 'fixed': {
      const { path, message, sku } = recorded.rule;
      return new Problem('sale_rule_fixed', message, {
        extra: { path, ...(sku === undefined ? {} : { sku }) },
      });
    }
    case 'rebuilding':
      return new Problem('sale_change_unavailable', 'The sale cannot be changed right now; send it again.', {
        retryAfterSeconds: 1,
      });
    default:
      return recorded satisfies never;
  }
}

function failUnrecorded(error: unknown): never {
  throw unavailable('sale_change_unavailable', 'The change may not be recorded; send it again.', error);
}

function failLater(error: unknown): never {
  throw unavailable(
    'sale_change_unavailable',
    'The change is recorded and will be made; send it again to learn what came of it.',
    error,
  );
}

/** Not "not on yet": the back office sees every sale. */
export function saleUnknown(): Problem {
  return new Problem('sale_not_found', 'There is no such sale.');
}
