/** The alerts are rules that Prometheus takes, each fires in time, and each has its place in the runbook. */

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { tool } from '../support/tools.ts';

const run = promisify(execFile);
const cwd = join(repoDir, 'monitoring');
const rules = z
  .object({
    groups: z.array(z.object({ rules: z.array(z.object({ alert: z.string(), expr: z.string() })) })),
  })
  .parse(parse(readFileSync(join(cwd, 'alerts.yaml'), 'utf8')))
  .groups.flatMap((group) => group.rules);

const promtool = tool('promtool');

test('promtool takes the rules', async () => {
  const { stdout } = await run(promtool, ['check', 'rules', 'alerts.yaml'], { cwd });
  expect(stdout).toContain(`SUCCESS: ${rules.length} rules found`);
});

test('promtool takes the configuration of the compose file', async () => {
  const { stdout } = await run(promtool, ['check', 'config', 'prometheus.yaml'], { cwd });
  expect(stdout).toContain('SUCCESS');
});

test('each alert fires in time, and none while all is well', async () => {
  const { stdout } = await run(promtool, ['test', 'rules', 'alerts.test.yaml'], { cwd });
  expect(stdout).toContain('SUCCESS');
  const tests = readFileSync(join(cwd, 'alerts.test.yaml'), 'utf8');
  for (const { alert } of rules) {
    expect(tests.match(new RegExp(`alertname: ${alert}\\b`, 'g'))?.length, alert).toBeGreaterThanOrEqual(2);
  }
});

test('a rule that can never fire is noticed', async () => {
  const broken = readFileSync(join(cwd, 'alerts.yaml'), 'utf8').replace('state="silent"', 'state="silence"');
  const dir = await mkdtemp(join(tmpdir(), 'holdfast-alerts-'));
  try {
    await writeFile(join(dir, 'alerts.yaml'), broken);
    await copyFile(join(cwd, 'alerts.test.yaml'), join(dir, 'alerts.test.yaml'));
    await expect(run(promtool, ['test', 'rules', 'alerts.test.yaml'], { cwd: dir })).rejects.toThrow(
      'HoldfastWorkerSilent',
    );
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

test('operations.md has a section for each alert', () => {
  const text = readFileSync(join(repoDir, 'docs', 'operations.md'), 'utf8');
  for (const { alert } of rules) expect(text).toContain(`\n### ${alert}\n`);
});
