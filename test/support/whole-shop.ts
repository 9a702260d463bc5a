/** A checkout whose worker is the whole service; the reconciliation runs each second. */

import { openCheckout, type Checkout, type CheckoutOptions } from './checkout.ts';

export type WholeShop = Checkout;

interface WholeShopOptions extends Pick<CheckoutOptions, 'namespace' | 'temporalAddress' | 'inFront'> {
  /** More settings of the worker. */
  env?: Record<string, string>;
}

export function openWholeShop({ env = {}, ...options }: WholeShopOptions): Promise<WholeShop> {
  return openCheckout({ ...options, reconcileEveryMs: 1_000, worker: { whole: env } });
}
