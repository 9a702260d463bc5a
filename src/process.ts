/** How each process of Holdfast lives: configuration, work, an ordered end. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { ConfigError } from './config.ts';
import { WrongDeploymentError } from './deployment.ts';
import { createLog, redactCredentials } from './log.ts';

/**
 * After the drain. Longer than any part needs to finish its work; shorter than the 30 s after which
 * orchestrators kill.
 */
const STOP_DEADLINE_MS = 25_000;

export interface Service {
  /** Settles when the service ends; it does so by itself only when it fails. */
  ended: Promise<unknown>;
  /** After a signal it serves on for a while, and says that it is about to stop. A failure skips this. */
  drain?: { ms: number; begin(): void };
  /** Takes nothing new on, finishes what is in hand, closes. */
  stop(): Promise<void>;
}

/** A fault that only an operator can mend, such as a store that is away: reported without a stack. */
export class OperatorError extends Error {
  override name = 'OperatorError';
}

/** Runs a service until SIGTERM or SIGINT, or until the service fails; sets the exit code. */
export async function runProcess<C extends { LOG_LEVEL: string }>(
  name: string,
  loadConfig: () => C,
  start: (config: C, log: Logger) => Promise<Service> | Service,
): Promise<void> {
  const signalled = new Promise<string>((resolve) => {
    process.once('SIGTERM', resolve).once('SIGINT', resolve);
  });
  await runTask(name, loadConfig, async (config, log) => {
    const service = await start(config, log);
    // A service that ends unasked has failed: the supervisor should start another.
    const failed = service.ended.then(() => undefined, logged(log));
    const signal = await Promise.race([signalled, failed]);
    const { drain } = service;
    if (signal === undefined) process.exitCode = 1;
    else log.info({ signal }, 'stopping');
    setTimeout(
      () => {
        log.error('not stopped within the deadline');
        process.exit(1);
      },
      (drain?.ms ?? 0) + STOP_DEADLINE_MS,
    ).unref();
    if (signal !== undefined && drain) {
      drain.begin();
      if (!(await Promise.race([delay(drain.ms, true), failed]))) process.exitCode = 1;
    }
    await service.stop();
    log.info('stopped');
  });
}

/** Runs what ends by itself; sets the exit code to 1 when it fails. */
export async function runTask<C extends { LOG_LEVEL: string }>(
  name: string,
  loadConfig: () => C,
  work: (config: C, log: Logger) => Promise<void>,
): Promise<void> {
  try {
    const config = loadConfig();
    await work(config, createLog(name, config.LOG_LEVEL));
  } catch (error) {
    process.exitCode = 1;
    if (
      error instanceof ConfigError ||
      error instanceof OperatorError ||
      error instanceof WrongDeploymentError
    )
      console.error(redactCredentials(error.message));
    else createLog(name, 'info').fatal({ err: error }, 'could not run');
  }
  // Nothing of ours is left to do; a library's forgotten timer must not keep the process.
  setTimeout(() => process.exit(), 1_000).unref();
}

function logged(log: Logger) {
  return (error: unknown): undefined => {
    log.fatal({ err: error }, 'failed');
  };
}
