/** The demo sale, so that a Holdfast that runs without a shop has something to sell. Not for production. */

import { createSale, type CreateSaleDeps } from './sales/create-sale.ts';
import { DEFAULT_PAYMENT_WINDOW_MS } from './sales/sale.ts';
import type { Sale } from './sales/sale.ts';
import type { Stores } from './stores/open.ts';

/** Ten years, so that an old installation still sells when it is used again. */
const OPEN_FOR_MS = 10 * 365 * 24 * 60 * 60 * 1000;

export interface DemoSaleDeps extends CreateSaleDeps {
  sales: Stores['sales'];
  saleStock: Stores['saleStock'];
}

/** Creates the demo sale and warms it up. A sale that exists is left as it is. */
export async function prepareDemoSale(saleId: string, deps: DemoSaleDeps): Promise<void> {
  await createSale(deps, demoSale(saleId, Date.now()));
  await deps.sales.warmUp(saleId, deps.saleStock);
}

function demoSale(saleId: string, nowMs: number): Sale {
  return {
    saleId,
    name: 'Holdfast demo sale',
    currency: 'EUR',
    opensAtMs: nowMs,
    closesAtMs: nowMs + OPEN_FOR_MS,
    paused: false,
    paymentWindowMs: DEFAULT_PAYMENT_WINDOW_MS,
    refundRestoresLimit: true,
    limitPerUser: null,
    maxUnpaidHolds: null,
    addressPurchasesPerMinute: null,
    ticketRequired: false,
    skus: [
      { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000, limitPerUser: 2 },
      { sku: 'mug', name: 'Enamel mug', unitPrice: 1_450, total: 500, limitPerUser: 4 },
      { sku: 'anchor', name: 'Brass anchor, numbered', unitPrice: 24_000, total: 10, limitPerUser: 1 },
    ],
  };
}
