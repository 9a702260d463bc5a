/** Refunds by order over HTTP: each outcome, each refusal, and what hostile requests get. */

import { beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { buildReversal, reverse } from '../../support/payment-notices.ts';
import { readPaymentId } from '../../support/rows.ts';
import { openShop } from '../../support/shop.ts';
import { problemOf, refusalOf, type Reply } from '../../support/shopper.ts';
import { openStaffWorld, type StaffWorld } from './staff-world.ts';

let world: StaffWorld;
beforeAll(async () => {
  world = await openStaffWorld();
});

const idOf = ({ body }: Reply): number => z.object({ refundId: z.int() }).parse(body).refundId;

describe('a refund', () => {
  test('of an amount is requested, and answers the same under its key', async () => {
    const { order } = await world.paid();
    const first = await world.refund(order.orderNo, { amount: 1_000, reason: 'late' }, 'once');
    expect(first.status).toBe(202);
    expect(first.body).toMatchObject({
      orderNo: order.orderNo,
      status: 'requested',
      amount: 1_000,
      currency: 'EUR',
      lines: null,
      restock: false,
      restocked: false,
      reason: 'late',
      actor: 'olga',
      endedAt: null,
    });
    const again = await world.refund(order.orderNo, { amount: 1_000, reason: 'late' }, 'once');
    expect([again.status, again.body]).toEqual([200, first.body]);
    expect(refusalOf(await world.refund(order.orderNo, { amount: 1_001, reason: 'late' }, 'once'))).toBe(
      '422 idempotency_key_reused',
    );
  });

  test('that the provider refused says so in the provider’s words, in its own answer and in the order’s file', async () => {
    const { order, payment } = await world.paid();
    const { body } = await world.refund(order.orderNo, { amount: 1_000 }, 'refused');
    expect(body).toMatchObject({ refusal: null });
    const { pool, refunds } = world.stores;
    const paymentId = await readPaymentId(pool, order.orderNo);
    const refusal = { code: 'charge_disputed', message: 'There is an open dispute about it.' };
    const { providerPaymentId } = payment;
    await refunds.recordRefusal({ paymentId, providerPaymentId }, { target: 1_000, refusal });
    await refunds.park(paymentId, `refused: ${refusal.message}`, { cause: 'refund_refused', step: null });

    const again = await world.refund(order.orderNo, { amount: 1_000 }, 'refused');
    expect(again.body).toMatchObject({ status: 'requested', refusal });
    const file = await world.get(`orders/${order.orderNo}`);
    expect(file.body).toMatchObject({
      payments: [{ status: 'refund_due', refusal }],
      refunds: [{ amount: 1_000, refusal }],
      parked: [{ cause: 'refund_refused', reason: expect.stringContaining(refusal.message) }],
    });
  });

  test('of lines costs what they cost; of nothing named, all that is left', async () => {
    const { order } = await world.paid();
    const lines = [{ sku: 'lamp', quantity: 1 }];
    const partly = await world.refund(order.orderNo, { lines, amount: 900, restock: true });
    expect(partly.body).toMatchObject({ amount: 900, lines, restock: true, restoreLimit: true });
    expect((await world.refund(order.orderNo, {})).body).toMatchObject({ amount: 4_000, lines: null });
  });

  test('of an amount that the provider cannot send back is refused, and nothing is recorded', async () => {
    const { order } = await world.paid();
    const before = await world.rowsOf(order.saleId);
    const refundFault = () => 'Stripe takes KWD in steps of ten minor units, and 1005 is none';
    const strict = await world.api.withParts({ provider: { ...world.api.provider, refundFault } });
    const { asStaff } = openShop({ ...world.api, ...strict });
    const reply = await asStaff('POST', `orders/${order.orderNo}/refunds`, { amount: 1_005 });
    expect(refusalOf(reply)).toBe('400 invalid_request');
    expect(problemOf(reply)).toMatchObject({ faults: [{ path: 'amount', message: refundFault() }] });
    expect(await world.rowsOf(order.saleId)).toEqual(before);
  });

  test('of more than is left is refused, with what is left', async () => {
    const { order, payment } = await world.paid();
    await reverse(world.stores, buildReversal(payment, { amount: 900 }));
    const before = await world.rowsOf(order.saleId);
    const reply = await world.refund(order.orderNo, { amount: 4_001 });
    expect(refusalOf(reply)).toBe('409 refund_exceeds');
    expect(problemOf(reply)).toMatchObject({ refundable: 4_000, currency: 'EUR' });
    const units = await world.refund(order.orderNo, { lines: [{ sku: 'lamp', quantity: 2 }] });
    expect(refusalOf(units)).toBe('409 refund_exceeds_units');
    expect(problemOf(units)).toMatchObject({ sku: 'lamp', refundable: 1 });
    const strange = await world.refund(order.orderNo, { lines: [{ sku: 'gid://x/1', quantity: 1 }] });
    expect(problemOf(strange)).toMatchObject({ sku: 'gid://x/1', refundable: 0 });
    expect(await world.rowsOf(order.saleId)).toEqual(before);
  });

  test('of what was not paid is refused; of what is no order it is not found', async () => {
    const order = await world.stored();
    expect(refusalOf(await world.refund(order.orderNo, {}))).toBe('409 not_refundable');
    expect(refusalOf(await world.refund('nope', {}))).toBe('404 order_not_found');
    expect(refusalOf(await world.refund((await world.queued()).orderNo, {}))).toBe('404 order_not_found');
  });

  test.each([
    { amount: 0 },
    { amount: -1 },
    { amount: 0.5 },
    { amount: 1e300 },
    { amount: '100' },
    { amount: null },
    { amount: 100, currency: 'USD' },
    { amount: 100, restock: true },
    { amount: 100, restoreLimit: true },
    { amount: 100, charges: true },
    { charges: true },
    { lines: [{ sku: 'lamp', quantity: 1 }], amount: 1, charges: true },
    { amount: 100, restock: 'yes' },
    { lines: [] },
    { lines: [{ sku: 'lamp' }] },
    { lines: [{ sku: 'lamp', quantity: 0 }] },
    { lines: [{ sku: 'lamp', quantity: 1.5 }] },
    { lines: [{ sku: 'lamp', quantity: 101 }] },
    { lines: [{ sku: '', quantity: 1 }] },
    { lines: [{ sku: 'lamp', quantity: 1, unitPrice: 1 }] },
    {
      lines: [
        { sku: 'lamp', quantity: 1 },
        { sku: 'lamp', quantity: 1 },
      ],
    },
    { lines: Array.from({ length: 21 }, (_, i) => ({ sku: `s${i}`, quantity: 1 })) },
    { reason: '' },
    { reason: 'x'.repeat(501) },
    { all: true },
    [],
  ])('asked for as %j is refused and changes nothing', async (body) => {
    const { order } = await world.paid();
    const before = await world.rowsOf(order.saleId);
    expect(refusalOf(await world.refund(order.orderNo, body))).toBe('400 invalid_request');
    expect(await world.rowsOf(order.saleId)).toEqual(before);
  });

  test('needs a key', async () => {
    const { order } = await world.paid();
    const path = `orders/${order.orderNo}/refunds`;
    expect(refusalOf(await world.post(path, { amount: 1 }))).toBe('400 idempotency_key_missing');
    expect(refusalOf(await world.refund(order.orderNo, { amount: 1 }, 'a key'))).toBe(
      '400 idempotency_key_invalid',
    );
  });

  test('asked for by two people at once is never more than was paid', async () => {
    const { order } = await world.paid();
    const replies = await Promise.all([
      world.refund(order.orderNo, { amount: 3_000 }),
      world.refund(order.orderNo, { amount: 3_000 }),
    ]);
    expect(replies.map(({ status }) => String(status)).toSorted()).toEqual(['202', '409']);
  });
});

describe('withdrawing', () => {
  test('a refund that is not on its way ends it; a repeat answers the same', async () => {
    const { order } = await world.paid();
    const path = `orders/${order.orderNo}/refunds/${idOf(await world.refund(order.orderNo, {}))}/withdraw`;
    const first = await world.post(path, { reason: 'a mistake' });
    expect(first.body).toMatchObject({ status: 'failed', endedAt: expect.any(String) });
    expect((await world.post(path)).body).toEqual(first.body);
    expect((await world.refund(order.orderNo, {})).status).toBe(202);
  });

  test('is refused when its money is back, and of what is no refund of the order', async () => {
    const { order, payment } = await world.paid();
    const refundId = idOf(await world.refund(order.orderNo, { amount: 10 }));
    await reverse(world.stores, buildReversal(payment, { amount: 10 }));
    const withdraw = (id: string | number) => world.post(`orders/${order.orderNo}/refunds/${id}/withdraw`);
    expect(refusalOf(await withdraw(refundId))).toBe('409 refund_on_its_way');
    for (const id of [refundId + 1, 0, -1, '1e3', 'x', '9'.repeat(16)])
      expect(refusalOf(await withdraw(id))).toBe('404 refund_not_found');
    expect(refusalOf(await world.post(`orders/nope/refunds/${refundId}/withdraw`))).toBe(
      '404 refund_not_found',
    );
  });
});

describe('the list of refunds', () => {
  const list = async (query: string) => {
    const { body } = await world.get(`refunds${query}`);
    const page = z
      .object({
        refunds: z.array(z.object({ refundId: z.int(), status: z.string() })),
        next: z.int().nullable(),
      })
      .parse(body);
    return { ...page, ids: page.refunds.map(({ refundId }) => refundId) };
  };

  test('has those on their way, the oldest first, and those withdrawn, the newest first, page by page', async () => {
    const { order } = await world.paid();
    const ids: number[] = [];
    for (const amount of [100, 200, 300, 400, 500])
      ids.push(idOf(await world.refund(order.orderNo, { amount })));
    const [first, second, third, fourth, fifth] = ids;
    for (const id of [second, fourth, fifth])
      await world.post(`orders/${order.orderNo}/refunds/${id}/withdraw`);

    const ofTest = (found: readonly number[]) => found.filter((id) => ids.includes(id));
    expect(ofTest((await list('')).ids)).toEqual([first, third]);
    expect(ofTest((await list('?status=requested')).ids)).toEqual([first, third]);
    const withdrawn = await list('?status=failed&limit=2');
    expect(withdrawn.ids).toEqual([fifth, fourth]);
    expect(ofTest((await list(`?status=failed&after=${withdrawn.next}`)).ids)).toEqual([second]);
    expect(ofTest((await list('?status=succeeded')).ids)).toEqual([]);
  });

  test('of a state that there is not is refused', async () => {
    expect(refusalOf(await world.get('refunds?status=lost'))).toBe('400 invalid_request');
  });
});
