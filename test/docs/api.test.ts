/** docs/api.md names everything that the code can answer, and nothing else. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ADMIN_CALLS, SHOP_CALLS } from '../../src/api/calls/calls.ts';
import { sourcedOrderReply } from '../../src/api/calls/find-order.ts';
import { MAX_SALE_BODY_BYTES } from '../../src/api/calls/sales.ts';
import { MAX_WEBHOOK_BYTES } from '../../src/api/calls/webhooks.ts';
import { PROBLEMS } from '../../src/api/http/problem-codes.ts';
import { problemReply } from '../../src/api/http/problem.ts';
import { orderReply } from '../../src/api/http/replies.ts';
import { MAX_BODY_BYTES } from '../../src/api/http/request.ts';
import { ROLE_SCOPES } from '../../src/api/http/scopes.ts';
import { SALE_ID_PATTERN } from '../../src/limits.ts';
import { createMetrics } from '../../src/metrics.ts';
import {
  IDEMPOTENCY_KEY_PATTERN,
  MAX_CART_LINES,
  MAX_LINE_QUANTITY,
  MAX_SKU_BYTES,
  MAX_USER_ID_BYTES,
} from '../../src/orders/content.ts';
import { CLOSING_REASONS, FAILURE_REASONS, ORDER_STATUSES, PAYMENT_STATES } from '../../src/orders/order.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { PROBLEM_CODES } from '../support/api-contract.ts';

const doc = readFileSync(join(repoDir, 'docs', 'api.md'), 'utf8');

/** The rows of the table whose head begins with this cell. */
function rowsOf(head: string): string[][] {
  const lines = doc.split('\n');
  const start = lines.findIndex((line) => new RegExp(`^\\| ${head} +\\|`).test(line));
  const end = lines.findIndex((line, i) => i > start && !line.startsWith('|'));
  return start < 0 ? [] : lines.slice(start + 2, end).map(cellsOf);
}

function cellsOf(row: string): string[] {
  return row
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim());
}

const bare = (cell: string | undefined): string => String(cell).replaceAll('`', '');
const firstCells = (head: string): string[] => rowsOf(head).map(([first]) => bare(first));

test('the table of refusals has every code with its status, and no other', () => {
  const documented = rowsOf('code').map(([code, status]) => `${status} ${bare(code)}`);
  const published = Object.entries(PROBLEMS).map(([code, { status }]) => `${status} ${code}`);
  expect(documented.toSorted()).toEqual(published.toSorted());
  for (const row of rowsOf('code'))
    expect(
      row.every((cell) => cell !== ''),
      row.join(' '),
    ).toBe(true);
});

test('a code that a call names exists, and comes with that status', () => {
  const named = [...doc.matchAll(/\b([45]\d\d) `([a-z_]+)`/g)].map(([, status, code]) => [
    code,
    Number(status),
  ]);
  expect(named.length).toBeGreaterThan(40);
  const problems: { [code: string]: { status: number } } = PROBLEMS;
  expect(named).toEqual(named.map(([code]) => [code, problems[String(code)]?.status]));
});

test('the members of a refusal are named', () => {
  for (const code of PROBLEM_CODES) {
    const extras = Object.keys(problemReply(code).shape).filter(
      (name) => !(name in problemReply('unauthorized').shape),
    );
    const row = rowsOf('code').find(([cell]) => bare(cell) === code);
    for (const name of extras) expect(row?.[2], code).toContain(`\`${name}\``);
  }
});

test.each([
  ['`status`', ORDER_STATUSES],
  ['`payment`', PAYMENT_STATES],
  ['`reason`', [...CLOSING_REASONS, ...FAILURE_REASONS]],
  ['`source`', sourcedOrderReply.shape.source.options],
])('the table of %s has every value, and no other', (head, values) => {
  expect(firstCells(head).toSorted()).toEqual([...values].toSorted());
});

test('a reason is documented under the status that it explains', () => {
  const documented = rowsOf('`reason`').map(([reason, of]) => [bare(reason), bare(of)]);
  expect(Object.fromEntries(documented)).toEqual(
    Object.fromEntries([
      ...CLOSING_REASONS.map((reason) => [reason, 'cancelled']),
      ...FAILURE_REASONS.map((reason) => [reason, 'failed']),
    ]),
  );
});

