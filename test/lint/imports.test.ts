/** Each wall of `lint/walls.mjs` is proven by a file that breaks it. */

import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Each wall is broken at least once: where a file lies, and what it must not import. */
const FORBIDDEN: [file: string, imported: string][] = [
  // The product knows nothing of the sandbox provider, its tools and its tests.
  ['src/process.ts', '../sandbox/server.ts'],
  ['src/providers/remote.ts', '../../sandbox/book/mischief.ts'],
  ['src/redis/keys.ts', '../../sandbox/config.ts'],
  ['src/api/app.ts', '../../sandbox/server.ts'],
  ['src/workers/relay.ts', '../../stack/start.ts'],
  ['src/orders/rows.sql.ts', '../../test/support/rows.ts'],
  ['stack/servers/redis.ts', '../../test/support/stores.ts'],
  ['chaos/sale.ts', '../test/support/stores.ts'],
  ['sandbox/http/server.ts', '../../src/stores/open.ts'],
  ['sandbox/http/server.ts', '../../src/orders/orders.sql.ts'],
  ['sandbox/book/book.ts', '../../src/api/http/auth.ts'],
  ['sandbox/book/book.ts', '../../src/reconcile/drift.ts'],
  ['sandbox/server.ts', '../stack/app.ts'],
  ['sandbox/server.ts', 'ioredis'],
  ['provider-check/check.ts', '../sandbox/server.ts'],
  ['packages/client/src/client.ts', '../../../src/orders/order.ts'],
  ['provider-check/check.ts', '../src/stores/open.ts'],
  ['src/process.ts', '../provider-check/check.ts'],
  // The clients of the stores.
  ['src/orders/order.ts', 'ioredis'],
  ['src/orders/rows.sql.ts', 'ioredis'],
  ['src/workflows/order.ts', 'ioredis'],
  ['src/activities/index.ts', 'mysql2/promise'],
  ['src/api/app.ts', 'ioredis'],
  ['src/api/app.ts', 'mysql2/promise'],
  ['src/workers/relay.ts', 'mysql2'],
  ['src/audit/look.ts', 'mysql2'],
  ['src/orders/reserve.redis.ts', 'mysql2'],
  // The stores.
  ['src/orders/orders.sql.ts', './reserve.redis.ts'],
  ['src/mysql/leases.ts', '../redis/keys.ts'],
  ['src/orders/reserve.redis.ts', './orders.sql.ts'],
  ['src/redis/keys.ts', '../mysql/connection.ts'],
  ['src/audit/reads.redis.ts', './reads.sql.ts'],
  ['src/orders/orders.sql.ts', '../stores/open.ts'],
  ['src/orders/orders.sql.ts', '../providers/provider.ts'],
  ['src/reconcile/rebuild.sql.ts', '../engine/order-engine.ts'],
  ['src/reconcile/holds.redis.ts', '../activities/index.ts'],
  // Rules, the seam, the clients.
  ['src/events/event.ts', '../redis/keys.ts'],
  ['src/money/payment.ts', './rows.sql.ts'],
  ['src/sales/sale.ts', '../stores/open.ts'],
  ['src/stores/open.ts', '../engine/order-engine.ts'],
  ['src/stores/open.ts', '../api/http/problem.ts'],
  ['src/mysql/connection.ts', '../reconcile/drift.ts'],
  ['src/redis/outbox.ts', '../workers/loop.ts'],
  ['src/providers/pacing.ts', './pace.redis.ts'],
  // The nouns.
  ...banned('src/orders/content.ts', [
    'workflows',
    'engine',
    'activities',
    'reconcile',
    'api',
    'workers',
    'audit',
    'ops',
  ]),
  ['src/events/feed.ts', '../workers/loop.ts'],
  ...banned('src/providers/remote.ts', [
    'stores',
    'engine',
    'activities',
    'reconcile',
    'api',
    'workers',
    'audit',
    'ops',
  ]),
  ['src/providers/remote.ts', '../money/payment.sql.ts'],
  // What acts on them.
  ...banned('src/workflows/order.ts', [
    'stores',
    'providers',
    'engine',
    'activities',
    'reconcile',
    'api',
    'workers',
    'audit',
  ]),
  ['src/workflows/order.ts', '../orders/content.ts'],
  ...banned('src/engine/order-engine.ts', [
    'stores',
    'providers',
    'activities',
    'reconcile',
    'api',
    'workers',
    'audit',
  ]),
  ['src/engine/order-engine.ts', '../orders/orders.sql.ts'],
  ...banned('src/reconcile/drift.ts', ['activities', 'api', 'workers', 'audit']),
  ...banned('src/activities/index.ts', ['engine', 'api', 'workers', 'audit']),
  ...banned('src/api/app.ts', ['activities', 'workers', 'audit']),
  ...banned('src/workers/relay.ts', ['api', 'audit']),
  ...banned('src/audit/look.ts', ['activities', 'api', 'workers', 'reconcile']),
  ['src/api/app.ts', '../workflows/order.ts'],
  ['src/workers/relay.ts', '../workflows/steps.ts'],
  ['src/engine/order-engine.ts', '../workflows/index.ts'],
  ['src/activities/index.ts', '../workflows/steps.ts'],
  ['src/workers/relay.ts', '../workflows/refund.ts'],
  ['src/audit/look.ts', '../workflows/order.ts'],
];

