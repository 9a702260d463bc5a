/** Sends signed callbacks (Standard Webhooks) until the receiver answers 2xx or the tries are used up. */

import type { Logger } from 'pino';
import { Webhook } from 'standardwebhooks';
import type { Event } from '../book/book-state.ts';
import type { Book } from '../book/book.ts';
import { buildNotice } from '../book/events.ts';
import { createRetrySchedule } from './retry-schedule.ts';

export interface WebhookSenderOptions {
  book: Book;
  url: string;
  /** `whsec_…` */
  secret: string;
  /** The pause before each repeat; when they are used up, the event is given up until a redelivery. */
  retryDelaysMs: readonly number[];
  /** How long one try may take. */
  timeoutMs: number;
  logger: Logger;
}

export interface WebhookSender {
  /** Sends a new event when its time has come, as its fate has it. */
  enqueue: (eventId: string) => void;
  /**
   * Sends the event as soon as there is room, with all its tries anew, even if it was delivered or dropped
   * before.
   */
  redeliver: (eventId: string) => void;
  /**
   * Starts no further try and waits for those under way: at most twice `timeoutMs`, for what is sent a second
   * time. What is undelivered stays in the book.
   */
  stop: () => Promise<void>;
}

/**
 * Half a second, doubled up to five minutes, 24 times: about 80 minutes, which bridges a long outage of the
 * shop.
 */
export const DEFAULT_RETRY_DELAYS_MS: readonly number[] = Array.from({ length: 24 }, (_, nth) =>
  Math.min(500 * 2 ** nth, 5 * 60 * 1000),
);
/**
 * Events delivered at the same time: enough to keep a group-committing receiver busy, few enough not to flood
 * one that has just come back. An event that is sent twice at once counts as one.
 */
const MAX_IN_FLIGHT = 16;

export function createWebhookSender(options: WebhookSenderOptions): WebhookSender {
  const { book, logger } = options;
  const webhook = new Webhook(options.secret);
  // Each collection, here and in the schedule, holds an event at most once, so the book's own bound is theirs
  // too.
  const ready = new Set<string>();
  const retries = createRetrySchedule(options.retryDelaysMs, makeReady);
  const inFlight = new Set<Promise<void>>();
  let stopped = false;

  function makeReady(eventId: string): void {
    ready.add(eventId);
    fill();
  }

  function fill(): void {
    for (const eventId of ready) {
      if (stopped || inFlight.size >= MAX_IN_FLIGHT) return;
      ready.delete(eventId);
      const delivery = attempt(eventId)
        .catch((error: unknown) => logger.error({ err: error, eventId }, 'the book did not take a delivery'))
        .finally(() => {
          inFlight.delete(delivery);
          fill();
        });
      inFlight.add(delivery);
    }
  }

  async function attempt(eventId: string): Promise<void> {
    const fault = await deliver(eventOf(eventId), webhook, options);
    if (fault === undefined) {
      retries.forget(eventId);
      book.settleEvent(eventId, 'delivered');
      logger.debug({ eventId }, 'event delivered');
    } else if (retries.plan(eventId)) {
      // Without the stack: a receiver that is away fails every event many times in the same way.
      const cause = fault.cause instanceof Error ? fault.cause.message : undefined;
      logger.warn({ reason: fault.message, cause, eventId }, 'event not delivered, will be repeated');
    } else {
      logger.error({ err: fault, eventId }, 'event given up');
      book.settleEvent(eventId, 'given_up');
    }
  }

  function eventOf(eventId: string): Event {
    const event = book.findEvent(eventId);
    if (!event) throw new Error(`the book has no event ${eventId}`);
    return event;
  }

  return {
    enqueue: (eventId) => {
      if (stopped) return;
      const { delivery, createdAtMs, fate } = eventOf(eventId);
      if (delivery === 'dropped') return;
      const waitMs = createdAtMs + fate.delayMs - Date.now();
      if (fate.delayMs > 0 && waitMs > 0) retries.hold(eventId, waitMs);
      else makeReady(eventId);
    },
    redeliver: (eventId) => {
      if (stopped) return;
      retries.forget(eventId);
      makeReady(eventId);
    },
    stop: async () => {
      stopped = true;
      retries.stop();
      await Promise.all(inFlight);
    },
  };
}

/** Undefined when the receiver took it, at least once where the event is sent twice; otherwise why not. */
async function deliver(
  event: Event,
  webhook: Webhook,
  options: WebhookSenderOptions,
): Promise<Error | undefined> {
  const sendOnce = () => send(event, webhook, options);
  switch (event.fate.duplicate) {
    case 'no':
      return sendOnce();
    case 'together': {
      const faults = await Promise.all([sendOnce(), sendOnce()]);
      return faults.includes(undefined) ? undefined : faults[0];
    }
    case 'after': {
      const fault = await sendOnce();
      // The second copy's fate does not matter: the first was taken.
      if (fault === undefined) await sendOnce();
      return fault;
    }
    default:
      return event.fate.duplicate satisfies never;
  }
}

async function send(
  event: Event,
  webhook: Webhook,
  { book, url, timeoutMs }: WebhookSenderOptions,
): Promise<Error | undefined> {
  const carried =
    event.paymentId === null ? book.findSession(event.sessionId) : book.findPayment(event.paymentId);
  const body = JSON.stringify(buildNotice(event, carried ?? { signedOrder: null, deployment: null }));
  const sentAt = new Date();
  try {
    const response = await fetch(url, {
      method: 'POST',
      // A redirect is no receipt, and following it would hand the notice to a stranger.
      redirect: 'manual',
      headers: {
        'content-type': 'application/json',
        'webhook-id': event.id,
        'webhook-timestamp': String(Math.floor(sentAt.getTime() / 1000)),
        'webhook-signature': webhook.sign(event.id, sentAt, body),
      },
      body,
      signal: AbortSignal.timeout(timeoutMs),
    });
    await response.body?.cancel();
    return response.ok ? undefined : new Error(`the receiver answered ${response.status}`);
  } catch (error) {
    return error instanceof Error ? error : new Error('the callback failed', { cause: error });
  }
}
