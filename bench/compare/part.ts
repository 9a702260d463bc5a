/**
 * What one part of `npm run bench -- compare` consists of: contestants that do the same work on the same
 * machine in turn, the figures that each gives, and the ratios to reach.
 */

/**
 * ours: Holdfast as shipped. limit: what this machine can do at best, without any of the duties. reference:
 * the least that does the duties. peer: another design. variant: Holdfast with one thing changed.
 */
export type Role = 'ours' | 'limit' | 'reference' | 'peer' | 'variant';

/** By the key of their column. */
export type Figures = Readonly<Record<string, number>>;

export interface Column {
  key: string;
  label: string;
  /** As printed behind the figure. */
  unit: string;
  digits: number;
  /** Of Holdfast's own processes: the other contestants have no such figure. */
  isOfOurs?: true;
}

export interface Contestant {
  /** The row of the table; unique in its part. */
  name: string;
  role: Role;
  /**
   * Measures once, in some seconds. Called once a round, in turn with the others. It leaves no load behind
   * that slows the next, and throws when what it did is not right, say when an order is missing.
   */
  measure(): Promise<Figures>;
}

/** A ratio of two medians of one run. */
export interface Target {
  text: string;
  figure: string;
  of: string;
  /** The contestant to compare with; several: the best of them. Absent: the figure itself is judged. */
  against?: readonly string[];
  atLeast?: number;
  atMost?: number;
}

export interface OpenPart {
  contestants: readonly Contestant[];
  /** For the table and the docs, after the last round: CPU shares, what was counted how. */
  notes?(): readonly string[];
  close(): Promise<void>;
}

export interface Part {
  name: string;
  /** The heading in docs/benchmarks.md. */
  title: string;
  /** One or two sentences: what is measured, from when to when. */
  about: string;
  columns: readonly Column[];
  /** The column that the chart shows. */
  charted: string;
  targets: readonly Target[];
  /** Where one measurement takes a minute: a run makes no more rounds of it. */
  roundsMax?: number;
  /** Starts the servers and processes that the contestants share. `progress` gets a line for each step. */
  open(progress: (line: string) => void): Promise<OpenPart>;
}
