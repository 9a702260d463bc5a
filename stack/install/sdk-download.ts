/** Downloads Temporal's servers with Temporal's own SDK, with a bound on the time. */

import { chmodSync, existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../processes/command.ts';
import { repoDir } from './repo-dir.ts';

/** For a hundred megabytes over a slow line. */
const DOWNLOAD_TIMEOUT_MS = 5 * 60_000;

/** When not one byte has come by then, a firewall is swallowing the request. */
const FIRST_BYTE_TIMEOUT_MS = 20_000;

/**
 * Has Temporal's SDK download one of its servers, in a process of its own: the SDK's download has no time
 * limit and cannot be called off. Returns the program's path below `workDir`, or why there is none.
 */
export async function downloadWithSdk(
  server: 'createLocal' | 'createTimeSkipping',
  workDir: string,
): Promise<{ ok: true; path: string } | { ok: false; reason: string }> {
  // The SDK starts what it has downloaded; that the start succeeds is a check worth having.
  const script = `
    import { TestWorkflowEnvironment } from '@temporalio/testing';
    const executable = { type: 'cached-download', downloadDir: process.argv[1], ttl: '3650 days' };
    await TestWorkflowEnvironment.${server}({ server: { executable } }).then(
      (env) => env.teardown(),
      (error) => { console.error(error.message); process.exit(1); },
    );`;
  const noAnswer = new AbortController();
  const timer = setTimeout(() => {
    if (bytesIn(workDir) === 0) noAnswer.abort();
  }, FIRST_BYTE_TIMEOUT_MS);
  try {
    const result = await runCommand(
      process.execPath,
      ['--input-type=module', '--eval', script, '--', workDir],
      { cwd: repoDir, timeoutMs: DOWNLOAD_TIMEOUT_MS, signal: noAnswer.signal },
    );
    const file = readdirSync(workDir).find((name) => !name.endsWith('.downloading'));
    if (result.ok && file !== undefined) {
      const path = join(workDir, file);
      chmodSync(path, 0o755);
      return { ok: true, path };
    }
    if (noAnswer.signal.aborted) return { ok: false, reason: 'no answer from the download server' };
    // The SDK nests its errors in one line, the cause last.
    return { ok: false, reason: result.output.trim().split(': ').slice(-2).join(': ') };
  } finally {
    clearTimeout(timer);
  }
}

function bytesIn(dir: string): number {
  if (!existsSync(dir)) return 0;
  return readdirSync(dir).reduce((sum, name) => sum + statSync(join(dir, name)).size, 0);
}
