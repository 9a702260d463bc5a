/** A step of the reconciliation, and its report of a run. */

export interface StepReport {
  /** Things the step looked at. */
  looked: number;
  /** Inconsistencies that it mended. */
  repaired: number;
  /** Inconsistencies that the rules could not settle, and that an operator now sees. */
  parked: number;
}

/**
 * Finds one kind of inconsistency and mends what is provably wrong. A run is bounded, and may be repeated, by
 * two processes at once as well; a step that walks remembers its place itself.
 * @param signal ends a run early when it aborts; the next run goes on
 * @throws when a store or the provider is away: the next run tries again
 */
export type Step = (signal: AbortSignal) => Promise<StepReport>;
