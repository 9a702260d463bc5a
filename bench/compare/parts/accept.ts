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
  ALONE,
  LIMIT,
  NAMES,
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
    for (const prepare of [prepareFrontAlone, prepareLimit]) {
      contestants.push(await prepare(context));
    }
    for (const name of NAMES) {
      contestants.push(await preparePeer(context, { name, isBehindOurFront: true }));
      contestants.push(await preparePeer(context, { name, isBehindOurFront: false }));
    }
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
    'After each load the accepted orders were counted where the design keeps them (held units and outbox; ' +
      'list, queue or rows of the peers): none was missing.',
    'All fronts run without what stores their orders, but D and Shopify store before they answer. What each design ' +
      'accepts and stores at once is the part `sustained`.',
    '"Our front" is the same server with the same token check, validation, lanes and answers, with another design in ' +
      "the place of Holdfast's reservation; its idempotency is a SET NX of the key (Shopify and D: a unique key in " +
      'MySQL). ' +
      '"Bare Koa" checks no token, validates nothing and keeps no idempotency.',
    'CPU is in percent of one core, of the server process and of the load generator (one thread); Redis, MySQL and ' +
      'RabbitMQ have the rest of the machine. "Redis" is the processor time of its process for each order.',
    describeOthers(),
  ];
}
