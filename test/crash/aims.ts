/**
 * Finds that at which a cue is aimed and which the product does not send. Its process would live on, and its
 * test would wait for the death in vain.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { repoDir } from '../../stack/install/repo-dir.ts';
import type { Cue } from '../compositions/cues.ts';

/** Of the product, in one line, as statements are on the wire. */
let source: string | undefined;

const contract = z.object({ paths: z.record(z.string(), z.record(z.string(), z.unknown())) });

/** @returns what the product does not send; empty: the cue may come */
export function findMissing({ once, ...aim }: Cue): string[] {
  const missing = once ? findMissing({ ...once, moment: 'after' }) : [];
  if ('command' in aim) return isCommand(aim.command) ? missing : [...missing, aim.command];
  if ('request' in aim) return isRequest(aim.request) ? missing : [...missing, aim.request];
  const statements = 'statement' in aim ? [aim.statement] : aim.commitOf;
  return [...missing, ...statements.filter((beginning) => !readSource().includes(beginning))];
}

function isCommand(name: string): boolean {
  return existsSync(join(repoDir, 'lua', `${name}.lua`)) || readSource().includes(`.${name}(`);
}

/** The adapter and the sandbox are held to the contract by tests of their own. */
function isRequest(request: string): boolean {
  const { paths } = contract.parse(
    JSON.parse(readFileSync(join(repoDir, 'docs', 'provider-openapi.json'), 'utf8')),
  );
  const [method = '', path = ''] = request.split(' ');
  return paths[path]?.[method.toLowerCase()] !== undefined;
}

function readSource(): string {
  const folder = join(repoDir, 'src');
  source ??= readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => readFileSync(join(folder, file), 'utf8').replaceAll(/\s+/g, ' '))
    .join('\n');
  return source;
}
