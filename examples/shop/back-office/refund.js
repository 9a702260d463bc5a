/**
 * `npm run refund -- ORDER_NO SKU QUANTITY RETURN_NUMBER`: pays for units that came back, and has them sold
 * again. The number of the return makes it once, however often it is sent.
 */

import { createClient, explain, isOk } from '../holdfast.js';

const [orderNo = '', sku = '', quantityText, returnNumber = ''] = process.argv.slice(2);
const quantity = Number(quantityText);
if (!(quantity > 0) || returnNumber === '')
  fail('Usage: npm run refund -- ORDER_NO SKU QUANTITY RETURN_NUMBER');

const call = createClient('returns', 'orders:read refunds:write');
const path = `/v1/admin/orders/${encodeURIComponent(orderNo)}`;

const found = await call('GET', path);
if (!isOk(found)) fail(`No order: ${explain(found)}`);

const refund = await call('POST', `${path}/refunds`, {
  headers: { 'idempotency-key': returnNumber },
  body: {
    lines: [{ sku, quantity }],
    amount: amountOf(found.body),
    restock: true,
    reason: `return ${returnNumber}`,
  },
});
if (!isOk(refund)) fail(`Not refunded: ${explain(refund)}`);
const { amount, currency, status } = refund.body;
console.log(`${returnNumber}: ${amount / 100} ${currency} go back for ${quantity} × ${sku} (${status})`);

/**
 * What was paid for these units: their price less their share of the discount. Shipping is not refunded.
 * @param {any} order
 */
function amountOf({ items, charges }) {
  const price = items.find((/** @type {any} */ item) => item.sku === sku)?.unitPrice ?? 0;
  const goods = sum(items.map((/** @type {any} */ item) => item.unitPrice * item.quantity));
  const discount = sum(charges.map((/** @type {any} */ charge) => Math.min(0, charge.amount)));
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
