/** The greatest amounts that a sale may have stay exact: in Lua, MySQL, JavaScript, and both books. */

import { expect, test } from 'vitest';
import { settlementReply } from '../../src/api/calls/settlement.ts';
import { MAX_UNIT_PRICE } from '../../src/orders/content.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { waitFor } from '../support/wait.ts';

const sku = (name: string) => ({
  sku: name,
  name,
  unitPrice: MAX_UNIT_PRICE,
  total: 4_000,
  limitPerUser: null,
});

test('orders of the greatest prices are paid, refunded to the unit, settled and audited', async () => {
  const shop = await openCheckout({ reconcileEveryMs: 1_000 });
  const { saleId } = await shop.stores.openSale(
    buildSale({ currency: 'IDR', skus: [sku('villa'), sku('yacht')] }),
  );
  const bought = await shop.buyAndPay(saleId, { sku: 'villa', quantity: 100 });
  const kept = await shop.buyAndPay(saleId, { sku: 'yacht', quantity: 99 });
  const { orderNo } = bought;
  expect(await bought.shopper.readOrder(orderNo)).toMatchObject({
    total: 99_999_999_999_900,
    status: 'paid',
  });

  const refund = { lines: [{ sku: 'villa', quantity: 33 }], restock: true };
  expect((await shop.asStaff('POST', `orders/${orderNo}/refunds`, refund)).status).toBe(202);
  await waitFor('the refund', async () => (await bought.shopper.readOrder(orderNo)).refunded > 0);
  expect(await shop.moneyOf({ orderNo })).toEqual([[99_999_999_999_900, 32_999_999_999_967]]);
  expect(await shop.moneyOf(kept)).toEqual([[98_999_999_999_901, 0]]);

  const reply = settlementReply.parse((await shop.asStaff('GET', `sales/${saleId}/settlement`)).body);
  expect(reply.totals).toEqual([
    {
      currency: 'IDR',
      paid: 198_999_999_999_801,
      refunded: 32_999_999_999_967,
      chargedBack: 0,
      fees: 0,
      kept: 165_999_999_999_834,
    },
  ]);
  await expectCleanAudit(shop);
});
