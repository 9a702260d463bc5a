/** Creates a sale, unless the payment provider would refuse its prices when a shopper wants to pay. */

import { MAX_CART_LINES, MAX_LINE_QUANTITY } from '../orders/content.ts';
import type { PaymentProvider } from '../providers/provider.ts';
import { saleSchema, type Sale } from './sale.ts';

export interface CreateSaleDeps {
  sales: { create: (sale: Sale) => Promise<void> };
  provider: Pick<PaymentProvider, 'priceFault'>;
}

/** Where in the sale it is, and what is wrong with it. */
export interface SaleFault {
  path: string;
  message: string;
}

/** Lists everything about a sale's prices that the provider would refuse. */
export class SaleRefusedError extends Error {
  override name = 'SaleRefusedError';
  readonly faults: readonly SaleFault[];

  constructor(faults: readonly SaleFault[]) {
    super(faults.map(({ path, message }) => `${path}: ${message}`).join('\n'));
    this.faults = faults;
  }
}

/**
 * A sale that exists is left as it is.
 * @throws ZodError that lists what is wrong with the sale
 * @throws SaleRefusedError
 */
export async function createSale({ sales, provider }: CreateSaleDeps, input: Sale): Promise<void> {
  const sale = saleSchema.parse(input);
  const faults = priceFaults(sale, provider);
  if (faults.length > 0) throw new SaleRefusedError(faults);
  await sales.create(sale);
}

export function priceFaults(sale: Sale, provider: CreateSaleDeps['provider']): SaleFault[] {
  return [...skuFaults(sale, provider), ...cartFaults(sale, provider), ...sumFaults(sale)];
}

function skuFaults({ skus, currency }: Sale, provider: CreateSaleDeps['provider']): SaleFault[] {
  return skus.flatMap((item, position) => {
    const at = `skus.${position}`;
    // What is free is paid without the provider.
    if (item.unitPrice === 0) return [];
    const price = provider.priceFault({ amount: item.unitPrice, currency });
    if (price !== undefined) return [{ path: `${at}.unitPrice`, message: `${item.sku}: ${price}` }];
    const most = mostOf(item);
    const line = most && provider.priceFault({ amount: most.amount, currency });
    if (line === undefined) return [];
    return [{ path: `${at}.limitPerUser`, message: `${most?.quantity} of ${item.sku}: ${line}` }];
  });
}

/**
 * The fullest cart, where each SKU has a limit. Without one no order may ever reach the total that the bounds
 * of a cart allow, so the session of one that does is refused instead.
 */
function cartFaults({ skus, currency }: Sale, { priceFault }: CreateSaleDeps['provider']): SaleFault[] {
  const priced = skus.filter(({ unitPrice }) => unitPrice > 0);
  const lines = priced.flatMap((item) => mostOf(item)?.amount ?? []);
  const isLineRefused = lines.some((amount) => priceFault({ amount, currency }) !== undefined);
  if (priced.length === 0 || lines.length < priced.length || isLineRefused) return [];
  const fullest = lines.toSorted((a, b) => b - a).slice(0, MAX_CART_LINES);
  const message = priceFault({ amount: fullest.reduce((sum, amount) => sum + amount, 0), currency });
  return message === undefined ? [] : [{ path: 'skus', message: `the fullest cart: ${message}` }];
}

/** Whatever is added up over the sale's orders must be exact. */
function sumFaults({ skus }: Sale): SaleFault[] {
  const all = skus.reduce((sum, { unitPrice, total }) => sum + unitPrice * total, 0);
  if (all <= Number.MAX_SAFE_INTEGER) return [];
  return [{ path: 'skus', message: `all units together cost more than ${Number.MAX_SAFE_INTEGER}` }];
}

/** The most that one user can order of a SKU; undefined without a limit. */
function mostOf({ unitPrice, limitPerUser }: Sale['skus'][number]) {
  if (limitPerUser === null) return undefined;
  const quantity = Math.min(limitPerUser, MAX_LINE_QUANTITY);
  return { quantity, amount: unitPrice * quantity };
}
