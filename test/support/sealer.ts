/** Seals and unseals as one shop of the tests does. */

import { createOrderSealer } from '../../src/payments/sealed-order.ts';

export const ORDER_SEAL_SECRET = 'a-seal-of-the-tests-with-enough-characters';

export const sealer = createOrderSealer([ORDER_SEAL_SECRET]);
