/** The figures of a sale: what became of its orders and its money, in all and over time. */

/** The steps of time by which figures are added up. */
export const STEPS = ['second', 'minute', 'hour'] as const;
export type Step = (typeof STEPS)[number];

export const STEP_SECONDS: Readonly<Record<Step, number>> = { second: 1, minute: 60, hour: 3_600 };

/** Bounds of the groups by how long a payment took: from a quick click to the longest usual window. */
export const PAID_WITHIN_SECONDS = [5, 10, 20, 30, 60, 90, 120, 180, 300, 600, 900, 1_800, 3_600] as const;

/** What became of a sale's orders. Amounts are minor units of its currency. */
export interface SaleTotals {
  saleId: string;
  currency: string;
  accepted: number;
  paid: number;
  /** Orders that ended unpaid, by reason. */
  endedUnpaid: Record<string, number>;
  /** The totals of the orders that were paid. */
  taken: number;
  /** What went back of them. */
  refunded: number;
  /** The parts of `taken`: by the code of a charge, and by SKU. */
  charges: Record<string, number>;
  skus: Record<string, number>;
  /** Orders by how long their payment took: one for each bound, and the slower ones last. */
  paidWithin: number[];
}

/** What became of a sale's orders from `beginsS` (Unix time in seconds) on, for one step. */
export interface SalePoint extends Pick<SaleTotals, 'accepted' | 'paid' | 'endedUnpaid'> {
  beginsS: number;
}

/** The stock of a sale in Redis, and its refused purchases by the code of the refusal. */
export interface SaleStock {
  saleId: string;
  skus: { sku: string; available: number; held: number; sold: number }[];
  refused: Record<string, number>;
}
