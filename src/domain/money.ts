/** Amounts of money as readable text. */

const CURRENCY_CODE = /^[A-Z]{3}$/i;

/**
 * `49.00 EUR`: minor units with as many decimals as the currency has. Never throws: an amount of an unknown
 * currency is given in minor units.
 */
export function formatMoney(amount: number, currency: string): string {
  if (!CURRENCY_CODE.test(currency)) return `${amount} minor units of ${currency}`;
  const format = new Intl.NumberFormat('en', { style: 'currency', currency });
  const { maximumFractionDigits: decimals = 2 } = format.resolvedOptions();
  return `${(amount / 10 ** decimals).toFixed(decimals)} ${currency}`;
}
