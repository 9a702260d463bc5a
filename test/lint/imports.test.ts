import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Each of these is a ban: the folder, and what it must not import. */
const FORBIDDEN: [folder: string, imported: string][] = [
  ...banned('domain', ['stores', 'payments', 'workflows', 'engine', 'activities', 'api', 'workers']),
  ...banned('stores', ['payments', 'workflows', 'engine', 'activities', 'api', 'workers']),
  ...banned('payments', ['stores', 'workflows', 'engine', 'activities', 'api', 'workers']),
  ...banned('workflows', ['stores', 'payments', 'engine', 'activities', 'api', 'workers']),
  ...banned('engine', ['stores', 'payments', 'activities', 'api', 'workers']),
  ...banned('activities', ['engine', 'api', 'workers']),
  ...banned('api', ['activities', 'workers']),
  ...banned('workers', ['api']),
  ['api', '../workflows/order.ts'],
  ['workers', '../workflows/steps.ts'],
  ['engine', '../workflows/index.ts'],
  ['activities', '../workflows/order.ts'],
  ['workers', '../workflows/refund.ts'],
  ['domain', 'ioredis'],
  ['workflows', 'ioredis'],
  ['activities', 'mysql2/promise'],
  ['api', 'ioredis'],
  ['api', 'mysql2/promise'],
  ['workers', 'mysql2'],
];

const ALLOWED: [folder: string, source: string][] = [
  ['stores', "import { a } from '../domain/order.ts';\nimport { b } from 'ioredis';"],
  ['payments', "import { a } from '../domain/payment.ts';"],
  ['workflows', "import { a } from '../domain/order.ts';\nimport type { B } from '../activities/index.ts';"],
  ['engine', "import { a } from '../workflows/contract.ts';"],
  ['activities', "import { a } from '../stores/orders.ts';\nimport { b } from '../workflows/contract.ts';"],
  ['workers', "import { a } from '../activities/index.ts';\nimport { b } from '../engine/order-engine.ts';"],
  [
    'api',
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

function banned(folder: string, imported: string[]): [string, string][] {
  return imported.map((other) => [folder, `../${other}/index.ts`]);
}

let folder: string;
let found: Map<string, string[]>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-lint-'));
  await copyRules();
  for (const [i, [where, imported]] of FORBIDDEN.entries()) {
    await write(`src/${where}/forbidden-${i}.ts`, `import { a } from '${imported}';\nexport const b = a;`);
  }
  for (const [where, source] of ALLOWED) await write(`src/${where}/allowed.ts`, source);
  for (const path of ['src/api/reader.ts', 'src/payments/reader.ts', 'src/config.ts']) {
    await write(path, READS_ENVIRONMENT);
  }
  found = await lint();
});
afterAll(() => rm(folder, { recursive: true }));

/** The project's own rules; only what needs types is left out, for the files name nothing that exists. */
async function copyRules(): Promise<void> {
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
  'src/$where must not import $imported',
  ({ where, i }) => {
    expect(brokenBy(`src/${where}/forbidden-${i}.ts`)).toEqual([
      expect.stringContaining('no-restricted-imports'),
    ]);
  },
);

test.each(ALLOWED)('src/%s may import what it is built on', (where) => {
  expect(brokenBy(`src/${where}/allowed.ts`)).toEqual([]);
});

test('only the configuration reads the environment', () => {
  expect(brokenBy('src/api/reader.ts')).toEqual([expect.stringContaining('no-process-env')]);
  expect(brokenBy('src/config.ts')).toEqual([]);
  expect(brokenBy('src/payments/reader.ts')).toEqual([expect.stringContaining('no-process-env')]);
});
