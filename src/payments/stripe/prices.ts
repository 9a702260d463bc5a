/**
 * What Stripe takes: currencies, smallest and largest amounts. Source of all numbers and lists here:
 * https://docs.stripe.com/currencies, read in November 2026.
 */

import type { Price } from '../provider.ts';

/** Currencies in which Stripe collects cards, in the minor units of ISO 4217. */
const TAKEN_CURRENCIES = new Set(
  `AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CLP
  CNY COP CRC CVE CZK DJF DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS
  INR JMD JOD JPY KES KGS KHR KMF KRW KWD KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN
  MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SEK SGD SHP
  SLE SOS SRD STD SZL THB TJS TND TOP TRY TTD TWD TZS UAH USD UYU UZS VND VUV WST XAF XCD XCG XOF XPF YER ZAR
  ZMW`.split(/\s+/),
);

/** Currencies whose amounts Stripe counts in another unit than ISO 4217 does. */
const OTHER_UNIT: readonly string[] = ['ISK', 'MGA', 'UGX'];
/** Currencies with three decimals, of which Stripe requires the last to be 0. */
const THREE_DECIMALS: readonly string[] = ['BHD', 'JOD', 'KWD', 'OMR', 'TND'];

/**
 * Minor units. In any other currency the smallest amount depends on the account's own currency and the rate
 * of the day, so Stripe alone knows it.
 */
const SMALLEST: Readonly<Record<string, number>> = {
  AED: 200,
  ARS: 50,
  AUD: 50,
  BRL: 50,
  CAD: 50,
  CHF: 50,
  COP: 50,
  CZK: 1_500,
  DKK: 250,
  EUR: 50,
  GBP: 30,
  HKD: 400,
  HUF: 17_500,
  IDR: 50,
  ILS: 50,
  INR: 50,
  JPY: 50,
  KRW: 50,
  MXN: 1_000,
  MYR: 200,
  NOK: 300,
  NZD: 50,
  PHP: 50,
  PLN: 200,
  RON: 200,
  RUB: 50,
  SEK: 300,
  SGD: 50,
  THB: 1_000,
  USD: 50,
  ZAR: 50,
};

/** Minor units: eight digits, also where a currency has no decimals. */
const LARGEST = 99_999_999;
const LARGEST_OF: Readonly<Record<string, number>> = {
  COP: 9_999_999_999,
  IDR: 999_999_999_999,
  INR: 999_999_999,
};

/** Why Stripe takes no such amount; undefined when it takes it, as far as its rules are published. */
export function stripePriceFault({ amount, currency }: Price): string | undefined {
  if (OTHER_UNIT.includes(currency)) return `Stripe counts ${currency} in another unit than ISO 4217 does`;
  if (!TAKEN_CURRENCIES.has(currency)) return `Stripe does not take ${currency}`;
  if (THREE_DECIMALS.includes(currency) && amount % 10 !== 0)
    return `Stripe takes ${currency} in steps of ten minor units, and ${amount} is none`;
  const [smallest, largest] = [SMALLEST[currency] ?? 1, LARGEST_OF[currency] ?? LARGEST];
  if (amount < smallest) return `${amount} is below ${smallest}, the least that Stripe takes in ${currency}`;
  if (amount > largest) return `${amount} is above ${largest}, the most that Stripe takes in ${currency}`;
  return undefined;
}
