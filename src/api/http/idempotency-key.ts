/** The `Idempotency-Key` of a request: its repeat finds what the first one did. */

import { IDEMPOTENCY_KEY_PATTERN } from '../../domain/limits.ts';
import type { Call } from './direct-calls.ts';
import { Problem } from './problem.ts';

/** @throws Problem 400 when it is missing or malformed */
export function readIdempotencyKey(ctx: Pick<Call, 'get'>): string {
  const key = ctx.get('Idempotency-Key');
  if (key === '')
    throw new Problem('idempotency_key_missing', 'Send an Idempotency-Key, a fresh UUID for each request.');
  if (!IDEMPOTENCY_KEY_PATTERN.test(key)) {
    throw new Problem(
      'idempotency_key_invalid',
      'An Idempotency-Key has 1 to 128 printable ASCII characters, no spaces.',
    );
  }
  return key;
}
