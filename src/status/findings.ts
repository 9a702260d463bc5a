/** What of a status an operator must act upon, the worst first, each with its remedy. */

import { CLOCK_TOLERANCE_MS } from '../limits.ts';
import type { TokenOutcome } from '../metrics.ts';
import { stateOf, sumOf, type ApiNotes, type PartialStatus } from './status.ts';

export interface Finding {
  what: string;
  remedy: string;
}

/** An outbox is emptied within a second, also in a rush, as long as MySQL keeps up. In ms. */
const OUTBOX_OLD_MS = 10_000;
/**
 * Webhook to paid takes a second; in a rush that fills the engine some ten. A payment of an order that is not
 * known is decided by the second run of the reconciliation. In ms.
 */
const MONEY_OLD_MS = 180_000;
/** Some runs of the reconciliation, which compares the stores each minute. In ms. */
const NOT_COMPARED_MS = 5 * 60_000;

/** Share of its bound that a Redis uses. `lua/reserve.lua` refuses purchases from 0.9 of maxmemory on. */
const MEMORY_HIGH = 0.75;

/** @param isTemporalUp undefined: it was not asked */
export function findWrong(status: PartialStatus, isTemporalUp: boolean | undefined): Finding[] {
  return [
    ...findAway(status, isTemporalUp),
    ...findWorkers(status),
    ...(status.api ? findApiClocks(status.api) : []),
    ...(status.api ? findTokens(status.api) : []),
    ...findOld(status),
    ...findFull(status),
    ...findDrift(status),
    ...findEndpoints(status),
    ...findParked(status),
  ];
}

/** A purchase gives up after two seconds, and a connection is made first. */
const SLOW_MS = 3_000;

/**
 * What a tool must add to what it found, where answers came late or not at all: it may be the machine that it
 * runs on.
 * @param tookMs of a read of each store; undefined: there was no answer
 * @param load of this machine
 */
export function findSlow(
  tookMs: Readonly<Record<string, number | undefined>>,
  load: { text: string; isBusy: boolean },
): Finding[] {
  const reads = Object.entries(tookMs);
  const slow = reads.flatMap(([store, ms]): Finding[] =>
    ms === undefined || ms < SLOW_MS
      ? []
      : [
          {
            what: `${store} answered after ${seconds(ms)}: it, or this machine, is busy. A purchase gives up after 2 s.`,
            remedy: `Look at the processors and the disk of ${store}. This machine has ${load.text}.`,
          },
        ],
  );
  if (!load.isBusy || (slow.length === 0 && reads.every(([, ms]) => ms !== undefined))) return slow;
  const busy = {
    what: `This machine is busy: ${load.text}. What does not answer here in time may answer others.`,
    remedy: 'Ask again when it is less busy, or from another machine.',
  };
  return [busy, ...slow];
}

function findAway(
  { redisTakesWrites, slots, mysqlTakesWrites }: PartialStatus,
  isTemporalUp: boolean | undefined,
): Finding[] {
  const away: Finding[] = [];
  // Any node of a cluster answers for its role, while the node with the engine's slots may be away.
  if (redisTakesWrites === undefined || slots === undefined)
    away.push({
      what: 'Redis does not answer: nothing is sold.',
      remedy: 'Start it again with its data. What it has lost is made again from MySQL by itself.',
    });
  else if (!redisTakesWrites)
    away.push({
      what: 'Redis takes no writes, as it is a replica: nothing is sold.',
      remedy: 'Let the address in REDIS_URL lead to the primary. Each process follows it within seconds.',
    });
  if (mysqlTakesWrites === undefined)
    away.push({
      what: 'MySQL does not answer: orders are accepted and wait, and payment notices are refused and come again.',
      remedy: 'Start it again. What waits in Redis is stored by itself.',
    });
  if (mysqlTakesWrites === false)
    away.push({
      what: 'MySQL takes no writes, as it is read-only: orders are accepted and wait, and payment notices are refused and come again.',
      remedy:
        'Let the address in MYSQL_URL lead to the primary, or set `read_only = 0` where this is the primary. Each process follows it within seconds.',
    });
  if (isTemporalUp === false)
    away.push({
      what: 'Temporal does not answer: orders are stored and can be paid, and no payment reaches its order.',
      remedy: 'Start it again. What is due is started by itself, the paid orders first.',
    });
  return away;
}

