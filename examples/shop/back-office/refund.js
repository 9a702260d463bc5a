/**
 * `npm run refund -- ORDER_NO SKU QUANTITY RETURN_NUMBER`: pays for units that came back, and has them sold
 * again. The number of the return makes it once, however often it is sent.
 */

import { explain, openHoldfast } from '../holdfast.js';

const [orderNo = '', sku = '', quantityText, returnNumber = ''] = process.argv.slice(2);
const quantity = Number(quantityText);
if (!(quantity > 0) || returnNumber === '')
  fail('Usage: npm run refund -- ORDER_NO SKU QUANTITY RETURN_NUMBER');

const holdfast = openHoldfast('returns', 'orders:read refunds:write');

const { data: order } = await holdfast
  .getOrderFile(orderNo)
  .catch((error) => fail(`No order: ${explain(error)}`));
const { data: refund } = await holdfast
  .refundOrder(
    orderNo,
    {
      lines: [{ sku, quantity }],
      amount: amountOf(order),
      restock: true,
      reason: `return ${returnNumber}`,
    },
    { headers: { 'Idempotency-Key': returnNumber } },
  )
  .catch((error) => fail(`Not refunded: ${explain(error)}`));
const { amount, currency, status } = refund;
console.log(`${returnNumber}: ${amount / 100} ${currency} go back for ${quantity} × ${sku} (${status})`);

/**
 * What was paid for these units: their price less their share of the discount. Shipping is not refunded.
 * @param {typeof order} order
 */
function amountOf({ items, charges }) {
  const price = items.find((item) => item.sku === sku)?.unitPrice ?? 0;
  const goods = sum(items.map((item) => item.unitPrice * item.quantity));
  const discount = sum(charges.map((charge) => Math.min(0, charge.amount)));
  return Math.round((price * quantity * (goods + discount)) / goods);
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}

/**
 * @param {string} why
 * @returns {never}
 */
function fail(why) {
  console.error(why);
  process.exit(1);
}
