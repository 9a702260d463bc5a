/**
 * The projection of orders as the API reads and writes it. Once an API has answered what it could not
 * project, the projection may be older than an answer: then all APIs doubt it for a while, and go by MySQL.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { Stores } from '../../stores/open.ts';
import { isDamaged } from '../../stores/redis/damage.ts';
import type { OrderLook, ReservedOrder } from '../../stores/redis/reservations.ts';
import { unavailable } from '../http/problem.ts';

/**
 * The workflows repeat what they could not project at most a minute apart, and a step takes seconds. A
 * doubted read costs one read of MySQL by primary key.
 */
const DOUBTED_FOR_MS = 2 * 60_000;
/** A doubt is recorded for longer, so that it is recorded once a minute, however many answers need it. */
const RECORDED_FOR_MS = 3 * 60_000;
/**
 * So long a process goes by its look at what is recorded. One that records a doubt answers nothing before
 * all looks from before it have run out.
 */
const LOOK_HOLDS_MS = 500;
/** A timer may fire early by a fraction of a millisecond; clocks of two machines run alike. */
const MARGIN_MS = 50;
export type Projection = ReturnType<typeof createProjection>;

export function createProjection({ reservations, projectionDoubts, log }: Stores) {
  const doubt = createDoubt(projectionDoubts);

  async function doubtForAll(): Promise<void> {
    try {
      await doubt.spread();
    } catch (error) {
      throw unavailable('status_unavailable', 'The status cannot be read right now.', error);
    }
  }

  return {
    /** It may be older than what was answered, by this process or another. */
    isDoubted: doubt.isDoubted,

    /**
     * Where Redis does not answer, MySQL may be asked: all APIs doubt the projection from then on.
     * @throws Problem 503 when they cannot be told
     */
    async read(orderNo: string): Promise<OrderLook | 'no-answer'> {
      try {
        return await reservations.lookUp(orderNo);
      } catch (error) {
        log.warn({ err: error, orderNo }, 'no answer from Redis; asking MySQL');
        // What is damaged is so for every API.
        if (!isDamaged(error)) await doubtForAll();
        return 'no-answer';
      }
    },

    /**
     * Projects what MySQL has before it is answered, so that no later answer is older. Where Redis does not
     * answer, all APIs doubt the projection until the workflows have projected again.
     * @throws Problem 503 when they cannot be told
     */
    async project({ order: { orderNo }, state }: ReservedOrder): Promise<void> {
      try {
        await reservations.project(orderNo, state);
      } catch (error) {
        log.warn({ err: error, orderNo }, 'answered and not projected');
        if (!isDamaged(error)) await doubtForAll();
      }
    },
  };
}

/** What this process knows of the doubt that all share. Its times are of `performance.now()`. */
function createDoubt(doubts: Stores['projectionDoubts']) {
  let doubtedUntilMs = 0;
  /** When the latest look began that was answered, or ended that was not. */
  let lookedAtMs = -Infinity;
  /** By the latest look. Nobody waits for a store that does not answer. */
  let isMysqlAway = false;
  let looking: Promise<void> | undefined;
  /** Until when all doubt, as this process has recorded it. */
  let recordedUntilMs = 0;
  let recording: Promise<void> | undefined;

  async function look(): Promise<void> {
    const begunMs = performance.now();
    try {
      const leftMs = await doubts.readLeftMs();
      isMysqlAway = false;
      lookedAtMs = begunMs;
      doubtedUntilMs = Math.max(doubtedUntilMs, performance.now() + leftMs);
    } catch {
      // MySQL is away for this process, which has the projection alone. The next look comes as soon.
      isMysqlAway = true;
      lookedAtMs = performance.now();
    }
  }

  function lookTogether(): Promise<void> {
    looking ??= look().finally(() => (looking = undefined));
    return looking;
  }

  /** A look that is under way already may have begun too early for a caller who comes now. */
  async function isDoubtedAfterLook(nowMs: number): Promise<boolean> {
    await lookTogether();
    if (lookedAtMs <= nowMs - LOOK_HOLDS_MS) await lookTogether();
    return performance.now() < doubtedUntilMs;
  }

  async function record(): Promise<void> {
    const begunMs = performance.now();
    await doubts.record(RECORDED_FOR_MS);
    // Where the doubt before this one still holds, no look in between has found none.
    if (performance.now() >= recordedUntilMs) await delay(LOOK_HOLDS_MS + MARGIN_MS);
    recordedUntilMs = begunMs + RECORDED_FOR_MS;
  }

  return {
    /** At once where the latest look still holds. The next one begins before, so that few callers wait. */
    isDoubted(): boolean | Promise<boolean> {
      const nowMs = performance.now();
      if (nowMs < doubtedUntilMs) return true;
      const ageMs = nowMs - lookedAtMs;
      if (ageMs < LOOK_HOLDS_MS || isMysqlAway) {
        if (ageMs > LOOK_HOLDS_MS / 2) void lookTogether();
        return false;
      }
      return isDoubtedAfterLook(nowMs);
    },

    /**
     * Has all APIs doubt the projection. Returns once none of them believes it any more.
     * @throws when MySQL does not take it
     */
    async spread(): Promise<void> {
      if (recordedUntilMs - performance.now() < DOUBTED_FOR_MS) {
        recording ??= record().finally(() => (recording = undefined));
        // Where it fails nothing is answered, so that there is nothing to doubt.
        await recording;
      }
      doubtedUntilMs = Math.max(doubtedUntilMs, performance.now() + DOUBTED_FOR_MS);
    },
  };
}
