/** The order signer of the tests' shop. */

import { createOrderSigner } from '../../src/providers/signed-order.ts';

export const ORDER_SIGNING_SECRET = 'a-secret-of-the-tests-with-enough-characters';

export const signer = createOrderSigner([ORDER_SIGNING_SECRET]);
