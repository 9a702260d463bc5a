/** Finds or fetches Temporal's time-skipping test server, with which workflow tests skip half an hour. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { runCommand } from '../processes/command.ts';
import { canConnect, withFreePort } from '../processes/ports.ts';
import { waitUntil } from '../processes/wait.ts';
import { cacheDir, intoCache, withInstallLock } from './cache.ts';
import { downloadWithSdk } from './sdk-download.ts';

const VERSION = '1.32.0';
const MAVEN_TIMEOUT_MS = 10 * 60_000;
/** Java takes some seconds without the archive, many on a machine that does other work as well. */
const FIRST_START_TIMEOUT_MS = 60_000;

const DOWNLOADED_NAME = 'temporal-test-server';
/** The server brings the interface of a logger alone, which complains on every start where none is there. */
const NO_LOGGER = { artifact: 'slf4j-nop', version: '1.7.36' };
/** The suffix distinguishes it from what earlier versions cached without an archive or a logger. */
const MAVEN_NAME = `temporal-test-server-${VERSION}-archived-${NO_LOGGER.artifact}`;
const SCRIPT_NAME = 'temporal-test-server.sh';
const ARCHIVE_NAME = 'classes.jsa';

/**
 * The server's program: from the cache, else the SDK's download, else its Java original from Maven. Undefined
 * when none can be had: only the tests that need it fail then.
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
    async () => {
      const dir = await intoCache(MAVEN_NAME, (workDir) => fetchWithMaven(workDir, progress));
      const script = join(dir, SCRIPT_NAME);
      // Without the archive the server starts as well, only later.
      await archiveClasses(script).catch((error: unknown) => progress(String(error)));
      return script;
    },
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

/**
 * With the archive of loaded classes and the quick compiler alone the start took 0.3 s where Java's own
 * settings took 2.3 s, on two cores that did other work as well.
 */
function runScript(): string {
  return `#!/bin/sh
dir=$(dirname "$0")
exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:SharedArchiveFile="$dir/${ARCHIVE_NAME}" \\
  -cp "$dir/lib/*" io.temporal.testserver.TestServer "$@"
`;
}

/** Starts the server once where it will run, because Java takes an archive only for the very same paths. */
async function archiveClasses(script: string): Promise<void> {
  const dir = dirname(script);
  const flags = [`-XX:ArchiveClassesAtExit=${join(dir, ARCHIVE_NAME)}`, '-XX:+UseSerialGC'];
  await withFreePort(undefined, async (port) => {
    const args = [...flags, '-cp', join(dir, 'lib', '*'), 'io.temporal.testserver.TestServer', String(port)];
    const server = spawn('java', args, { stdio: 'ignore' });
    const ended = once(server, 'exit');
    try {
      await waitUntil({
        what: "Temporal's time-skipping test server to start",
        timeoutMs: FIRST_START_TIMEOUT_MS,
        check: () => canConnect('127.0.0.1', port),
      });
    } finally {
      server.kill();
      await ended;
    }
  });
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
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>${NO_LOGGER.artifact}</artifactId>
      <version>${NO_LOGGER.version}</version>
    </dependency>
  </dependencies>
</project>
`;
}
