/** What docs/api.md says by hand of values, codes and calls is what the code can answer. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ADMIN_CALLS, SHOP_CALLS } from '../../src/api/calls/calls.ts';
import { sourcedOrderReply } from '../../src/api/calls/find-order.ts';
import { PROBLEMS } from '../../src/api/http/problem-codes.ts';
import { orderReply } from '../../src/api/http/replies.ts';
import { createMetrics } from '../../src/metrics.ts';
import { CLOSING_REASONS, FAILURE_REASONS, ORDER_STATUSES, PAYMENT_STATES } from '../../src/orders/order.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';

const doc = readFileSync(join(repoDir, 'docs', 'api.md'), 'utf8');

/** The rows of the table whose head begins with this cell, without backticks. */
function rowsOf(head: string): string[][] {
  const lines = doc.split('\n');
  const start = lines.findIndex((line) => new RegExp(`^\\| ${head} +\\|`).test(line));
  const end = lines.findIndex((line, i) => i > start && !line.startsWith('|'));
  return start < 0 ? [] : lines.slice(start + 2, end).map(cellsOf);
}

function cellsOf(row: string): string[] {
  const cells = row.replaceAll('`', '').split('|').slice(1, -1);
  return cells.map((cell) => cell.trim());
}

test.each([
  ['`status`', ORDER_STATUSES],
  ['`payment`', PAYMENT_STATES],
  ['`source`', sourcedOrderReply.shape.source.options],
])('the table of %s has every value, and no other', (head, values) => {
  expect(rowsOf(head).map(([first]) => first)).toEqual(expect.arrayContaining([...values]));
  expect(rowsOf(head)).toHaveLength(values.length);
});

test('the table of `reason` has every reason under the status that it explains, and no other', () => {
  expect(Object.fromEntries(rowsOf('`reason`').map(([reason, of]) => [reason, of]))).toEqual(
    Object.fromEntries([
      ...CLOSING_REASONS.map((reason) => [reason, 'cancelled']),
      ...FAILURE_REASONS.map((reason) => [reason, 'failed']),
    ]),
  );
});

test('a code that is named with a status exists, and comes with that status', () => {
  const named = [...doc.matchAll(/\b([45]\d\d) `([a-z_]+)`/g)].map(([, status, code]) => `${status} ${code}`);
  const known = new Set(Object.entries(PROBLEMS).map(([code, { status }]) => `${status} ${code}`));
  expect(named.filter((each) => !known.has(each))).toEqual([]);
});

test('a call that is named exists', () => {
  const app = readFileSync(join(repoDir, 'src', 'api', 'app.ts'), 'utf8');
  const inApp = [...app.matchAll(/\.(get|post|put|patch|delete)\(\s*'(\/[^']*)'/g)].map(
    ([, method, path]) => `${String(method).toUpperCase()} ${String(path)}`,
  );
  const calls = [...inApp, ...Object.keys(SHOP_CALLS), ...Object.keys(ADMIN_CALLS)].map((call) =>
    call.replaceAll(/:(\w+)/g, '{$1}'),
  );
  const named = [...doc.matchAll(/`((?:GET|POST|PUT|PATCH|DELETE) \/[^`?]*)`/g)].map(
    ([, call]) => call ?? '',
  );
  expect(named.filter((call) => !calls.includes(call))).toEqual([]);
});

test('there is one example of an order, with each of its members', () => {
  const examples = [...doc.matchAll(/```json\n([\s\S]*?)```/g)].map(([, json]): unknown =>
    JSON.parse(String(json)),
  );
  expect(examples.filter((example) => orderReply.safeParse(example).success)).toHaveLength(1);
});

test('each metric of ours is named, with the values of its label', async () => {
  const text = await createMetrics().read();
  const samples = [...text.matchAll(/^(holdfast_\w+)\{(?!le=)\w+="(\w+)"\}/gm)];
  for (const [, name, value] of samples) {
    const row = rowsOf('metric').find(([cell]) => cell?.includes(String(name)));
    expect(row?.[1], name).toContain(String(value));
  }
});
