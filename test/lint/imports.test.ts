/** Each import ban of the lint configuration is proven once by a file that breaks it. */

import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Of src, the domain apart. */
const ROOMS = [
  'stores',
  'payments',
  'workflows',
  'engine',
  'activities',
  'reconcile',
  'api',
  'workers',
  'audit',
];

/** Each of these is a ban: where a file lies, and what it must not import. */
const FORBIDDEN: [folder: string, imported: string][] = [
  ...banned('src/domain', ROOMS),
  ...banned('src/stores', ROOMS, ['stores']),
  ['src/stores/redis', '../mysql/connection.ts'],
  ['src/stores/mysql/orders', '../../redis/keys.ts'],
  ['src/stores/redis', '../audit/redis-reads.ts'],
  ...banned('src/payments', ROOMS, ['payments']),
  ...banned('src/workflows', ROOMS, ['workflows']),
  ...banned('src/engine', ROOMS, ['engine', 'workflows']),
  ...banned('src/reconcile', ['activities', 'api', 'workers', 'audit']),
  ...banned('src/activities', ['engine', 'api', 'workers', 'audit']),
  ...banned('src/api', ['activities', 'workers', 'audit']),
  ...banned('src/workers', ['api', 'audit']),
  ...banned('src/audit', ['activities', 'api', 'workers']),
  ['src/api', '../workflows/order.ts'],
  ['src/workers', '../workflows/steps.ts'],
  ['src/engine', '../workflows/index.ts'],
  ['src/activities', '../workflows/until-done.ts'],
  ['src/workers', '../workflows/refund.ts'],
  ['src/audit', '../workflows/summaries.ts'],
  ['src/domain', 'ioredis'],
  ['src/workflows', 'ioredis'],
  ['src/activities', 'mysql2/promise'],
  ['src/api', 'ioredis'],
  ['src/api', 'mysql2/promise'],
  ['src/workers', 'mysql2'],
  ['src/audit', 'mysql2'],
  // The product knows nothing of the sandbox provider, its tools and its tests.
  ['src', '../sandbox/server.ts'],
  ['src/payments/remote', '../../../sandbox/book/mischief.ts'],
  ['src/stores/redis', '../../../sandbox/config.ts'],
  ['src/api', '../../sandbox/server.ts'],
  ['src/workers', '../../stack/start.ts'],
  ['src/stores/mysql/rows', '../../../../test/support/rows.ts'],
  ['sandbox/http', '../../src/stores/open.ts'],
  ['sandbox/book', '../../src/api/http/auth.ts'],
  ['sandbox', '../stack/app.ts'],
  ['sandbox', 'ioredis'],
  ['stack/servers', '../../test/support/stores.ts'],
  ['chaos', '../test/support/stores.ts'],
];

const ALLOWED: [folder: string, source: string][] = [
  ['src/stores', "import { a } from './redis/keys.ts';\nimport { b } from 'ioredis';"],
  [
    'src/stores/mysql/orders',
    "import { a } from '../../../domain/order.ts';\nimport { b } from '../connection.ts';",
  ],
  ['src/stores/audit', "import { a } from '../redis/keys.ts';\nimport { b } from '../mysql/connection.ts';"],
  ['src/payments', "import { a } from '../domain/payment.ts';\nimport { b } from './sandbox/adapter.ts';"],
  ['src/payments/remote', "import { a } from '../provider.ts';"],
  [
    'src/workflows',
    "import { a } from '../domain/order.ts';\nimport type { B } from '../activities/index.ts';",
  ],
  ['src/engine', "import { a } from '../workflows/contract.ts';"],
  ['src/activities', "import { a } from '../stores/open.ts';\nimport { b } from '../workflows/contract.ts';"],
  [
    'src/workers',
    "import { a } from '../activities/index.ts';\nimport { b } from '../engine/order-engine.ts';",
  ],
  ['src/audit', "import { a } from '../stores/open.ts';\nimport { b } from '../workflows/contract.ts';"],
  [
    'sandbox/http',
    "import { a } from '../../src/payments/remote/wire.ts';\nimport { b } from '../book/book.ts';",
  ],
  ['stack', "import { a } from '../src/config.ts';\nimport { b } from './servers/servers.ts';"],
  ['test/flow', "import { a } from '../../src/api/app.ts';\nimport { b } from '../../sandbox/server.ts';"],
  [
    'src/api',
    [
      "import { a } from '../domain/order.ts';",
      "import { b } from '../stores/open.ts';",
      "import { c } from '../payments/open.ts';",
      "import { d } from '../engine/order-engine.ts';",
      "import { e } from '../workflows/contract.ts';",
    ].join('\n'),
  ],
];

const READS_ENVIRONMENT = 'export const value = process.env["VALUE"];';

function banned(
  folder: string,
  imported: readonly string[],
  except: readonly string[] = [],
): [string, string][] {
  return imported.filter((room) => !except.includes(room)).map((room) => [folder, `../${room}/index.ts`]);
}

let folder: string;
let found: Map<string, string[]>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-lint-'));
  await copyRules();
  for (const [i, [where, imported]] of FORBIDDEN.entries()) {
    await write(`${where}/forbidden-${i}.ts`, `import { a } from '${imported}';\nexport const b = a;`);
  }
  for (const [where, source] of ALLOWED) await write(`${where}/allowed.ts`, source);
  for (const path of [
    'src/api/reader.ts',
    'src/payments/reader.ts',
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

function brokenBy(path: string): string[] {
  return (found.get(path) ?? []).filter((code) => /no-restricted-imports|no-process-env/.test(code));
}

test.each(FORBIDDEN.map(([where, imported], i) => ({ where, imported, i })))(
  '$where must not import $imported',
  ({ where, i }) => {
    expect(brokenBy(`${where}/forbidden-${i}.ts`)).toEqual([
      expect.stringContaining('no-restricted-imports'),
    ]);
  },
);

test.each(ALLOWED)('%s may import what it is built on', (where) => {
  expect(brokenBy(`${where}/allowed.ts`)).toEqual([]);
});

test('only the configurations read the environment', () => {
  expect(brokenBy('sandbox/reader.ts')).toEqual([expect.stringContaining('no-process-env')]);
  expect(brokenBy('sandbox/config.ts')).toEqual([]);
  expect(brokenBy('src/api/reader.ts')).toEqual([expect.stringContaining('no-process-env')]);
  expect(brokenBy('src/config.ts')).toEqual([]);
  expect(brokenBy('src/payments/reader.ts')).toEqual([expect.stringContaining('no-process-env')]);
});