const ALLOWED: [file: string, source: string][] = [
  [
    'src/stores/open.ts',
    "import { a } from '../orders/reserve.redis.ts';\nimport { b } from '../orders/orders.sql.ts';",
  ],
  [
    'src/orders/orders.sql.ts',
    "import { a } from './order.ts';\nimport { b } from '../mysql/connection.ts';\nimport { c } from 'mysql2';",
  ],
  ['src/orders/reserve.redis.ts', "import { a } from '../redis/keys.ts';\nimport { b } from 'ioredis';"],
  ['src/audit/look.ts', "import { a } from './reads.redis.ts';\nimport { b } from './reads.sql.ts';"],
  ['src/providers/remote.ts', "import { a } from '../money/payment.ts';\nimport { b } from './provider.ts';"],
  [
    'src/workflows/order.ts',
    "import { a } from '../orders/order.ts';\nimport type { B } from '../activities/index.ts';",
  ],
  [
    'src/engine/order-engine.ts',
    "import { a } from '../workflows/contract.ts';\nimport type { B } from '../orders/rows.sql.ts';",
  ],
  [
    'src/activities/index.ts',
    "import { a } from '../stores/open.ts';\nimport { b } from '../workflows/contract.ts';",
  ],
  [
    'src/workers/relay.ts',
    "import { a } from '../activities/index.ts';\nimport { b } from '../engine/order-engine.ts';",
  ],
  [
    'src/audit/main.ts',
    "import { a } from '../stores/open.ts';\nimport { b } from '../workflows/contract.ts';",
  ],
  [
    'sandbox/http/server.ts',
    "import { a } from '../../src/providers/remote-wire.ts';\nimport { b } from '../book/book.ts';",
  ],
  ['stack/start.ts', "import { a } from '../src/config.ts';\nimport { b } from './servers/servers.ts';"],
  [
    'test/flow/a.test.ts',
    "import { a } from '../../src/api/app.ts';\nimport { b } from '../../sandbox/server.ts';",
  ],
  [
    'src/api/app.ts',
    [
      "import { a } from '../orders/order.ts';",
      "import { b } from '../stores/open.ts';",
      "import { c } from '../providers/open.ts';",
      "import { d } from '../engine/order-engine.ts';",
      "import { e } from '../workflows/contract.ts';",
    ].join('\n'),
  ],
];

const READS_ENVIRONMENT = 'export const value = process.env["VALUE"];';

