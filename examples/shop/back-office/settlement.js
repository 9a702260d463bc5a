/** `npm run settlement`: the sale's book as Holdfast exports it, summed, and whether it adds up. */

import { createClient, explain, isOk } from '../holdfast.js';
import { catalogue } from '../settings.js';

const call = createClient('settlement', 'settlement:read');
const { saleId, currency } = catalogue.sale;

const answer = await call('GET', `/v1/admin/sales/${saleId}/settlement`);
if (!isOk(answer)) throw new Error(explain(answer));
const { lines, totals } = answer.body;

/** @type {Record<string, { lines: number, amount: number }>} by kind of line and its status */
const sums = {};
for (const { line, status, amount } of lines) {
  const sum = (sums[`${line} ${status}`] ??= { lines: 0, amount: 0 });
  sum.lines += 1;
  sum.amount += amount / 100;
}
console.table(sums);

const { paid, refunded, chargedBack, fees, kept } = totals.find(
  (/** @type {any} */ total) => total.currency === currency,
) ?? { paid: 0, refunded: 0, chargedBack: 0, fees: 0, kept: 0 };
console.log(`paid ${money(paid)}, refunded ${money(refunded)}, kept ${money(kept)} ${currency}`);
if (kept !== paid - refunded - chargedBack - fees) {
  console.error('It does not add up.');
  process.exitCode = 1;
}

/** @param {number} cents */
function money(cents) {
  return (cents / 100).toFixed(2);
}
