/** The project's own lint rules: each must complain of what it forbids. */

import { execFile } from 'node:child_process';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const HEADER = '/** Says what this file is for. */';

const FORBIDDEN = {
  'no-header': 'export const a = 1;',
  'line-comment': '// Says what this file is for, but not as documentation.\nexport const a = 1;',
  'short-header': '/** A file. */\nexport const a = 1;',
  'header-below-imports': `import { z } from 'zod';\n${HEADER}\nexport const a = z;`,
};
const ALLOWED = {
  'one-line': `${HEADER}\nexport const a = 1;`,
  'many-lines': '/**\n * Says what this file\n * is for.\n */\nexport const a = 1;',
  executable: `#!/usr/bin/env node\n${HEADER}\nexport const a = 1;`,
};
const WRONG_ASSERTS = {
  'assert-loose': "import assert from 'node:assert';",
  'assert-bare': "import assert from 'assert/strict';",
  'assert-named': "import { ok } from 'node:assert/strict';",
  'assert-renamed': "import check from 'node:assert/strict';",
  'assert-namespace': "import * as assert from 'node:assert/strict';",
};
const WIDE = {
  'wide-line': `${HEADER}\n// ${'wide '.repeat(30)}\nexport const a = 1;`,
  'wide-documentation': `${HEADER}\n/**\n * ${'wide '.repeat(30)}\n */\nexport const a = 1;`,
};
const NOT_WIDE = {
  'narrow-line': `${HEADER}\n// ${'x'.repeat(107)}\nexport const a = 1;`,
  directive: `${HEADER}\n// oxlint-disable-next-line ${'x'.repeat(110)}\nexport const a = 1;`,
};
const RIGHT_ASSERT = { 'assert-right': "import assert from 'node:assert/strict';" };

let folder: string;
let found: Map<string, string[]>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-lint-'));
  await cp(join(ROOT, 'lint'), join(folder, 'lint'), { recursive: true });
  const config = {
    jsPlugins: ['./lint/house-rules.mjs'],
    categories: { correctness: 'off' },
    rules: { 'house/file-header': 'error', 'house/comment-width': 'error', 'house/assert-import': 'error' },
  };
  await writeFile(join(folder, '.oxlintrc.json'), JSON.stringify(config));
  for (const [name, source] of Object.entries({ ...FORBIDDEN, ...ALLOWED, ...WIDE, ...NOT_WIDE })) {
    await writeFile(join(folder, `${name}.ts`), source);
  }
  for (const [name, source] of Object.entries({ ...WRONG_ASSERTS, ...RIGHT_ASSERT })) {
    await writeFile(join(folder, `${name}.ts`), `${HEADER}\n\n${source}`);
  }
  found = await lint();
});
afterAll(() => rm(folder, { recursive: true }));

const report = z.object({
  diagnostics: z.array(z.object({ code: z.string(), filename: z.string() })),
});

/** The rules that each file breaks. */
async function lint(): Promise<Map<string, string[]>> {
  const output = await new Promise<string>((resolve) => {
    const program = join(ROOT, 'node_modules', '.bin', 'oxlint');
    // It exits with 1, as it should.
    execFile(program, ['--format', 'json'], { cwd: folder }, (_, stdout) => resolve(stdout));
  });
  const byFile = new Map<string, string[]>();
  for (const { code, filename } of report.parse(JSON.parse(output)).diagnostics) {
    byFile.set(filename, [...(byFile.get(filename) ?? []), code]);
  }
  return byFile;
}

test.each(Object.keys(FORBIDDEN))('a file without a header at its top is refused: %s', (name) => {
  expect(found.get(`${name}.ts`)).toEqual([expect.stringContaining('file-header')]);
});

test.each(Object.keys(WRONG_ASSERTS))('assert is imported in one form alone: %s', (name) => {
  expect(found.get(`${name}.ts`)).toEqual([expect.stringContaining('assert-import')]);
});

test.each(Object.keys({ ...ALLOWED, ...RIGHT_ASSERT }))('what follows the rules is accepted: %s', (name) => {
  expect(found.get(`${name}.ts`)).toBeUndefined();
});

test.each(Object.keys(WIDE))('a comment that is too wide is refused: %s', (name) => {
  expect(found.get(`${name}.ts`)).toEqual([expect.stringContaining('comment-width')]);
});

test.each(Object.keys(NOT_WIDE))('a comment of at most 110 columns, or a directive, is fine: %s', (name) => {
  expect(found.get(`${name}.ts`)).toBeUndefined();
});
