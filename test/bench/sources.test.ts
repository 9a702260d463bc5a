/** Which files a part of the comparison consists of: what it imports, and what it starts. */

import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { sourcesOf } from '../../bench/compare/sources.ts';

const parts = readdirSync(fileURLToPath(new URL('../../bench/compare/parts', import.meta.url)))
  .filter((name) => name.endsWith('.ts') && name !== 'accept-contestants.ts')
  .map((name) => name.replace('.ts', ''));

test.each([
  ['accept', 'the designs that it imports', 'bench/peers/bullmq.ts'],
  ['accept', 'the servers that it starts', 'bench/peers/front-server.ts'],
  ['accept', 'the script of the load', 'bench/http/wrk.lua'],
  ['sold-out', 'the server that it starts, and what that imports', 'bench/peers/lua-stock.ts'],
  ['payable', 'the consumers that it starts by name', 'bench/peers/consumers/rabbitmq.ts'],
  ['lag', 'the process that makes its load', 'bench/load-generator.ts'],
  ['growth', 'what fills its shop', 'bench/compare/growth/seed-orders.ts'],
])('the files of %s have %s', (part, _, file) => {
  expect(sourcesOf(part)).toContain(file);
});

test('every part has its own file, none has that of another, and none has the product', () => {
  expect(parts.length).toBeGreaterThanOrEqual(10);
  for (const part of parts) {
    const sources = sourcesOf(part);
    expect(sources).toContain(`bench/compare/parts/${part}.ts`);
    const others = parts.filter((name) => name !== part).map((name) => `bench/compare/parts/${name}.ts`);
    expect(sources.filter((file) => others.includes(file) || !file.startsWith('bench/'))).toEqual([]);
  }
});
