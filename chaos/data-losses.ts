/** Faults that lose data: Redis emptied, set back to old files or replaced by a replica; Temporal emptied. */

import { setTimeout as delay } from 'node:timers/promises';
import type { PlannedFault } from './faults.ts';
import type { Span } from './history.ts';
import type { Random } from './random.ts';
import type { Part, System } from './system.ts';

/** How long an emptied server is down. */
const DOWN_MS = { min: 0, max: 1_500 };
/** How old the files are that are put back: some orders are lost, and others are in MySQL alone. */
const OLD_MS = { min: 3_000, max: 8_000 };
/** For so long the old Redis accepts orders that its replica does not get. */
const LAG_MS = { min: 100, max: 1_500 };

type Loss = Omit<PlannedFault, 'strikes'>;

/** In each round once. */
export function dataLosses(system: System, random: Random): PlannedFault[] {
  const { redis } = system;
  const [redisPart, temporalPart] = [partOf(system, 'redis'), partOf(system, 'temporal')];
  const ofRedis: Loss[] = [
    {
      name: 'flush redis',
      lastsMs: 0,
      run: async (lost) => lost(await timed(() => redis.flush())),
    },
    lasting('empty redis', random.int(DOWN_MS.min, DOWN_MS.max), async (lastsMs, lost) => {
      lost(await timed(() => redisPart.kill()));
      await redis.removeFiles();
      await delay(lastsMs);
      await redisPart.start();
    }),
    lasting('old file redis', random.int(OLD_MS.min, OLD_MS.max), async (lastsMs, lost) => {
      const putBack = await redis.copyFiles();
      await delay(lastsMs);
      lost(await timed(() => redisPart.kill()));
      await putBack();
      await redisPart.start();
    }),
    lasting('failover redis', random.int(LAG_MS.min, LAG_MS.max), async (lastsMs, lost) => {
      const replica = await redis.startReplica();
      await replica.promote();
      await delay(lastsMs);
      lost(await timed(() => redisPart.kill()));
      await replica.takeOver();
    }),
  ];
  const ofTemporal = lasting('empty temporal', random.int(DOWN_MS.min, DOWN_MS.max), async (lastsMs) => {
    await temporalPart.kill();
    await system.removeTemporalData();
    await delay(lastsMs);
    await temporalPart.start();
  });
  return [...ofRedis.map((loss) => ({ ...loss, strikes: 'redis' })), { ...ofTemporal, strikes: 'temporal' }];
}

function lasting(
  name: string,
  lastsMs: number,
  run: (lastsMs: number, lost: (span: Span) => void) => Promise<void>,
): Loss {
  return { name, lastsMs, run: (lost) => run(lastsMs, lost) };
}

async function timed(strike: () => Promise<unknown>): Promise<Span> {
  const startMs = Date.now();
  await strike();
  return { startMs, endMs: Date.now() };
}

function partOf({ parts }: System, name: string): Part {
  const found = parts.find((part) => part.name === name);
  if (!found) throw new Error(`the system has no ${name}`);
  return found;
}
