/** How every test of the whole flow ends. */

import { expect } from 'vitest';
import { runAudit } from '../../src/audit/run-audit.ts';
import type { Checkout } from './checkout.ts';

/** Every sale of the checkout adds up, in all that knows of it. */
export async function expectCleanAudit(checkout: Checkout): Promise<void> {
  for (const saleId of await checkout.stores.sales.listIds()) {
    expect((await runAudit(checkout, saleId, [])).findings).toEqual([]);
  }
}
