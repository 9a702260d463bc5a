/** Builds programs with Go: the Temporal server, and small tools that only tests need. */

import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../processes/command.ts';
import { cacheDir, intoCache, withInstallLock } from './cache.ts';
import { findProgram } from './server-packages.ts';

const BUILD_TIMEOUT_MS = 15 * 60_000;

/** A Go program, built from its sources. */
export type GoProgram = {
  /** For the progress line. */
  what: string;
  /** Its main package with the version, as `go get` takes it. */
  module: string;
  oldestGoMinor: number;
  /** Modules, each with the version that replaces the one the program asks for. */
  overrides?: readonly string[];
  /** What to do where it cannot be built. */
  advice: string;
};

/** Builds a program into `file`, in a module of its own: only the main module can override versions. */
export async function buildWithGo(
  program: GoProgram,
  { workDir, file, progress }: { workDir: string; file: string; progress: (line: string) => void },
): Promise<void> {
  const { what, module, advice } = program;
  const version = await runCommand('go', ['version'], { timeoutMs: 10_000 });
  const minor = Number(/go1\.(\d+)/.exec(version.output)?.[1] ?? 0);
  if (minor < program.oldestGoMinor) throw new Error(advice);
  progress(`Building ${what} with Go, once`);
  const moduleDir = join(workDir, 'module');
  mkdirSync(moduleDir);
  const steps = [
    ['mod', 'init', 'holdfast.local/build'],
    ['get', module, ...(program.overrides ?? [])],
    ['build', '-ldflags=-s -w', '-o', file, module.replace(/@.*$/, '')],
  ];
  for (const args of steps) {
    const result = await runCommand('go', args, {
      cwd: moduleDir,
      env: { ...process.env, CGO_ENABLED: '0' },
      timeoutMs: BUILD_TIMEOUT_MS,
      onStillRunning: (elapsedMs) => progress(`… Go is at work (${Math.round(elapsedMs / 1000)} s)`),
    });
    if (!result.ok) throw new Error(`${advice} (go ${args[0]}: ${result.reason})\n${result.output}`);
  }
}

/** A small Go program that only tests need, by its name on PATH and in the cache. */
export type GoTool = Omit<GoProgram, 'what' | 'advice'> & { name: string };

/** On PATH, else from the cache, else built. */
export async function locateGoTool(tool: GoTool, progress: (line: string) => void): Promise<string> {
  const { name } = tool;
  const find = (): string | undefined => {
    const cached = join(cacheDir(), name);
    return findProgram([name]) ?? (existsSync(cached) ? cached : undefined);
  };
  const there = find();
  if (there !== undefined) return there;
  return withInstallLock(name, progress, async () => find() ?? intoCache(name, build));

  async function build(workDir: string): Promise<string> {
    const file = join(workDir, name);
    const advice = `${name} cannot be built here: put it on PATH, or install Go 1.${tool.oldestGoMinor} or newer.`;
    await buildWithGo({ ...tool, what: name, advice }, { workDir, file, progress });
    return file;
  }
}