function findWorkers({ workers }: PartialStatus): Finding[] {
  if (!workers) return [{ what: 'It is not known which workers live.', remedy: 'Redis or MySQL tells it.' }];
  const found: Finding[] = [];
  if (workers.every((worker) => stateOf(worker) === 'silent'))
    found.push({
      what: 'No worker lives: accepted orders wait, none is confirmed, and none ends.',
      remedy: 'Start one. What waits is done by itself; read the log of the last one for why it ended.',
    });
  for (const worker of workers) {
    const name = `Worker ${worker.pid} on ${worker.host}`;
    const state = stateOf(worker);
    if (state === 'silent')
      found.push({
        what: `${name} has been silent for ${Math.round(worker.silentMs / 1_000)} s: it is frozen, cut off, or was killed.`,
        remedy: 'If its process is there, end it: another takes over what it had within seconds.',
      });
    if (state === 'hanging')
      found.push({
        what: `${name} stands still in ${worker.hanging.join(', ')}.`,
        remedy: 'End its process, and let the supervisor start another; keep its log for the report.',
      });
  }
  return found;
}

/** Hosts of APIs whose clock differs from Redis'. */
export function findApiClocks({ clocks }: ApiNotes): Finding[] {
  return clocks.map(({ host, aheadSeconds }) => ({
    what: `The clock of the API on ${host} is ${Math.abs(aheadSeconds)} s ${aheadSeconds < 0 ? 'behind' : 'ahead of'} that of Redis.`,
    remedy: `Let that host follow a time server. Beyond ${TOLERATED} its tokens are refused, and beyond 5 min payment notices.`,
  }));
}

export const TOLERATED = `${CLOCK_TOLERANCE_MS / 1_000} s`;
/** Of a reason, within five minutes. Fewer are a caller's own. */
const TOKENS_MIN = 10;

/**
 * Reasons that point to our side or the issuer's. `share`: shoppers cause it as well, so it counts only where
 * more tokens were refused for it than taken.
 */
const TOKEN_FAULTS: { [O in TokenOutcome]?: { why: string; remedy: string; share?: true } } = {
  not_yet_valid: {
    why: "they are not valid yet by the API's clock",
    remedy: `Let the issuer's host follow a time server; ${TOLERATED} are tolerated. An API whose clock is wrong would be named.`,
  },
  expired_unseen: {
    why: 'they had expired before the API saw them first',
    remedy:
      "See that the issuer's clock is right, and that its tokens live for minutes. An API whose clock is wrong would be named.",
    share: true,
  },
  unknown_key: {
    why: 'no key that the API has is theirs',
    remedy:
      'If the issuer has rotated its keys: see that it publishes them at JWT_JWKS_URL before it signs with them. Else a stranger forges tokens.',
  },
  wrong_signature: {
    why: 'their signature is wrong',
    remedy:
      'If the shop has changed its secret: set JWT_SECRET to it, and start the APIs again. Else a stranger forges tokens.',
    share: true,
  },
  wrong_issuer: {
    why: 'their `iss` is none of JWT_ISSUER',
    remedy: 'Compare JWT_ISSUER with what the issuer signs.',
  },
  wrong_audience: {
    why: 'their `aud` is none of JWT_AUDIENCE',
    remedy: 'Compare JWT_AUDIENCE with what the issuer signs.',
  },
  no_user: {
    why: 'the claim JWT_USER_CLAIM names no user',
    remedy: 'Compare JWT_USER_CLAIM with what the issuer signs.',
  },
  keys_unavailable: {
    why: "the issuer's keys could not be read",
    remedy: 'See that the APIs reach JWT_JWKS_URL; the log of an API says what it answered.',
  },
};

/** Tokens that were refused for a reason of ours or of their issuer, within the last five minutes. */
export function findTokens({ tokens }: ApiNotes): Finding[] {
  const accepted = tokens.accepted?.count ?? 0;
  const outcomes = Object.keys(TOKEN_FAULTS).filter((name): name is TokenOutcome => name in tokens);
  return outcomes.flatMap((outcome) => {
    const [fault, noted] = [TOKEN_FAULTS[outcome], tokens[outcome]];
    if (!fault || !noted || noted.count < TOKENS_MIN) return [];
    if (fault.share && noted.count <= accepted) return [];
    const { count, claim, offSeconds = 0 } = noted;
    const off = `; the latest one's \`${claim}\` was ${Math.abs(offSeconds)} s ${offSeconds < 0 ? 'behind' : 'ahead of'} that clock`;
    const verb = outcome === 'keys_unavailable' ? 'could not be judged' : 'were refused';
    return {
      what: `${count} tokens ${verb} within five minutes, as ${fault.why}${claim === undefined ? '' : off}. ${accepted} were taken.`,
      remedy: fault.remedy,
    };
  });
}

