/** Finds or fetches Temporal's time-skipping test server, with which workflow tests skip half an hour. */

import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../processes/command.ts';
import { cacheDir, intoCache, withInstallLock } from './cache.ts';
import { downloadWithSdk } from './sdk-download.ts';

const VERSION = '1.32.0';
const MAVEN_TIMEOUT_MS = 10 * 60_000;

const DOWNLOADED_NAME = 'temporal-test-server';
const MAVEN_NAME = `temporal-test-server-${VERSION}`;
const SCRIPT_NAME = 'temporal-test-server.sh';

/**
 * The program to give to `createTimeSkipping` as an existing path: from the cache, else the SDK's download,
 * else its Java original from Maven. Undefined when none can be had: the SDK then tries once more by itself
 * and says what is wrong, in the tests that need it alone.
 */
export async function timeSkippingServerPath(
  progress: (line: string) => void = console.log,
): Promise<string | undefined> {
  const cached = findCached();
  if (cached !== undefined) return cached;
  return withInstallLock(DOWNLOADED_NAME, progress, async () => findCached() ?? fetchServer(progress));
}

function findCached(): string | undefined {
  const paths = [join(cacheDir(), DOWNLOADED_NAME), join(cacheDir(), MAVEN_NAME, SCRIPT_NAME)];
  return paths.find((path) => existsSync(path));
}

async function fetchServer(progress: (line: string) => void): Promise<string | undefined> {
  const reasons: string[] = [];
  const attempts = [
    () => downloadServer(progress),
    async () =>
      join(await intoCache(MAVEN_NAME, (workDir) => fetchWithMaven(workDir, progress)), SCRIPT_NAME),
  ];
  for (const attempt of attempts) {
    try {
      return await attempt();
    } catch (error) {
      reasons.push(error instanceof Error ? error.message : String(error));
    }
  }
  progress(`Tests that skip time will fail, for want of Temporal's test server: ${reasons.join('; ')}`);
  return undefined;
}

function downloadServer(progress: (line: string) => void): Promise<string> {
  progress("Downloading Temporal's time-skipping test server with its SDK (once)");
  return intoCache(DOWNLOADED_NAME, async (workDir) => {
    const downloaded = await downloadWithSdk('createTimeSkipping', workDir);
    if (downloaded.ok) return downloaded.path;
    progress(`That download is not possible here: ${downloaded.reason}`);
    throw new Error(downloaded.reason);
  });
}

async function fetchWithMaven(workDir: string, progress: (line: string) => void): Promise<string> {
  progress("Fetching Temporal's time-skipping test server with Maven (once)");
  const whole = join(workDir, 'whole');
  mkdirSync(whole);
  writeFileSync(join(workDir, 'pom.xml'), pom());
  const args = ['-q', '-B', 'dependency:copy-dependencies', `-DoutputDirectory=${join(whole, 'lib')}`];
  const fetched = await runCommand('mvn', args, { cwd: workDir, timeoutMs: MAVEN_TIMEOUT_MS });
  if (!fetched.ok) throw new Error(`${fetched.reason} ${fetched.output.slice(-300)}`.trim());
  const java = await runCommand('java', ['-version'], { timeoutMs: 30_000 });
  if (!java.ok) throw new Error(java.reason);
  const script = join(whole, SCRIPT_NAME);
  writeFileSync(script, runScript());
  chmodSync(script, 0o755);
  return whole;
}

/** `exec`, because the SDK kills the process that it started, and not a child of it. */
function runScript(): string {
  return `#!/bin/sh
exec java -cp "$(dirname "$0")/lib/*" io.temporal.testserver.TestServer "$@"
`;
}

function pom(): string {
  return `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>holdfast</groupId>
  <artifactId>test-server</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>io.temporal</groupId>
      <artifactId>temporal-test-server</artifactId>
      <version>${VERSION}</version>
    </dependency>
  </dependencies>
</project>
`;
}
