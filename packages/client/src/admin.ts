/** What a shop's back office does: every call of staff, and the feed of events. */

import * as calls from './generated/staff.ts';
import { HoldfastError, withDefaults, type CallOptions, type ClientOptions } from './send.ts';

export { HoldfastError } from './send.ts';
export type { ClientOptions, TokenSource } from './send.ts';

/** The longest that the service lets a call wait for an event. */
const WAIT_SECONDS = 25;

type Calls = typeof calls;
/** The calls as they are generated, each sent by the client; those that only make an address are left out. */
type Bound = { readonly [Name in keyof Calls as Name extends `get${string}Url` ? never : Name]: Calls[Name] };

type Page = Extract<Awaited<ReturnType<Calls['readEvents']>>, { status: 200 }>['data'];
export type FeedEvent = Page['events'][number];
export type EventType = NonNullable<Parameters<Calls['putEndpoint']>[1]['types']>[number];

export interface FeedOptions {
  /** The name under which Holdfast keeps how far it has come. */
  consumer: string;
  /** Events of these types alone. */
  types?: readonly EventType[];
  /** Events of this sale alone. */
  saleId?: string;
  signal?: AbortSignal;
}

export type Admin = ReturnType<typeof createAdmin>;

/**
 * Every call of staff by its name, as `admin.refundOrder(orderNo, {...})`, and the feed. Each throws a
 * HoldfastError where the service refuses or does not answer.
 */
export function createAdmin(options: ClientOptions) {
  const client = withDefaults(options);
  const bound = bindAll(client);

  return {
    ...bound,

    /**
     * The events of a consumer from where it has come to, a page at a time, without an end. A page is
     * committed once the next one is asked for: what was not handled to its end comes again.
     */
    async *feed({ consumer, types, saleId, signal }: FeedOptions): AsyncGenerator<readonly FeedEvent[]> {
      const query = {
        consumer,
        wait: WAIT_SECONDS,
        ...(types && { type: [...types] }),
        ...(saleId !== undefined && { saleId }),
      };
      const signalled = signal ? { signal } : {};
      const timeoutMs = client.timeoutMs + WAIT_SECONDS * 1_000;
      for (let position = -1; ;) {
        const { events, next } = (await bound.readEvents(query, { ...signalled, timeoutMs })).data;
        if (events.length > 0) yield events;
        if (next !== position) await commit(consumer, next, signalled);
        position = next;
      }
    },
  };

  async function commit(consumer: string, position: number, signalled: CallOptions): Promise<void> {
    try {
      await bound.commitConsumer(consumer, { position }, signalled);
    } catch (error) {
      // Another process of the consumer is further.
      if (!(error instanceof HoldfastError) || error.code !== 'position_behind') throw error;
    }
  }
}

function bindAll(client: NonNullable<CallOptions['client']>): Bound {
  const named = Object.entries(calls).filter(([name]) => !/^get.+Url$/.test(name));
  return Object.fromEntries(
    named.map(([name, call]) => {
      // Its options are the last of its parameters, and those before may be left out.
      const send = call as (...args: unknown[]) => Promise<unknown>;
      const bound = (...args: unknown[]) => {
        const before = Array.from({ length: call.length - 1 }, (_, i) => args[i]);
        return send(...before, { client, ...(args[call.length - 1] as CallOptions | undefined) });
      };
      return [name, bound];
    }),
  ) as unknown as Bound;
}
