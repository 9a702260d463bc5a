/** How every test of the whole flow ends. */

import { expect } from 'vitest';
import { auditStrayMoney, runAudit } from '../../src/audit/run-audit.ts';
import type { Checkout } from './checkout.ts';

/** Every sale of the checkout adds up, in all that knows of it, and no money has gone astray. */
export async function expectCleanAudit(
  checkout: Pick<Checkout, 'stores' | 'client' | 'provider'>,
): Promise<void> {
  for (const saleId of await checkout.stores.sales.listIds()) {
    expect((await runAudit(checkout, saleId, [])).findings).toEqual([]);
  }
  expect((await auditStrayMoney(checkout)).findings).toEqual([]);
}
