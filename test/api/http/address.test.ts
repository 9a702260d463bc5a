/** The address that a proxy names, as it is read. */

import { pino } from 'pino';
import { expect, test } from 'vitest';
import { createAddressReader } from '../../../src/api/http/address.ts';

test('the log says once, and without the value, that a proxy names no address', () => {
  const lines: string[] = [];
  const read = createAddressReader(pino({}, { write: (line: string) => lines.push(line) }));
  expect(read('203.0.113.9:5678')).toBe('203.0.113.9');
  expect(lines).toEqual([]);
  for (const named of ['unknown', '_hidden:5678', '']) read(named);
  expect(lines).toHaveLength(1);
  expect(lines[0]).not.toContain('unknown');
});
