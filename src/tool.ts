/** What an operator's tools (ops, audit) say where something fails: a sentence, and never a stack. */

import { availableParallelism, loadavg } from 'node:os';
import { z } from 'zod';
import { messageOf, redactCredentials } from './log.ts';
import { isUnavailable } from './mysql/connection.ts';
import { isRedisAway } from './redis/connection.ts';

/** From it on what waits for a processor waits as long as it works. */
const BUSY_PER_PROCESSOR = 2;

/** By the last minute; a system that has no such figure is never busy. */
export function readLoad(): { text: string; isBusy: boolean } {
  const [load = 0] = loadavg();
  const processors = availableParallelism();
  const text = `a load of ${load.toFixed(1)} on ${processors} ${processors === 1 ? 'processor' : 'processors'}`;
  return { text, isBusy: load > BUSY_PER_PROCESSOR * processors };
}

/** To follow a sentence about what came late; empty where this machine is not busy. */
export function busyNote({ text, isBusy } = readLoad()): string {
  return isBusy ? ` This machine is busy (${text}): ask again later, or from another one.` : '';
}

/** Of gRPC; other errors have a text as their code. */
const grpcError = z.object({ code: z.int(), details: z.string() });

export function describeFailure(error: unknown): string {
  if (isRedisAway(error)) {
    const why = messageOf(error).replace(/\.$/, '');
    return `${why.startsWith('Redis') ? why : `Redis did not answer: ${why}`}.${busyNote()}`;
  }
  if (isUnavailable(error)) return `${messageOf(error)}.${busyNote()}`;
  const grpc = grpcError.safeParse(error).data;
  if (grpc) return `Temporal did not do it: ${grpc.details}.${busyNote()}`;
  if (!(error instanceof Error)) return String(error);
  // What nobody foresaw: by the first place of the stack it can be reported.
  const [, where] = /\n\s+at (.+)/.exec(error.stack ?? '') ?? [];
  return `${error.name}: ${messageOf(error)}${where === undefined ? '' : ` (at ${where})`}`;
}

/**
 * Runs a tool as this process. An error that nobody catches, say of a connection, ends it with a sentence
 * too.
 * @param work returns the exit code
 */
export async function runTool(work: () => Promise<number>): Promise<void> {
  const fail = (error: unknown): never => {
    console.error(redactCredentials(describeFailure(error)));
    process.exit(1);
  };
  process.on('uncaughtException', fail);
  process.exitCode = await work();
}
