/** Formats money from minor units, for currencies with none, two or three decimals. */

import { expect, test } from 'vitest';
import { formatMoney } from '../../src/money/payment.ts';

test.each([
  [4_900, 'EUR', '49.00 EUR'],
  [5, 'USD', '0.05 USD'],
  [123_456_789, 'SGD', '1234567.89 SGD'],
  // Currencies without decimals, and with three.
  [4_900, 'JPY', '4900 JPY'],
  [4_900, 'KWD', '4.900 KWD'],
  // A provider may say anything.
  [4_900, 'euros', '4900 minor units of euros'],
])('%i minor units of %s read as %s', (amount, currency, text) => {
  expect(formatMoney(amount, currency)).toBe(text);
});
