/** Walks a long list page by page over many runs, and looks for workflows that should run and do not. */

import pLimit from 'p-limit';
import type { OrderEngine } from '../engine/order-engine.ts';
import type { Stores } from '../stores/open.ts';
import { type StepReport } from '../workflows/contract.ts';

/**
 * Finds one kind of inconsistency and mends what is provably wrong. A run is bounded, and may be repeated, by
 * two processes at once as well; a step that walks remembers its cursor itself.
 * @param signal ends a run early when it aborts; the next run goes on
 * @throws when a store or the provider is away: the next run tries again
 */
export type Step<Deps> = (deps: Deps, signal: AbortSignal) => Promise<StepReport>;

/** Rows of one query. */
const PAGE_SIZE = 500;
/** Pages of one run, where each row costs a call to Temporal, whose time orders need more. */
const PAGES_MAX = 2;
/**
 * Pages of one run, where a row costs a part of a call: 300,000 rows are walked in six runs, one a minute.
 */
export const MANY_PAGES_MAX = 100;
/** A run goes on with no further page after so long, so that the next run begins in its time. */
const RUN_MAX_MS = 40_000;
/** Calls to Temporal at once: few, because it is the slowest part. */
const AT_ONCE = 4;

/** `P`: the fields of a row by which a walk goes on. */
export interface Walk<P, T extends P> {
  /** Under which its cursor is kept. */
  name: string;
  /** The rows that follow this one, in the order of the walk; from the first where there is none. */
  list: (after: P | undefined, limit: number) => Promise<T[]>;
  format: (row: P) => string;
  /** Undefined for a text that `format` has not made. */
  parse: (cursor: string) => P | undefined;
  /** Of one run. */
  pagesMax?: number;
}

/**
 * The pages of one run. The next run goes on after the last page that was handled, and from the first row
 * once the end was reached.
 */
export async function* walkPages<P, T extends P>(
  { name, list, format, parse, pagesMax = PAGES_MAX }: Walk<P, T>,
  cursors: Stores['cursors'],
  signal: AbortSignal,
): AsyncGenerator<T[]> {
  const cursor = await cursors.read(name);
  let after: P | undefined = cursor === undefined ? undefined : parse(cursor);
  const mayGoOn = inOneRun(pagesMax, signal);
  while (mayGoOn()) {
    const page = await list(after, PAGE_SIZE);
    // The caller has handled the page when it asks for the next.
    yield page;
    after = page.length === PAGE_SIZE ? page.at(-1) : undefined;
    await cursors.save(name, after && format(after));
    if (!after) return;
  }
}

/** @returns whether a run may go on with a further page: asked once for each */
export function inOneRun(pagesMax: number, signal: AbortSignal): () => boolean {
  const beganMs = performance.now();
  let pages = 0;
  return () => {
    pages += 1;
    return pages <= pagesMax && !signal.aborted && performance.now() - beganMs < RUN_MAX_MS;
  };
}

/** @returns those of the ids under which no workflow runs: it has ended, or Temporal has none */
export async function findIdle(
  engine: Pick<OrderEngine, 'isRunning'>,
  workflowIds: readonly string[],
): Promise<Set<string>> {
  const limit = pLimit(AT_ONCE);
  const isRunning = await Promise.all(workflowIds.map((id) => limit(() => engine.isRunning(id))));
  return new Set(workflowIds.filter((_, i) => isRunning[i] === false));
}
