/** `npm run settlement`: the sale's book as Holdfast exports it, summed, and whether it adds up. */

import { openHoldfast } from '../holdfast.js';
import { catalogue } from '../settings.js';

const holdfast = openHoldfast('settlement', 'settlement:read');
const { saleId, currency } = catalogue.sale;
const { data: book } = await holdfast.getSettlement(saleId);
if (typeof book === 'string') throw new Error('CSV is for those that ask for it');
const { lines, totals } = book;

/** @type {Record<string, { lines: number, amount: number }>} by kind of line and its status */
const sums = {};
for (const { line, status, amount } of lines) {
  const sum = (sums[`${line} ${status}`] ??= { lines: 0, amount: 0 });
  sum.lines += 1;
  sum.amount += amount / 100;
}
console.table(sums);

const { paid, refunded, chargedBack, fees, kept } = totals.find((total) => total.currency === currency) ?? {
  paid: 0,
  refunded: 0,
  chargedBack: 0,
  fees: 0,
  kept: 0,
};
console.log(`paid ${money(paid)}, refunded ${money(refunded)}, kept ${money(kept)} ${currency}`);
if (kept !== paid - refunded - chargedBack - fees) {
  console.error('It does not add up.');
  process.exitCode = 1;
}

/** @param {number} cents */
function money(cents) {
  return (cents / 100).toFixed(2);
}