test('the table of scopes has every call of the back office under the scope that it needs', () => {
  const documented = rowsOf('scope').flatMap(([scope, calls]) =>
    [...String(calls).matchAll(/`([A-Z]+ [^`]+)`/g)].map(([, call]) => `${bare(scope)} ${call}`),
  );
  const known = Object.entries(ADMIN_CALLS).map(
    ([call, { scope }]) => `${scope} ${call.replaceAll(/:(\w+)/g, '{$1}')}`,
  );
  expect(documented.toSorted()).toEqual(known.toSorted());
});

test('the table of roles names the scopes that each adds to the one before', () => {
  let before: readonly string[] = [];
  const added = Object.entries(ROLE_SCOPES).map(([role, scopes]) => {
    const own = scopes.filter((scope) => !before.includes(scope));
    before = scopes;
    return [role, own.toSorted()];
  });
  const documented = rowsOf('role').map(([role, scopes]) => [
    bare(role),
    [...String(scopes).matchAll(/`(\w+:\w+)`/g)].map(([, scope]) => String(scope)).toSorted(),
  ]);
  expect(documented).toEqual(added);
});

test('each member of an order is in the example', () => {
  const examples = [...doc.matchAll(/```json\n([\s\S]*?)```/g)].map(([, json]): unknown =>
    JSON.parse(String(json)),
  );
  expect(examples.filter((example) => orderReply.safeParse(example).success)).toHaveLength(1);
});

test('every route of the app is named, and no other', () => {
  const app = readFileSync(join(repoDir, 'src', 'api', 'app.ts'), 'utf8');
  const inApp = [...app.matchAll(/\.(get|post|put|patch|delete)\(\s*'(\/[^']*)'/g)].map(
    ([, method, path]) => `${String(method).toUpperCase()} ${String(path)}`,
  );
  const routes = [...inApp, ...Object.keys(SHOP_CALLS), ...Object.keys(ADMIN_CALLS)].map((call) =>
    call.replaceAll(/:(\w+)/g, '{$1}'),
  );
  const named = [...doc.matchAll(/`((?:GET|POST|PUT|PATCH|DELETE) \/[^`?]*)`/g)].map(([, call]) =>
    String(call),
  );

  expect(routes.length).toBeGreaterThan(10);
  expect([...new Set(named)].toSorted()).toEqual(routes.toSorted());
});

describe('the bounds', () => {
  test.each([
    ["a sale's id", SALE_ID_PATTERN],
    ['an idempotency key', IDEMPOTENCY_KEY_PATTERN],
  ])('of %s are those of the code', (_, { source }) => {
    expect(doc).toContain(`\`${source}\``);
  });

  test("of the shop's own ids are those of the code", () => {
    expect(doc).toContain(`a SKU 1 to ${MAX_SKU_BYTES} bytes, and a user's id 1 to ${MAX_USER_ID_BYTES}`);
  });

  test('of carts and bodies are those of the code', () => {
    expect(doc).toContain(`1 to ${MAX_CART_LINES} lines`);
    expect(doc).toContain(`a quantity of 1 to ${MAX_LINE_QUANTITY} each`);
    expect(doc).toContain(`at most ${MAX_BODY_BYTES} bytes, a webhook's at most ${MAX_WEBHOOK_BYTES}`);
    expect(doc).toContain(`a sale's at most ${MAX_SALE_BODY_BYTES}`);
  });
});

test('each metric of ours is named, with the values of its label', async () => {
  const text = await createMetrics().read();
  const samples = [...text.matchAll(/^(holdfast_\w+)\{(?!le=)\w+="(\w+)"\}/gm)];

  expect(samples.length).toBeGreaterThan(5);
  for (const [, name, value] of samples) {
    const row = rowsOf('metric').find(([cell]) => cell?.includes(String(name)));
    expect(row?.[1], name).toContain(`\`${value}\``);
  }
});
