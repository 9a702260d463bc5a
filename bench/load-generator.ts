/**
 * The process that `bench/load.ts` starts: it sends purchases and reports
 * their latencies. Times count from the moment at which a purchase was due,
 * so that a wait for the generator or for a connection counts as well.
 */

import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { loadSchema, type Load, type LoadReport, type Outcome } from './load.ts';
import {
  openPurchaser,
  pollsOf,
  purchasesOf,
  type Answer,
  type Purchaser,
  type RequestOf,
} from './purchaser.ts';

/** Beyond it a purchase waits until a connection is free, and the wait counts. */
const CONNECTIONS_MAX = 4_000;
/** For the last answers; what has none by then counts as unanswered. */
const LAST_ANSWERS_MS = 10_000;
const PROMPT_MS = 50;

/** How far apart in the list of polled orders two connections begin. */
const POLLS_APART = 97;

let keys = 0;

process.on('message', (message) => {
  void generate(loadSchema.parse(message)).then((report) => process.send?.(report));
});
await once(process, 'disconnect');
process.exit();

async function generate(load: Load): Promise<LoadReport> {
  const requestsOf = planRequests(load);
  const connect: Connect = (i) => openPurchaser(load, requestsOf(i));
  const connections = await Promise.all(Array.from({ length: load.connections }, (_, i) => connect(i)));
  const startMs = performance.now();
  const notes = createNotes(startMs);
  const buy = (purchaser: Purchaser, meantMs: number, then: () => void): void => {
    const sentMs = notes.sent(meantMs);
    purchaser.buy(`bench-${process.pid}-${(keys += 1)}`, (answer) => {
      notes.answered(meantMs, sentMs, answer);
      then();
    });
  };
  await (load.rate === null
    ? offerClosed(load, connections, buy)
    : offerOpen({ ...load, rate: load.rate, connect }, connections, buy));
  const seconds = (performance.now() - startMs) / 1_000;
  const untilMs = performance.now() + LAST_ANSWERS_MS;
  while (notes.unanswered() > 0 && performance.now() < untilMs) await delay(1);
  for (const connection of connections) connection.close();
  return { ...notes.report(), seconds };
}

/**
 * Each purchase is the next shopper's, whichever connection is free. In the list of polled orders each
 * connection begins elsewhere.
 * @returns what a connection sends, by its number
 */
function planRequests({ host, port, saleId, tokens, polled }: Load): (connection: number) => RequestOf {
  if (polled) return (connection) => pollsOf({ host, port, polled, first: connection * POLLS_APART });
  const purchases = purchasesOf({ host, port, saleId, sku: 'unit', tokens });
  return () => purchases;
}

/** Takes the connection's number. */
type Connect = (connection: number) => Promise<Purchaser>;
type Buy = (purchaser: Purchaser, meantMs: number, then: () => void) => void;

/** Each connection buys again as soon as it is answered. */
async function offerClosed({ seconds }: Load, connections: Purchaser[], buy: Buy): Promise<void> {
  const endMs = performance.now() + seconds * 1_000;
  const buyAgain = (purchaser: Purchaser): void => {
    const nowMs = performance.now();
    if (nowMs < endMs && purchaser.isOpen()) buy(purchaser, nowMs, () => buyAgain(purchaser));
  };
  connections.forEach(buyAgain);
  await delay(seconds * 1_000);
}

/** So many a second, however they are answered. */
async function offerOpen(
  load: Pick<Load, 'seconds' | 'connectionsMax'> & { rate: number; connect: Connect },
  connections: Purchaser[],
  buy: Buy,
): Promise<void> {
  const idle = [...connections];
  const queue: number[] = [];

  /** A free connection takes the longest waiting purchase. */
  const serve = (purchaser: Purchaser): void => {
    if (!purchaser.isOpen()) return;
    const meantMs = queue.shift();
    if (meantMs === undefined) idle.push(purchaser);
    else buy(purchaser, meantMs, () => serve(purchaser));
  };
  const takeIdle = (): Purchaser | undefined => {
    let purchaser = idle.pop();
    while (purchaser && !purchaser.isOpen()) purchaser = idle.pop();
    return purchaser;
  };
  const openAnother = async (): Promise<void> => {
    const purchaser = await load.connect(connections.length);
    connections.push(purchaser);
    serve(purchaser);
  };

  const connectionsMax = load.connectionsMax ?? CONNECTIONS_MAX;
  const startMs = performance.now();
  const total = load.rate * load.seconds;
  for (let sent = 0; sent < total;) {
    const due = Math.min(total, ((performance.now() - startMs) / 1_000) * load.rate);
    for (; sent < due; sent += 1) {
      queue.push(startMs + (sent * 1_000) / load.rate);
      const purchaser = takeIdle();
      if (purchaser) serve(purchaser);
      else if (connections.length < connectionsMax) void openAnother();
    }
    await delay(1);
  }
}

function createNotes(startMs: number) {
  const latencies = new Map<
    string,
    { latenciesMs: number[]; fromSentMs: number[]; withRetryAfter: number }
  >();
  const lateMs: number[] = [];
  const accepted: string[] = [];
  let [unanswered, firstAcceptedMs] = [0, LAST_ANSWERS_MS];

  return {
    unanswered: () => unanswered,

    sent(meantMs: number): number {
      const sentMs = performance.now();
      unanswered += 1;
      lateMs.push(sentMs - meantMs);
      return sentMs;
    },

    answered(meantMs: number, sentMs: number, { name, hasRetryAfter, orderNo }: Answer): void {
      const nowMs = performance.now();
      const outcome = latencies.get(name) ?? { latenciesMs: [], fromSentMs: [], withRetryAfter: 0 };
      latencies.set(name, outcome);
      outcome.latenciesMs.push(nowMs - meantMs);
      outcome.fromSentMs.push(nowMs - sentMs);
      if (hasRetryAfter) outcome.withRetryAfter += 1;
      unanswered -= 1;
      if (name !== 'accepted' || orderNo === undefined) return;
      accepted.push(orderNo);
      firstAcceptedMs = Math.min(firstAcceptedMs, nowMs - startMs);
    },

    report(): Omit<LoadReport, 'seconds'> {
      const outcomes = [...latencies].map(([name, { latenciesMs, fromSentMs, withRetryAfter }]) => {
        const { p99Ms: sentP99Ms, within50Ms: sentWithin50Ms } = summarize(fromSentMs);
        const count = latenciesMs.length;
        return { name, count, ...summarize(latenciesMs), sentP99Ms, sentWithin50Ms, withRetryAfter };
      });
      return { outcomes, unanswered, accepted, firstAcceptedMs, sentLateP99Ms: summarize(lateMs).p99Ms };
    },
  };
}

function summarize(valuesMs: readonly number[]): Pick<Outcome, 'p50Ms' | 'p99Ms' | 'maxMs' | 'within50Ms'> {
  const sorted = valuesMs.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  const within50Ms = sorted.filter((ms) => ms <= PROMPT_MS).length;
  return { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1), within50Ms };
}
