/** Runs push in a worker: a loop that looks for something to deliver, until the worker stops. */

import { createEventFeed } from '../events/event-feed.ts';
import { createPusher, type PusherDeps } from '../push/pusher.ts';
import type { Stores } from '../stores/open.ts';
import { runLoop } from './loop.ts';

export type PushDeps = Omit<PusherDeps, 'eventFeed'> & Stores;

/** Runs until `signal` aborts and the attempts under way have ended, each of which is bounded. */
export async function runPush(deps: PushDeps, signal: AbortSignal): Promise<void> {
  const pusher = createPusher({ ...deps, eventFeed: createEventFeed(deps) }, signal);
  await runLoop('push', pusher.pass, { log: deps.log, signal });
  await pusher.drain();
}
