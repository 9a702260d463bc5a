/** What the doctor says of one thing that the promise rests on, and what a 202 means on each store. */

/**
 * ok: as it is to be. warn: it works, and something may be lost or seen late. bad: orders or money may be
 * lost, or nothing is sold. unknown: the server does not say; it may be any of the three.
 */
type Level = 'ok' | 'warn' | 'bad' | 'unknown';

export interface Line {
  level: Level;
  /** What was looked at. */
  what: string;
  found: string;
  /** What it means for the promise; an `ok` has none. */
  means?: string;
  remedy?: string;
}

/** A server's clock beside that of this host. */
export interface ClockReading {
  server: string;
  /** How far it is ahead; negative: behind. */
  aheadMs: number;
  /** The answer was under way for so long, half of it each way: the true value is so near. */
  withinMs: number;
}

/** What was found out by asking one server. */
export interface Checkup {
  lines: Line[];
  clocks?: ClockReading[];
  /** What a 202 means on it. */
  promise?: string;
}

/**
 * @param beganMs when the server was asked, and `endedMs` when its answer was there, by the host's clock
 * @param stepMs of the server's clock: what it says may be so much older than what it means
 */
export function readClock(
  server: string,
  serverMs: number,
  { beganMs, endedMs, stepMs = 1 }: { beganMs: number; endedMs: number; stepMs?: number },
): ClockReading {
  const aheadMs = serverMs + stepMs / 2 - (beganMs + endedMs) / 2;
  return { server, aheadMs: Math.round(aheadMs), withinMs: (endedMs - beganMs + stepMs) / 2 };
}

/** Whether what is said there stays on this machine. */
export function isLoopback(hostname: string): boolean {
  return /^(?:localhost|127(?:\.\d+){3}|\[?::1\]?)$/.test(hostname);
}

/** What a 202 means, by how Redis keeps what it took. */
export const REDIS_PROMISES = {
  always: 'A 202 survives a power cut of Redis: the order is on disk before the answer.',
  everysec:
    'A 202 survives a crash of Redis. A power cut of its machine takes about the last second of what MySQL does not have yet.',
  no: 'A 202 survives a crash of Redis. A power cut of its machine takes up to half a minute of what MySQL does not have yet.',
  replicas:
    'A 202 survives the loss of this Redis where a replica has the order already; a failover takes what was not copied yet, and a restart of all takes what MySQL does not have.',
  snapshots:
    'A 202 is lost with a restart of Redis, where the order is newer than its last snapshot and MySQL does not have it yet.',
  none: 'A 202 is lost with a restart of Redis, where MySQL does not have the order yet.',
  unknown: 'What a 202 survives is not known: Redis does not say how it writes its file.',
} as const;

/** What MySQL has, by how it flushes. */
export const MYSQL_PROMISES = {
  each: 'What MySQL has stored, and each payment that was acknowledged, survives a power cut.',
  binlog:
    'What MySQL has stored survives its crash. A power cut may take the last commits, because the binary log, by which they are decided, is not synced.',
  system:
    'What MySQL has stored survives its crash. A power cut of its machine takes about the last second, acknowledged payments too, until they are found in the book of the provider.',
  none: 'A crash of MySQL takes about the last second of what it has stored, acknowledged payments too, until they are found in the book of the provider.',
} as const;
