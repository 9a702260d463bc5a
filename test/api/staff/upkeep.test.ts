/** The reconciliation and the rebuild of a sale as staff ask for them: a worker does both. */

import { beforeAll, expect, test } from 'vitest';
import { reconcileReply, reconcileRequestedReply } from '../../../src/api/calls/upkeep.ts';
import { modify } from '../../../src/mysql/connection.ts';
import { RECONCILE_STEPS } from '../../../src/reconcile/steps.ts';
import { openCheckout, type Checkout } from '../../support/checkout.ts';
import { buildSale } from '../../support/factories.ts';
import { select } from '../../support/rows.ts';
import { refusalOf } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';

const DAY_MS = 86_400_000;
const BECAUSE = { reason: 'ticket 4711' };

let checkout: Checkout;
beforeAll(async () => {
  // It is due in an hour: within the test it runs when it is asked to.
  checkout = await openCheckout({ worker: 'whole', reconcileEveryMs: 3_600_000 });
});

const logged = (action: string) =>
  select(checkout.stores.pool, 'SELECT actor, reason, subject FROM audit_log WHERE action = ?', [action]);
const latest = async () => reconcileReply.parse((await checkout.asStaff('GET', 'reconcile')).body);

test('a reconciliation that staff ask for runs all steps in a worker, and says what each did', async () => {
  const asked = await waitFor('the schedule', async () => {
    const reply = await checkout.asStaff('POST', 'reconcile', BECAUSE);
    return reply.status === 202 && reconcileRequestedReply.parse(reply.body);
  });
  const run = await waitFor('the run', async () => {
    const found = await latest();
    return found.runId !== asked.latestRunId && found.endedAt !== null && found;
  });
  expect(run.steps?.map(({ step }) => step).toSorted()).toEqual([...RECONCILE_STEPS.keys()].toSorted());
  expect(run.steps?.filter(({ failed }) => failed !== null)).toEqual([]);
  expect(await logged('reconcile_requested')).toContainEqual({
    actor: 'olga',
    reason: 'ticket 4711',
    subject: 'reconciliation',
  });
});

test('a reconciliation without a reason is refused, and none is asked for', async () => {
  const before = (await logged('reconcile_requested')).length;
  expect(refusalOf(await checkout.asStaff('POST', 'reconcile', {}))).toBe('400 invalid_request');
  expect(await logged('reconcile_requested')).toHaveLength(before);
});

test('a sale that staff have rebuilt is in a new epoch, and the log has who wanted it and why', async () => {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const reply = await checkout.asStaff('POST', `sales/${saleId}/rebuild`, BECAUSE);
  expect([reply.status, reply.body]).toEqual([202, { saleId, epoch: 1 }]);
  await waitFor('the rebuild', async () => {
    const rebuilt = await logged('sale_rebuilt');
    return rebuilt.some(({ subject }) => subject === `sale ${saleId}`);
  });
  expect(await checkout.stores.saleEpochs.readLife(saleId)).toMatchObject({ epoch: 2 });
  expect(await logged('rebuild_requested')).toEqual([
    { actor: 'olga', reason: 'ticket 4711', subject: `sale ${saleId}` },
  ]);
  await checkout.buyAndPay(saleId);
});

test('a sale that there is not, or that is not to be in Redis, is not rebuilt', async () => {
  const rebuild = async (saleId: string) =>
    refusalOf(await checkout.asStaff('POST', `sales/${saleId}/rebuild`, BECAUSE));
  expect(await rebuild('never-was')).toBe('404 sale_not_found');
  expect(await rebuild('No%20Sale')).toBe('404 sale_not_found');
  const later = buildSale();
  await checkout.stores.sales.create({
    ...later,
    opensAtMs: Date.now() + DAY_MS,
    closesAtMs: Date.now() + 2 * DAY_MS,
  });
  expect(await rebuild(later.saleId)).toBe('409 not_rebuildable');
  const { saleId } = await checkout.stores.openSale(buildSale());
  await modify(checkout.stores.pool, 'UPDATE sales SET redis_cleaned_at = NOW(3) WHERE sale_id = ?', [
    saleId,
  ]);
  expect(await rebuild(saleId)).toBe('409 not_rebuildable');
  expect((await logged('rebuild_requested')).map(({ subject }) => subject)).not.toContain(`sale ${saleId}`);
});
