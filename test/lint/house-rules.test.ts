/** The project's own lint rules complain of what they forbid, and of nothing else. */

import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { repoDir } from '../../stack/install/repo-dir.ts';

const HEADER = '/** Says what this file is for. */\n';

/** A row for each wall of lint/walls.mjs: a file, what it must not import, and what it may. */
const WALLS = [
  ['src/process.ts', '../sandbox/server.ts', './limits.ts'],
  ['stack/start.ts', '../test/support/stores.ts', '../src/config.ts'],
  ['sandbox/http/server.ts', '../../src/stores/open.ts', '../../src/providers/remote-wire.ts'],
  ['packages/client/src/client.ts', '../../../src/orders/order.ts', './send.ts'],
  ['provider-check/check.ts', '../sandbox/server.ts', '../src/providers/remote-wire.ts'],
  ['src/api/watchers.ts', 'ioredis', 'koa'],
  ['src/api/gauges.ts', 'mysql2/promise', 'koa'],
  ['src/orders/order.ts', '../redis/keys.ts', '../limits.ts'],
  ['src/stores/open.ts', '../engine/order-engine.ts', '../orders/orders.sql.ts'],
  ['src/mysql/connection.ts', '../reconcile/drift.ts', 'mysql2'],
  ['src/orders/orders.sql.ts', './reserve.redis.ts', './order.ts'],
  ['src/orders/reserve.redis.ts', './orders.sql.ts', 'ioredis'],
  ['src/sales/sales.sql.ts', '../providers/provider.ts', './rows.sql.ts'],
  ['src/events/feed.ts', '../workers/loop.ts', '../stores/open.ts'],
  ['src/providers/remote.ts', '../money/rows.sql.ts', '../money/payment.ts'],
  ['src/workflows/order.ts', '../orders/content.ts', '../orders/order.ts'],
  ['src/workers/relay.ts', '../workflows/refund.ts', '../workflows/contract.ts'],
  ['src/engine/order-engine.ts', '../orders/orders.sql.ts', '../workflows/contract.ts'],
  ['src/reconcile/drift.ts', '../activities/index.ts', '../stores/open.ts'],
  ['src/activities/index.ts', '../engine/order-engine.ts', '../stores/open.ts'],
  ['src/api/app.ts', '../activities/index.ts', '../engine/order-engine.ts'],
  ['src/workers/starter.ts', '../api/app.ts', '../activities/index.ts'],
  ['src/audit/look.ts', '../reconcile/drift.ts', './reads.sql.ts'],
] as const;

const SOURCES: [path: string, broken: string, source: string][] = [
  ['src/workflows/types.ts', 'no rule', `${HEADER}import type { A } from '../activities/index.ts';`],
  ['src/no-header.ts', 'house(file-header)', 'export const a = 1;'],
  ['src/short-header.ts', 'house(file-header)', '/** A file. */\nexport const a = 1;'],
  ['src/late-header.ts', 'house(file-header)', `import { z } from 'zod';\n${HEADER}export const a = z;`],
  ['src/header.ts', 'no rule', `#!/usr/bin/env node\n${HEADER}export const a = 1;`],
  ['src/loose.ts', 'house(assert-import)', `${HEADER}import assert from 'node:assert';`],
  ['src/named.ts', 'house(assert-import)', `${HEADER}import { ok } from 'node:assert/strict';`],
  ['src/assert.ts', 'no rule', `${HEADER}import assert from 'node:assert/strict';`],
  ['src/wide.ts', 'house(comment-width)', `${HEADER}// ${'wide '.repeat(30)}`],
  ['src/narrow.ts', 'no rule', `${HEADER}// ${'x'.repeat(107)}`],
  ['src/directive.ts', 'no rule', `${HEADER}// oxlint-disable-next-line ${'x'.repeat(110)}`],
  ['src/api/reader.ts', 'node(no-process-env)', `${HEADER}export const a = process.env;`],
  ['src/config.ts', 'no rule', `${HEADER}export const a = process.env;`],
];

let folder: string;
/** `rule:line`, by file. */
let found: Map<string, string[]>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-lint-'));
  await cp(join(repoDir, 'lint'), join(folder, 'lint'), { recursive: true });
  // Only what needs types is left out, for the files name nothing that exists.
  const rules = await readFile(join(repoDir, '.oxlintrc.json'), 'utf8');
  await write('.oxlintrc.json', rules.replace('"typeAware": true', '"typeAware": false'));
  for (const [path, forbidden, allowed] of WALLS)
    await write(path, `${HEADER}import { a } from '${allowed}';\nimport { b } from '${forbidden}';`);
  for (const [path, , source] of SOURCES) await write(path, source);
  found = await lint();
});
afterAll(() => rm(folder, { recursive: true }));

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(folder, path)), { recursive: true });
  await writeFile(join(folder, path), text);
}

const diagnostic = z.object({
  code: z.string(),
  filename: z.string(),
  labels: z.array(z.object({ span: z.object({ line: z.int() }) })),
});
const report = z.object({ diagnostics: z.array(diagnostic) });

async function lint(): Promise<Map<string, string[]>> {
  const program = join(repoDir, 'node_modules', '.bin', 'oxlint');
  const output = await new Promise<string>((resolve) => {
    // It exits with 1, as it should.
    execFile(program, ['--format', 'json'], { cwd: folder }, (_, stdout) => resolve(stdout));
  });
  const byFile = new Map<string, string[]>();
  for (const { code, filename, labels } of report.parse(JSON.parse(output)).diagnostics) {
    if (!/house|no-process-env/.test(code)) continue;
    byFile.set(filename, [...(byFile.get(filename) ?? []), `${code}:${labels[0]?.span.line}`]);
  }
  return byFile;
}

test.each(WALLS)('%s must not import %s, and may import %s', (path) => {
  expect(found.get(path)).toEqual(['house(walls):3']);
});

test.each(SOURCES)('%s breaks %s', (path, broken) => {
  const rules = found.get(path)?.map((each) => each.split(':')[0]);
  expect(rules ?? ['no rule']).toEqual([broken]);
});
