/**
 * The part `accept`: how many orders a second a front takes, beside the machine's limit and other designs.
 */

import { startRabbitmq } from '../../../stack/servers/rabbitmq.ts';
import {
  CPU_COLUMNS,
  describeOthers,
  describeTokens,
  LATENCY_COLUMNS,
  openHarness,
  REDIS_COLUMN,
} from '../../http/harness.ts';
import type { Peer } from '../../peers/peer.ts';
import type { Contestant, OpenPart, Part } from '../part.ts';
import {
  ALL_RUNNING,
  ALONE,
  bare,
  behindOurFront,
  LIMIT,
  NAMES,
  prepareAllRunning,
  prepareFrontAlone,
  prepareLimit,
  preparePeer,
  type Context,
} from './accept-contestants.ts';

export const acceptPart: Part = {
  name: 'accept',
  title: 'Accepting orders',
  about:
    'Purchases of one unit from 64 connections that ask again as soon as they are answered; counted are those that ' +
    'were answered with 202. Every contestant gets the same requests and has the same Redis (append-only file, ' +
    'fsync always) or MySQL.',
  columns: [
    { key: 'rate', label: 'accepted', unit: '/s', digits: 0 },
    ...LATENCY_COLUMNS,
    ...CPU_COLUMNS,
    REDIS_COLUMN,
  ],
  charted: 'rate',
  targets: [
    {
      text: 'front alone, of the limit',
      figure: 'rate',
      of: ALONE,
      against: [LIMIT],
      atLeast: 0.45,
    },
    {
      text: 'all running, of the best peer behind our front',
      figure: 'rate',
      of: ALL_RUNNING,
      against: NAMES.map(behindOurFront),
      atLeast: 1,
    },
    {
      text: 'all running, of the better of BullMQ and RabbitMQ, bare',
      figure: 'rate',
      of: ALL_RUNNING,
      against: [bare('bullmq'), bare('rabbitmq')],
      atLeast: 1,
    },
    // The one part of a sale that cannot be doubled.
    { text: "front alone, Redis' processor time an order", figure: 'redisUs', of: ALONE, atMost: 45 },
  ],
  open,
};

async function open(progress: (line: string) => void): Promise<OpenPart> {
  const harness = await openHarness(progress);
  const { stack } = harness;
  const peers: Peer[] = [];
  const answers: number[] = [];
  const close = async (): Promise<void> => {
    await Promise.allSettled(peers.map((peer) => peer.close()));
    await harness.close();
  };
  try {
    progress('Starting RabbitMQ');
    const rabbitmqUrl = await startRabbitmq({ processes: stack.processes, progress });
    const context: Context = { harness, rabbitmqUrl, answers, peers };
    const contestants: Contestant[] = [];
    for (const prepare of [prepareFrontAlone, prepareAllRunning, prepareLimit]) {
      contestants.push(await prepare(context));
    }
    for (const name of NAMES) {
      contestants.push(await preparePeer(context, { name, isBehindOurFront: true }));
      contestants.push(await preparePeer(context, { name, isBehindOurFront: false }));
    }
    // It has nothing to do until "all running", which has one of its own.
    stack.processes.freeze('temporal');
    return { contestants, close, notes: () => notesOf(answers) };
  } catch (error) {
    await close();
    throw error;
  }
}

function notesOf(answers: readonly number[]): string[] {
  return [
    describeTokens(answers),
    'After each load the accepted orders were counted where the design keeps them (held units and outbox; rows in ' +
      'MySQL with all running; list, queue or rows of the peers): none was missing.',
    '"Front alone" has the API and its Redis at work; "all running" has the worker, MySQL and Temporal at work on the ' +
      'same orders at the same time. The peers run without their consumers, so they have the machine for themselves; ' +
      'but D stores each order before it answers. No peer bounds what waits.',
    '"Our front" is the same server with the same token check, validation, lanes and answers, with another design in ' +
      "the place of Holdfast's reservation; its idempotency is a SET NX of the key (Shopify and D: a unique key in " +
      'MySQL). ' +
      '"Bare Koa" checks no token, validates nothing and keeps no idempotency.',
    'CPU is in percent of one core, of the server process and of the load generator (one thread); Redis, MySQL and ' +
      'RabbitMQ have the rest of the machine. "Redis" is the processor time of its process for each order, ' +
      'with all running also what the worker asks of it.',
    describeOthers(),
  ];
}
