/** Signed callbacks (Standard Webhooks), sent until the receiver says 2xx or the tries are used up. */

import type { Logger } from 'pino';
import { Webhook } from 'standardwebhooks';

import type { Book } from './book.ts';
import type { Event } from './book-state.ts';
import type { MoneyNotice } from './wire.ts';

export interface WebhookSenderOptions {
  book: Book;
  url: string;
  /** `whsec_…` */
  secret: string;
  /** The pause before each repeat; when they are used up, the event is given up until somebody asks for it again. */
  retryDelaysMs: readonly number[];
  /** How long one try may take. */
  timeoutMs: number;
  logger: Logger;
}

export interface WebhookSender {
  /** Sends the event as soon as there is room, with all its tries before it, also when it was delivered before. */
  enqueue: (eventId: string) => void;
  /** Starts no further try and waits for those under way: at most `timeoutMs`. What is undelivered stays in the book. */
  stop: () => Promise<void>;
}

/** Half a second, doubled up to five minutes, 24 times: about 80 minutes, which bridges a long outage of the shop. */
export const DEFAULT_RETRY_DELAYS_MS: readonly number[] = Array.from({ length: 24 }, (_, nth) =>
  Math.min(500 * 2 ** nth, 5 * 60 * 1000),
);
/** Deliveries at the same time: keeps a group-committing receiver busy, and is no flood for one that comes back up. */
const MAX_IN_FLIGHT = 16;

export function createWebhookSender(options: WebhookSenderOptions): WebhookSender {
  const { book, logger } = options;
  const webhook = new Webhook(options.secret);
  // Each collection, here and in the schedule, holds an event at most once, so the book's own bound is theirs too.
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
    const event = book.findEvent(eventId);
    if (!event) throw new Error(`the book has no event ${eventId}`);
    const fault = await deliver(event, webhook, options);
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

  return {
    enqueue: (eventId) => {
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

/** Counts the failed tries of each event and calls `onDue` after the pause that follows each. */
function createRetrySchedule(delaysMs: readonly number[], onDue: (eventId: string) => void) {
  const failures = new Map<string, number>();
  const timers = new Map<string, NodeJS.Timeout>();
  let stopped = false;

  function forget(eventId: string): void {
    failures.delete(eventId);
    clearTimeout(timers.get(eventId));
    timers.delete(eventId);
  }

  return {
    forget,
    /** False when the tries are used up; the event is then forgotten. */
    plan: (eventId: string): boolean => {
      // A redelivery asked for during a try makes two at a time; the one that fails first has set the timer for both.
      if (timers.has(eventId)) return true;
      const failed = (failures.get(eventId) ?? 0) + 1;
      const delayMs = delaysMs[failed - 1];
      if (delayMs === undefined) {
        forget(eventId);
        return false;
      }
      failures.set(eventId, failed);
      // The try under way at the stop still counts, but the one after it belongs to the next start.
      if (stopped) return true;
      timers.set(
        eventId,
        setTimeout(() => {
          timers.delete(eventId);
          onDue(eventId);
        }, delayMs),
      );
      return true;
    },
    stop: (): void => {
      stopped = true;
      for (const timer of timers.values()) clearTimeout(timer);
    },
  };
}

/** Undefined when the receiver took it; otherwise why not. */
async function deliver(
  event: Event,
  webhook: Webhook,
  options: WebhookSenderOptions,
): Promise<Error | undefined> {
  const body = JSON.stringify(buildNotice(event));
  const sentAt = new Date();
  try {
    const response = await fetch(options.url, {
      method: 'POST',
      // A redirect is no receipt, and following it would hand the notice to whoever the answer names.
      redirect: 'manual',
      headers: {
        'content-type': 'application/json',
        'webhook-id': event.id,
        'webhook-timestamp': String(Math.floor(sentAt.getTime() / 1000)),
        'webhook-signature': webhook.sign(event.id, sentAt, body),
      },
      body,
      signal: AbortSignal.timeout(options.timeoutMs),
    });
    await response.body?.cancel();
    return response.ok ? undefined : new Error(`the receiver answered ${response.status}`);
  } catch (error) {
    return error instanceof Error ? error : new Error('the callback failed', { cause: error });
  }
}

/** The same event always gives the same bytes: only the signature's time differs between tries. */
function buildNotice(event: Event): MoneyNotice {
  const timestamp = new Date(event.createdAtMs).toISOString();
  const { reference, amount, currency, paymentId } = event;
  const data = { session_id: event.sessionId, reference, amount, currency };
  return paymentId === null
    ? { type: 'payment.failed', timestamp, data: { payment_id: null, ...data } }
    : { type: 'payment.succeeded', timestamp, data: { payment_id: paymentId, ...data } };
}
