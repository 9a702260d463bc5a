/** GET /openapi.json before Redocly's linter, by the rules of redocly.yaml beside this file. */

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { json } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';

const LINTER = join(
  dirname(createRequire(import.meta.url).resolve('@redocly/cli/package.json')),
  'bin/cli.js',
);
const RULES = fileURLToPath(new URL('redocly.yaml', import.meta.url));
const DOCUMENT = readFileSync(new URL('../../../pages/openapi.json', import.meta.url), 'utf8');

const report = z.object({
  problems: z.array(
    z.object({
      ruleId: z.string(),
      message: z.string(),
      location: z.array(z.object({ pointer: z.string().optional() })),
    }),
  ),
});

/** What Redocly has to say of a document, a sentence each. */
async function lint(document: string): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-lint-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, 'openapi.json');
  writeFileSync(file, document);
  const child = spawn(process.execPath, [LINTER, 'lint', file, '--config', RULES, '--format=json'], {
    // It would look for newer versions of itself, and report that it was used.
    env: { ...process.env, REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const { problems } = report.parse(await json(child.stdout));
  return problems.map(
    ({ ruleId, message, location }) => `${ruleId}: ${message} (${location[0]?.pointer ?? 'whole'})`,
  );
}

test('Redocly has nothing to say of the document', async () => {
  expect(await lint(DOCUMENT)).toEqual([]);
});

test('Redocly names what is missing, so that its silence says something', async () => {
  const broken = DOCUMENT.replace('"operationId": "placeOrder",', '').replace(
    /"name": "saleId",(?=\s+"in": "path")/,
    '"name": "sale",',
  );
  const said = (await lint(broken)).join('\n');
  expect(said).toContain('operation-operationId: ');
  expect(said).toContain('path-parameters-defined: ');
});
