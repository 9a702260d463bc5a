/**
 * A trial: shoppers buy in a sale while something is done to
 * the system; afterwards all stores and answers are checked.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { auditAll, type SaleAudit } from '../src/audit/run-audit.ts';
import { sendAway, type ReturnReport } from './absence.ts';
import { checkCalledOff } from './called-off.ts';
import type { Calls } from './caller.ts';
import { createCrowd, shop, type Crowd } from './crowd.ts';
import { checkHistory, emptyHistory, type History, type Loss, type Violation, type Way } from './history.ts';
import { countLost, findUnrecorded } from './loss-checks.ts';
import { startMischief, type Struck } from './mischief.ts';
import { awaitRest, readBooks, type Books } from './money.ts';
import { sellBeside, type NeighbourReport } from './neighbour.ts';
import { readParkedWork, type ParkedWork } from './parked.ts';
import { createRandom, type Random } from './random.ts';
import { countFinals, openSale, readRecorded } from './sale.ts';
import { watchStock } from './stock-watch.ts';
import type { System } from './system.ts';

/** So that the first disturbance meets orders in every state. */
const WARM_UP_MS = 5_000;
const REPORT_EVERY_MS = 15_000;

export interface TrialOptions {
  saleId: string;
  /** The trial goes on until so many orders have been placed. */
  orders: number;
  random: Random;
  /** For the provider's mischief. */
  seed: number;
  progress: (line: string) => void;
}

export interface TrialReport {
  /** How often each answer to "buy" was given. */
  answers: ReadonlyMap<string, number>;
  ends: ReadonlyMap<string, number>;
  /** How often each thing was done at the provider without Holdfast. */
  byStaff: ReadonlyMap<string, number>;
  /** How often the shop's staff changed the sale, and refunded with the units sold again. */
  byShop: ReadonlyMap<string, number>;
  /** How often the provider's mischief struck. */
  mischief: Struck;
  books: Books;
  parked: ParkedWork;
  /** Money that had not come to rest in time. */
  unrest: string[];
  calls: Calls;
  stockLooks: number;
  history: HistoryCounts;
  /** How often each order ended, as MySQL recorded it. */
  finals: ReadonlyMap<string, number>;
  /** How many orders each loss of Redis' data caught before they were stored. */
  lost: ReadonlyMap<Loss, number>;
  /** Those of the lost orders that no store has a record of. */
  unrecorded: ReadonlySet<string>;
  /** What the shop's back office learned, which was away all the time. */
  backOffice: ReturnReport;
  neighbour: NeighbourReport;
  violations: Violation[];
  audits: SaleAudit[];
}

/** How much of each the history holds. */
interface HistoryCounts {
  answers: number;
  soldOut: number;
  /** Calls that waited, answered 201, and 504. */
  stored: number;
  timedOut: number;
  /** Changes that long polls told. */
  polled: number;
  events: number;
  /** Streams that were come back to, with the last event's id. */
  resumed: number;
}

/**
 * Shoppers come until `disturb` is done and enough orders
 * are placed; the trial ends when all orders have ended.
 */
export async function runTrial(
  system: System,
  { saleId, orders, random, seed, progress }: TrialOptions,
  disturb: (crowd: Crowd, history: History) => Promise<void>,
): Promise<TrialReport> {
  await openSale(system, saleId);
  const backOffice = await sendAway(system, saleId);
  const readStruck = await startMischief(system.providerConsole, seed);
  const history = emptyHistory();
  const crowd = await createCrowd(system, saleId, history, random);
  const watch = watchStock(system, saleId, history.stock);
  const over = new AbortController();
  const shopping = shop(crowd, random, () => !over.signal.aborted || crowd.placed() < orders);
  // What goes on beside the shopping, until that is over.
  const changing = crowd.shopStaff.changeSale(over.signal);
  const selling = sellBeside(system.neighbour, {
    saleId: `beside-${saleId}`,
    // Of its own, so that the storm is the same with it and without.
    random: createRandom(seed),
    struck: history,
    over: over.signal,
  });
  // Awaited below, and not unhandled until then.
  for (const going of [shopping, changing, selling]) going.catch(() => over.abort());
  const reporting = setInterval(() => {
    progress(`${crowd.placed()} orders placed, ${crowd.open().length} open`);
  }, REPORT_EVERY_MS);
  try {
    await delay(WARM_UP_MS);
    await disturb(crowd, history);
    over.abort();
    await Promise.all([shopping, changing]);
  } finally {
    over.abort();
    clearInterval(reporting);
    await watch.end();
  }
  progress('it is over; waiting for late money and refunds');
  const unrest = await awaitRest(system, saleId);
  progress('looking at what is left');
  const staffViolations = await crowd.shopStaff.judge();
  const calledOff = await checkCalledOff(system, saleId);
  const unrecorded = findUnrecorded(history);
  const accepted = new Set(
    history.acceptances.map(({ orderNo }) => orderNo).filter((orderNo) => !unrecorded.has(orderNo)),
  );
  const audits = await auditAll(system, [
    { kind: 'sale', saleId, accepted: [...accepted] },
    { kind: 'strays' },
  ]);
  const neighbour = await selling;
  const recorded = await readRecorded(system, saleId);
  const books = await readBooks(system, saleId);
  progress('the back office comes back');
  const told = await backOffice.comeBack(recorded);
  return {
    answers: crowd.answers,
    ends: crowd.ends,
    byStaff: crowd.byStaff,
    byShop: crowd.shopStaff.counts,
    mischief: await readStruck(),
    books,
    parked: await readParkedWork(system),
    unrest,
    calls: crowd.calls,
    stockLooks: history.stock.length,
    history: countHistory(history),
    finals: countFinals(recorded),
    lost: countLost(history),
    unrecorded,
    backOffice: told,
    neighbour,
    violations: [
      ...checkHistory(history, recorded),
      ...watch.broken,
      ...books.uneven,
      ...told.violations,
      ...staffViolations,
      ...calledOff,
    ],
    audits,
  };
}

function countHistory({ answers, soldOut, stored, timedOut, streams }: History): HistoryCounts {
  const cameBy = (which: Way): number => answers.filter(({ way }) => way === which).length;
  return {
    answers: answers.length,
    soldOut: soldOut.length,
    stored: stored.length,
    timedOut: timedOut.length,
    polled: cameBy('changed'),
    events: cameBy('event'),
    resumed: streams.filter(({ lastId = 0 }) => lastId > 0).length,
  };
}
