/** The check with which every test of the whole flow ends: the audit finds nothing. */

import { expect } from 'vitest';
import { auditStrayMoney, runAudit } from '../../src/audit/run-audit.ts';
import type { Checkout } from './checkout.ts';

/** Audits every sale of the checkout in all stores, and money that names no sale. */
export async function expectCleanAudit(
  checkout: Pick<Checkout, 'stores' | 'client' | 'provider'>,
): Promise<void> {
  for (const saleId of await checkout.stores.sales.listIds()) {
    expect((await runAudit(checkout, saleId, [])).findings).toEqual([]);
  }
  expect((await auditStrayMoney(checkout)).findings).toEqual([]);
}
