/**
 * Bounds how many workflows this process starts or signals at once, by slots of the engine budget, and makes
 * no calls while Temporal does not answer, and for a while after it failed or was overloaded. The callers
 * store the others ahead or try again.
 */

import type { Logger } from 'pino';
import type { EngineBudget, SlotUse } from '../stores/redis/engine-budget.ts';
import { backoffMs } from './loop.ts';

/**
 * A start takes milliseconds, some dozens under load. With one unanswered for so long, Temporal has stalled.
 */
const STALL_MS = 250;
/**
 * For so long after the first start or signal of a process its worker is cold: code is compiled, connections
 * are opened, and a step takes ten times as long. Starts wait meanwhile, and money does not wait behind them.
 */
const COLD_MS = 5_000;
/**
 * Though money keeps others away, each loop may start one in this time, so that none waits for ever. Four a
 * second take less than a tenth of a small machine.
 */
const FLOOR_MS = 250;

/** What an order passes the gate for. */
type GateUse = Exclude<SlotUse, 'lone start'>;

export type EngineGate = ReturnType<typeof createEngineGate>;

/** @param coldMs 0: the process has worked before */
export function createEngineGate(budget: EngineBudget, log: Logger, coldMs = COLD_MS) {
  let failures = 0;
  let closedUntilMs = 0;
  /** When the calls under way began, in Unix ms; the first is the oldest. */
  const underWay = new Set<{ sinceMs: number }>();
  let coldUntilMs = coldMs === 0 ? 0 : Infinity;

  function isClosed(): boolean {
    const [oldest] = underWay;
    return Date.now() < closedUntilMs || (oldest !== undefined && Date.now() - oldest.sinceMs >= STALL_MS);
  }

  /** In a cold worker an order is started only while nothing else is at work, here or anywhere. */
  function slotUse(use: GateUse): SlotUse {
    return use === 'start' && Date.now() < coldUntilMs ? 'lone start' : use;
  }

  /** After a failure only one order is let through, as a probe. The others are refused without a wait. */
  const limitToProbe = <T>(orders: readonly T[]): readonly T[] =>
    failures === 0 ? orders : orders.slice(0, 1);

  /** @returns those that got a slot and may start or signal now, in the given order */
  async function admit<T>(
    orders: readonly T[],
    orderNoOf: (order: T) => string,
    use: GateUse = 'any',
  ): Promise<T[]> {
    if (isClosed()) return [];
    const granted = new Set(await budget.acquire(limitToProbe(orders).map(orderNoOf), slotUse(use)));
    return orders.filter((order) => granted.has(orderNoOf(order)));
  }

  /**
   * Runs `work`, a start or a signal, for each admitted order. The slots of those that failed are released;
   * those of the others the workflow releases, also one that finds its order ended.
   * @returns those that succeeded
   */
  async function run<T>(
    admitted: readonly T[],
    orderNoOf: (order: T) => string,
    work: (order: T) => Promise<void>,
  ): Promise<T[]> {
    if (admitted.length === 0) return [];
    const results = await Promise.allSettled(admitted.map(watch(work)));
    if (coldUntilMs === Infinity && results.some(({ status }) => status === 'fulfilled'))
      coldUntilMs = Date.now() + coldMs;
    const errors = results.flatMap((result) =>
      result.status === 'rejected' ? [result.reason as unknown] : [],
    );
    await release(
      admitted.filter((_, i) => results[i]?.status === 'rejected'),
      orderNoOf,
    );
    if (errors.length > 0) {
      closedUntilMs = Date.now() + backoffMs(failures);
      failures += 1;
      log.warn(
        { err: errors[0], failed: errors.length, failures },
        'Temporal does not accept orders; pausing',
      );
    } else {
      failures = 0;
    }
    return admitted.filter((_, i) => results[i]?.status === 'fulfilled');
  }

  /** Gives back the slots of orders that are not to be started after all. */
  async function release<T>(admitted: readonly T[], orderNoOf: (order: T) => string): Promise<void> {
    await budget.release(admitted.map(orderNoOf));
  }

  function watch<T>(work: (order: T) => Promise<void>): (order: T) => Promise<void> {
    return async (order) => {
      const call = { sinceMs: Date.now() };
      underWay.add(call);
      return work(order).finally(() => underWay.delete(call));
    };
  }

  /** How many more orders would be admitted now; 0 while Temporal stalls and in a pause after a failure. */
  async function room(use: GateUse = 'any'): Promise<number> {
    return isClosed() ? 0 : Math.min(await budget.room(slotUse(use)), failures === 0 ? Infinity : 1);
  }

  return {
    room,
    /**
     * For one loop.
     * @returns asks how many workflows it may begin now: not none for long, unless the engine is half full
     */
    roomForStarts() {
      let lastMs = Date.now();
      return async (): Promise<number> => {
        const nowMs = Date.now();
        const starts = await room('start');
        if (starts === 0 && nowMs - lastMs < FLOOR_MS) return 0;
        lastMs = nowMs;
        return starts > 0 ? starts : Math.min(await room('late start'), 1);
      };
    },
    admit,
    run,
    release,
  };
}
