/**
 * The metrics of several API processes as one: a scrape reaches any of them, which asks the process that
 * started them all for the sum.
 */

import cluster from 'node:cluster';
import { AggregatorRegistry } from 'prom-client';
import { z } from 'zod';
import type { Metrics } from '../metrics.ts';

const question = z.object({ type: z.literal('holdfast:metrics?'), id: z.int() });
const answer = z.object({ type: z.literal('holdfast:metrics'), id: z.int(), text: z.string().nullable() });
type Question = z.infer<typeof question>;
type Answer = z.infer<typeof answer>;

/** In the process that started the others. Gauges of time are averaged, all else is added up. */
export function answerForAll(): void {
  const all = new AggregatorRegistry();
  cluster.on('message', (worker, message: unknown) => {
    const asked = question.safeParse(message).data;
    if (!asked) return;
    // One that dies meanwhile leaves the sum without an answer: the next scrape has one.
    const reply = (text: string | null): boolean =>
      worker.send({ type: 'holdfast:metrics', id: asked.id, text } satisfies Answer);
    all.clusterMetrics().then(reply, () => reply(null));
  });
}

/** In each of the others. @returns the same metrics, of which all processes together are read */
export function shareMetrics(metrics: Metrics): Metrics {
  const waiting = new Map<number, (text: string | null) => void>();
  let lastId = 0;
  AggregatorRegistry.setRegistries(metrics.registry);
  // It listens for what the process that started this one asks.
  void new AggregatorRegistry();
  process.on('message', (message) => {
    const answered = answer.safeParse(message).data;
    if (!answered) return;
    waiting.get(answered.id)?.(answered.text);
    waiting.delete(answered.id);
  });

  return {
    ...metrics,
    async read() {
      const id = (lastId += 1);
      const text = await new Promise<string | null>((resolve) => {
        waiting.set(id, resolve);
        process.send?.({ type: 'holdfast:metrics?', id } satisfies Question);
      });
      if (text === null) throw new Error('not all API processes sent their metrics');
      return text;
    },
  };
}