function findOld({ outboxes, backlog }: PartialStatus): Finding[] {
  const { waiting, oldestMs } = sumOf(outboxes ?? []);
  const found: Finding[] = [];
  if (oldestMs > OUTBOX_OLD_MS)
    found.push({
      what: `${waiting} accepted orders wait to be stored, the oldest for ${seconds(oldestMs)}.`,
      remedy: 'Look at the workers and at MySQL: one of them is away or too slow.',
    });
  if ((backlog?.payments.oldestMs ?? 0) > MONEY_OLD_MS)
    found.push({
      what: `${backlog?.payments.waiting} payments have not reached their orders, the oldest for ${seconds(backlog?.payments.oldestMs)}.`,
      remedy: 'Look at Temporal and at the workers; `ops parked list` shows what the rules could not decide.',
    });
  return found;
}

function findFull({ memory = [] }: PartialStatus): Finding[] {
  return memory.flatMap(({ node, usedBytes, maxBytes, isBounded }): Finding[] => {
    const share = maxBytes === null ? 0 : usedBytes / maxBytes;
    if (share <= MEMORY_HIGH) return [];
    const percent = Math.round(100 * share);
    return [
      isBounded
        ? {
            what: `Redis ${node} uses ${percent} % of its maxmemory: from 90 % on purchases are refused.`,
            remedy: 'Raise its maxmemory: ended orders leave Redis after a day only.',
          }
        : {
            what: `Redis ${node} uses ${percent} % of its machine's memory: beyond it the system ends Redis.`,
            remedy: 'Give the machine more memory, and Redis a maxmemory: then it refuses purchases instead.',
          },
    ];
  });
}

function findParked({ parked = [] }: PartialStatus): Finding[] {
  const total = parked.reduce((sum, { waiting }) => sum + waiting, 0);
  if (total === 0) return [];
  const kinds = parked.map(({ kind, waiting }) => `${waiting} ${kind}`).join(', ');
  return [
    {
      what: `Parked work waits for an operator: ${kinds}.`,
      remedy: '`ops parked list`, then `ops parked show <id>`, which says what to do.',
    },
  ];
}

function findDrift({ drift }: PartialStatus): Finding[] {
  if (!drift) return [];
  const found: Finding[] = [];
  const agoMs = Date.now() - drift.lookedAtMs;
  if (agoMs > NOT_COMPARED_MS)
    found.push({
      what:
        drift.lookedAtMs === 0
          ? 'A sale was never compared whole.'
          : `A sale has not been compared whole for ${seconds(agoMs)}.`,
      remedy: 'Look at the schedule of the reconciliation in Temporal, and at the workers.',
    });
  const [first] = drift.entries;
  if (first)
    found.push({
      what: `Redis and MySQL counted ${drift.entries.length} things differently, first ${first.what} of ${first.sku || 'an order'} in ${first.saleId}.`,
      remedy:
        'What is provably wrong is corrected by itself, and gone with the next run. What stays is parked.',
    });
  return found;
}

function findEndpoints({ endpoints = [] }: PartialStatus): Finding[] {
  return endpoints.flatMap(({ name, disabledFor, health }) => {
    if (disabledFor === 'gone')
      return [
        {
          what: `The endpoint ${name} answered 410: nothing is sent.`,
          remedy: 'Enable it once it takes events again.',
        },
      ];
    if (!health.isDown || disabledFor !== null) return [];
    return [
      {
        what: `The endpoint ${name} is down: ${health.waiting} deliveries wait (${health.lastError ?? 'no answer'}).`,
        remedy: 'Mend it: it is tried each minute, and gets what waits once it answers.',
      },
    ];
  });
}

function seconds(ms: number | null | undefined): string {
  return `${Math.round((ms ?? 0) / 1_000)} s`;
}
