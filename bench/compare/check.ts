/** Which figures are older than the code that they were measured on: `npm run bench -- compare --check`. */

import { runCommand } from '../../stack/processes/command.ts';
import type { PartResult, Results } from './results.ts';
import { sourcesOf } from './sources.ts';

const TIMEOUT_MS = 30_000;
/** What every part measures. */
const PRODUCT = ['src', 'lua'];
const COMMIT = /^[0-9a-f]{7,40}$/;

export interface Outdated {
  name: string;
  reason: string;
}

/**
 * Compares contents, not times: a commit that was taken back makes no figure old, and what is not committed
 * yet does.
 * @param names of the parts that there are, measured or not
 */
export async function findOutdated(options: {
  /** The folder of a checkout. */
  repo: string;
  names: readonly string[];
  results: Results;
}): Promise<Outdated[]> {
  const { repo, names, results } = options;
  const outdated: Outdated[] = [];
  for (const name of names) {
    const result = results.parts.find((part) => part.name === name);
    const reason = result === undefined ? 'never measured' : await findReason(repo, result);
    if (reason !== undefined) outdated.push({ name, reason });
  }
  return outdated;
}

async function findReason(
  repo: string,
  { name, commit, measuredAt }: PartResult,
): Promise<string | undefined> {
  const measured = `measured on ${measuredAt.slice(0, 10)} at ${commit}`;
  // As in "abc123 with changes", and "unknown" without git.
  if (!COMMIT.test(commit)) return `${measured}, which no commit has`;
  const paths = ['--', ...PRODUCT, ...sourcesOf(name)];
  const differing = await git(repo, 'diff', '--shortstat', commit, ...paths);
  if (differing === undefined) return `${measured}, which this checkout does not have`;
  if (differing === '') return undefined;
  const last = await git(repo, 'log', '-1', '--format=%h of %cs', `${commit}..HEAD`, ...paths);
  return `${measured}; since then ${differing}, last in ${last || 'what is not committed'}`;
}

/** @returns undefined when git fails, say because it does not know the commit */
async function git(repo: string, ...args: string[]): Promise<string | undefined> {
  const result = await runCommand('git', args, { cwd: repo, timeoutMs: TIMEOUT_MS });
  return result.ok ? result.output.trim() : undefined;
}
