/** A sale: a shop's event with a window of time, its SKUs and its rules. */

export interface SaleSku {
  sku: string;
  name: string;
  /** Minor units of the sale's currency. */
  unitPrice: number;
  /** Units on sale. */
  total: number;
  /** Units one user may hold or own at a time; null: no limit. */
  limitPerUser: number | null;
}

export interface Sale {
  saleId: string;
  name: string;
  /** ISO 4217. */
  currency: string;
  /** Unix time in ms. */
  opensAtMs: number;
  closesAtMs: number;
  paused: boolean;
  /** How long a shopper may take to pay, in ms. */
  paymentWindowMs: number;
  skus: SaleSku[];
}

/** One SKU's units; in each store `total = available + held + sold` at every instant. */
export interface StockCount {
  sku: string;
  total: number;
  available: number;
  held: number;
  sold: number;
}
