/**
 * Tells what of the product runs in this process: the functions, by V8's precise coverage, and the Lua
 * scripts, by the commands that Redis is sent. Workflows run in an isolate of their own, which V8 does not
 * count here.
 */

import { createHash } from 'node:crypto';
import { tracingChannel } from 'node:diagnostics_channel';
import { Session } from 'node:inspector/promises';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { listFiles, readText } from '../house/sources.ts';

/** A function of a file in `src`, or a file in `lua`. */
export interface Part {
  file: string;
  /** Undefined: the whole script. Functions without a name are told apart by their places. */
  at: string | undefined;
  /** The lines of a function, as it is executed: without types and comments. */
  lines: readonly number[];
}

/** By a text that is equal for equal parts. */
export type Parts = ReadonlyMap<string, Part>;

export interface Recorder {
  /** What has run since it was asked last. */
  take(): Promise<Parts>;
  stop(): Promise<void>;
}

const SRC_URL = `${pathToFileURL(repoDir).href}/src/`;

/**
 * How Vite has a module's names read by other modules. Such a function runs wherever a name is used, that
 * of a constant too.
 */
const NAME_READER = /^\(\) => \{ try \{ return [^{}]* \} catch \{\} \}$/;

export async function startRecording(): Promise<Recorder> {
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
  // Its scripts can be read only by a session that debugs; nothing is paused.
  await session.post('Debugger.enable');
  const texts = new Map<string, string>();
  const scripts = recordScripts();

  async function readScript(scriptId: string): Promise<string> {
    const known = texts.get(scriptId);
    if (known !== undefined) return known;
    const { scriptSource } = await session.post('Debugger.getScriptSource', { scriptId });
    texts.set(scriptId, scriptSource);
    return scriptSource;
  }

  return {
    async take() {
      const { result } = await session.post('Profiler.takePreciseCoverage');
      const parts = new Map<string, Part>();
      for (const { url, scriptId, functions } of result.filter((script) => script.url.startsWith(SRC_URL))) {
        const file = `src/${url.slice(SRC_URL.length)}`;
        const text = await readScript(scriptId);
        for (const { functionName, ranges } of functions) {
          const [whole] = ranges;
          if (!whole || whole.count === 0) continue;
          if (NAME_READER.test(text.slice(whole.startOffset, whole.endOffset))) continue;
          const at = `${functionName}@${whole.startOffset}`;
          parts.set(`${file} ${at}`, { file, at, lines: linesIn(text, whole) });
        }
      }
      for (const file of scripts.take()) parts.set(file, { file, at: undefined, lines: [] });
      return parts;
    },
    async stop() {
      scripts.stop();
      await session.post('Profiler.stopPreciseCoverage');
      session.disconnect();
    },
  };
}

/** The numbers of the lines in this range that have any code. */
function linesIn(
  text: string,
  { startOffset, endOffset }: { startOffset: number; endOffset: number },
): number[] {
  const first = text.slice(0, startOffset).split('\n').length;
  const lines = text.slice(startOffset, endOffset).split('\n');
  return lines.flatMap((line, i) => (line.trim() === '' ? [] : [first + i]));
}

const commandSent = z.object({ command: z.string(), args: z.tuple([z.string()], z.string()) });

/** The files of the scripts that any connection of this process sends, with what they include. */
function recordScripts() {
  const files = new Map(listFiles('lua').map((file) => [sha1(readScriptText(file)), filesOf(file)]));
  const sent = new Set<string>();
  const channel = tracingChannel('ioredis:command');
  const start = (message: unknown): void => {
    const { success, data } = commandSent.safeParse(message);
    if (!success || !/^eval(sha)?$/i.test(data.command)) return;
    const [script] = data.args;
    const sha = data.command.toLowerCase() === 'eval' ? sha1(script) : script;
    // A library has scripts of its own.
    for (const file of files.get(sha) ?? []) sent.add(file);
  };
  channel.start.subscribe(start);
  return {
    take(): string[] {
      const taken = [...sent];
      sent.clear();
      return taken;
    },
    stop(): void {
      channel.start.unsubscribe(start);
    },
  };
}

const INCLUDE = /^-- include (\S+)$/gm;

/** As the product sends it: with what it includes in the place of the line that names it. */
function readScriptText(file: string): string {
  return readText(file).replaceAll(INCLUDE, (_, included: string) => readScriptText(`lua/${included}`));
}

function filesOf(file: string): string[] {
  const included = [...readText(file).matchAll(INCLUDE)].map(([, name]) => `lua/${name}`);
  return [file, ...included.flatMap(filesOf)];
}

function sha1(text: string): string {
  return createHash('sha1').update(text).digest('hex');
}
