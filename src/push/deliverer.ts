/** Makes one attempt at a delivery, and records what became of it. */

import type { LimitFunction } from 'p-limit';
import type { FeedEvent } from '../events/event-feed.ts';
import type { ClaimedDelivery } from '../stores/mysql/push/delivery-claims.ts';
import type { Stores } from '../stores/open.ts';
import { signMessage } from './message.ts';
import { boundedRetryAfterMs, probePauseMs, retryPauseMs } from './schedule.ts';
import type { Answer, Sender } from './sender.ts';

/** A success is noted at most so often while nothing fails: all deliveries of an endpoint share its row. */
const NOTE_SUCCESS_EVERY_MS = 1_000;

/** A test is sent as an event of this type. */
const TEST_TYPE = 'endpoint.test';

export interface DelivererDeps extends Stores {
  /** The pause after each failed try, in ms. */
  retryPausesMs: readonly number[];
  /** Bounds the work with MySQL of all endpoints together. */
  storing: LimitFunction;
}

/** Where an attempt goes, and what it is signed with. */
export interface Target {
  url: string;
  secrets: readonly string[];
}

export type Deliverer = ReturnType<typeof createDeliverer>;

/** For one endpoint. */
export function createDeliverer(deps: DelivererDeps, sender: Pick<Sender, 'post'>) {
  const { deliveryClaims, endpointHealth, retryPausesMs, storing, log } = deps;
  let notedAtMs = 0;
  let hasFailed = false;

  async function succeed(delivery: ClaimedDelivery): Promise<void> {
    const isHeld = await deliveryClaims.complete(delivery);
    // This process stood still: what it knows of the endpoint is old.
    if (!isHeld) return;
    const isRecent = Date.now() - notedAtMs < NOTE_SUCCESS_EVERY_MS;
    if (isRecent && !hasFailed && !delivery.isProbe) return;
    [notedAtMs, hasFailed] = [Date.now(), false];
    const wasDown = await endpointHealth.noteSuccess(delivery.endpointId);
    if (wasDown) log.info({ endpoint: delivery.endpointName }, 'an endpoint answers again');
  }

  async function fail(delivery: ClaimedDelivery, error: string, retryAfterMs: number): Promise<void> {
    hasFailed = true;
    const attempts = delivery.attempts + 1;
    const pausesMs = delivery.sequence === null ? [] : retryPausesMs;
    const isDownNow = await deliveryClaims.fail(delivery, error, {
      retryMs: retryPauseMs(pausesMs, attempts, retryAfterMs),
      askedMs: boundedRetryAfterMs(retryAfterMs),
      probeMs: (failedProbes) => probePauseMs(failedProbes, retryAfterMs),
    });
    if (isDownNow) log.warn({ endpoint: delivery.endpointName, error }, 'an endpoint is down');
  }

  async function record(delivery: ClaimedDelivery, answer: Answer): Promise<void> {
    if (answer.kind === 'failed') return fail(delivery, answer.error, 0);
    const { status, retryAfterMs } = answer;
    if (status >= 200 && status < 300) return succeed(delivery);
    if (status === 410 && delivery.sequence !== null) {
      return endpointHealth.disableGone(delivery);
    }
    return fail(delivery, `answered ${status}`, retryAfterMs);
  }

  /** @param event undefined: it was deleted, or it is a test */
  return async function deliver(
    delivery: ClaimedDelivery,
    { url, secrets }: Target,
    event: FeedEvent | undefined,
  ): Promise<void> {
    const message = delivery.sequence === null ? toTest(delivery) : event;
    if (!message) {
      await storing(() => deliveryClaims.park(delivery, 'the event is not there any more'));
      return;
    }
    const body = JSON.stringify({ ...message, timestamp: message.occurredAt });
    const headers = signMessage(delivery.eventId, body, secrets, new Date());
    const answer = await sender.post(url, headers, body);
    await storing(() => record(delivery, answer));
  };
}

function toTest({ eventId, createdAtMs, endpointName }: ClaimedDelivery) {
  const occurredAt = new Date(createdAtMs).toISOString();
  return { id: eventId, type: TEST_TYPE, occurredAt, saleId: null, data: { endpoint: endpointName } };
}
