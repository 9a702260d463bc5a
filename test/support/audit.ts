/** The audit in tests: the check with which every test of the whole flow ends, and single looks. */

import { expect } from 'vitest';
import { beginLook, type AuditDeps, type Subject, type SaleSnapshot } from '../../src/audit/look.ts';
import { auditAll } from '../../src/audit/run-audit.ts';
import type { Checkout } from './checkout.ts';

/** Audits every sale of the checkout in all stores, and money that names no sale. */
export async function expectCleanAudit(checkout: AuditDeps): Promise<void> {
  const saleIds = await checkout.stores.sales.listIds();
  const sales = saleIds.map((saleId): Subject => ({ kind: 'sale', saleId, accepted: [] }));
  const audits = await auditAll(checkout, [...sales, { kind: 'strays' }]);
  expect(audits.flatMap(({ findings }) => findings)).toEqual([]);
}

/** One look at the sale, perhaps between two steps of the system. */
export async function readSale(
  checkout: Pick<Checkout, 'stores' | 'client' | 'provider'>,
  saleId: string,
  accepted: readonly string[],
): Promise<SaleSnapshot> {
  const look = await beginLook(checkout);
  return look({ kind: 'sale', saleId, accepted });
}
