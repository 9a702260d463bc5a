/** All parts of the comparison, in the order in which they run and stand in docs/benchmarks.md. */

import type { Part } from './part.ts';
import { acceptPart } from './parts/accept.ts';
import { backOnSalePart } from './parts/back-on-sale.ts';
import { backlogPart } from './parts/backlog.ts';
import { endingPart } from './parts/ending.ts';
import { enginePart } from './parts/engine.ts';
import { growthPart } from './parts/growth.ts';
import { lagPart } from './parts/lag.ts';
import { latencyPart } from './parts/latency.ts';
import { livePart } from './parts/live.ts';
import { paidPart } from './parts/paid.ts';
import { payablePart } from './parts/payable.ts';
import { pollPart } from './parts/poll.ts';
import { soldOutPart } from './parts/sold-out.ts';
import { sustainedPart } from './parts/sustained.ts';

export const PARTS: readonly Part[] = [
  sustainedPart,
  acceptPart,
  soldOutPart,
  payablePart,
  endingPart,
  backOnSalePart,
  lagPart,
  pollPart,
  latencyPart,
  paidPart,
  enginePart,
  growthPart,
  livePart,
  backlogPart,
];