/** What none of these folders may give the file. */
function banned(file: string, folders: readonly string[]): [string, string][] {
  return folders.map((folder) => [file, `../${folder}/index.ts`]);
}

let folder: string;
let found: Map<string, string[]>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-lint-'));
  await copyRules();
  for (const [i, [where, imported]] of FORBIDDEN.entries()) {
    await write(pathOf(where, i), `import { a } from '${imported}';\nexport const b = a;`);
  }
  for (const [where, source] of ALLOWED) await write(beside(where, 'allowed'), source);
  for (const path of [
    'src/api/reader.ts',
    'src/providers/reader.ts',
    'sandbox/reader.ts',
    'src/config.ts',
    'sandbox/config.ts',
  ]) {
    await write(path, READS_ENVIRONMENT);
  }
  found = await lint();
});
afterAll(() => rm(folder, { recursive: true }));

/** The project's own rules; only what needs types is left out, for the files name nothing that exists. */
async function copyRules(): Promise<void> {
  await cp(join(ROOT, 'lint'), join(folder, 'lint'), { recursive: true });
  const rules = z
    .looseObject({ options: z.looseObject({ typeAware: z.boolean() }) })
    .parse(JSON.parse(await readFile(join(ROOT, '.oxlintrc.json'), 'utf8')));
  await write(
    '.oxlintrc.json',
    JSON.stringify({ ...rules, options: { ...rules.options, typeAware: false } }),
  );
}

async function write(path: string, text: string): Promise<void> {
  const file = join(folder, path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, text);
}

const report = z.object({
  diagnostics: z.array(z.object({ code: z.string(), filename: z.string() })),
});

/** The rules that each file breaks. */
async function lint(): Promise<Map<string, string[]>> {
  const output = await new Promise<string>((resolve) => {
    // It exits with 1, as it should.
    const program = join(ROOT, 'node_modules', '.bin', 'oxlint');
    execFile(program, ['--format', 'json'], { cwd: folder, maxBuffer: 10_000_000 }, (_, stdout) =>
      resolve(stdout),
    );
  });
  const byFile = new Map<string, string[]>();
  for (const { code, filename } of report.parse(JSON.parse(output)).diagnostics) {
    byFile.set(filename, [...(byFile.get(filename) ?? []), code]);
  }
  return byFile;
}

/** The file itself, where no row before it has the same: some walls are about a file of this name. */
function pathOf(file: string, i: number): string {
  const isFirst = FORBIDDEN.findIndex(([where]) => where === file) === i;
  return isFirst ? file : beside(file, `forbidden-${i}`);
}

/** A file of the same folder and the same kind. */
function beside(file: string, name: string): string {
  return join(dirname(file), `${name}${/(\.\w+)?\.ts$/.exec(file)?.[0] ?? ''}`);
}

function brokenBy(path: string): string[] {
  return (found.get(path) ?? []).filter((code) => /house\(walls\)|no-process-env/.test(code));
}

test.each(FORBIDDEN.map(([where, imported], i) => ({ where, imported, i })))(
  '$where must not import $imported',
  ({ where, i }) => {
    expect(new Set(brokenBy(pathOf(where, i)))).toEqual(new Set(['house(walls)']));
  },
);

test.each(ALLOWED)('%s may import what it is built on', (where) => {
  expect(brokenBy(beside(where, 'allowed'))).toEqual([]);
});

test('only the configurations read the environment', () => {
  expect(brokenBy('sandbox/reader.ts')).toEqual([expect.stringContaining('no-process-env')]);
  expect(brokenBy('sandbox/config.ts')).toEqual([]);
  expect(brokenBy('src/api/reader.ts')).toEqual([expect.stringContaining('no-process-env')]);
  expect(brokenBy('src/config.ts')).toEqual([]);
  expect(brokenBy('src/providers/reader.ts')).toEqual([expect.stringContaining('no-process-env')]);
});
