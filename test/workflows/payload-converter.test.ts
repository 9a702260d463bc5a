/** How workflows read what they are sent: what cannot be decoded counts as nothing. */

import { expect, test } from 'vitest';
import { payloadConverter } from '../../src/workflows/payload-converter.ts';

const payloadOf = (encoding: string, data: string) => ({
  metadata: { encoding: Buffer.from(encoding) },
  data: Buffer.from(data),
});

test.each([
  ['bytes that are no JSON', payloadOf('json/plain', '{"reason":')],
  ['an encoding of another', payloadOf('binary/encrypted', 'secret')],
  ['no bytes', payloadOf('json/plain', '')],
  ['no encoding', {}],
])('%s are read as nothing', (_what, payload) => {
  expect(payloadConverter.fromPayload(payload)).toBeUndefined();
});

test.each([[{ reason: 'shopper_request' }], [null], [undefined], [7], [['a']]])(
  '%j is read as it was written',
  (value) => {
    expect(payloadConverter.fromPayload(payloadConverter.toPayload(value))).toEqual(value);
  },
);
