/**
 * `npm run renew`: writes every file anew that is made from the code or from what was measured. It needs no
 * server. What it changed, `git diff` shows.
 */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { capacityFile, writeCapacityPage } from '../../bench/capacity/page.ts';
import { resultsFile, writePage } from '../../bench/compare/page.ts';
import { readResults } from '../../bench/compare/results.ts';
import { repoDir } from '../install/repo-dir.ts';
import { runCommand } from '../processes/command.ts';
import { API_TABLES } from './api-tables.ts';
import { generateClient } from './client.ts';
import { renderFields } from './fields-table.ts';
import { fillPlaces } from './markdown.ts';
import { openApiText } from './open-api.ts';
import { renderProviderApi } from './provider-openapi.ts';
import { renderRedisRights } from './redis-rights.ts';
import { renderSettings } from './settings-table.ts';
import { renderSurface } from './surface/surface.ts';

const FORMAT_TIMEOUT_MS = 60_000;

const inRepo = (path: string): string => join(repoDir, path);

/** @param render gets what the file says now */
async function write(path: string, render: (text: string) => string | Promise<string>): Promise<string> {
  const file = inRepo(path);
  writeFileSync(file, await render(existsSync(file) ? readFileSync(file, 'utf8') : ''));
  return file;
}

async function format(files: readonly string[]): Promise<void> {
  const args = [inRepo('node_modules/oxfmt/bin/oxfmt'), ...files];
  const result = await runCommand(process.execPath, args, { cwd: repoDir, timeoutMs: FORMAT_TIMEOUT_MS });
  if (!result.ok) throw new Error(`the files could not be formatted: ${result.reason}\n${result.output}`);
}

await format([
  await write('docs/api.md', (page) => fillPlaces(page, API_TABLES)),
  await write('docs/configuration.md', (page) => fillPlaces(page, { settings: renderSettings })),
  await write('docs/architecture.md', (page) => fillPlaces(page, { 'fields of an order': renderFields })),
  await write('pages/openapi.json', openApiText),
  await write('docs/provider-openapi.json', () => `${JSON.stringify(renderProviderApi(), undefined, 2)}\n`),
  await write('test/surface/surface.json', renderSurface),
  ...writePage(readResults(resultsFile)),
  ...writeCapacityPage(readResults(capacityFile)),
]);
await generateClient();
await write('deploy/redis-rights.txt', renderRedisRights);
console.log('Every derived file is up to date.');
