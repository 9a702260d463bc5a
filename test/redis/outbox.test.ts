/** The outbox: what relays read, acknowledge and take over from each other. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { transact, type RedisClient } from '../../src/redis/connection.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import { createOutbox, listWaiting } from '../../src/redis/outbox.ts';
import { buildReserveRequest, buildSale, uniqueSaleId } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

let stores: TestStores;
let blocking: RedisClient;
beforeAll(async () => {
  stores = await openTestStores();
  blocking = await stores.connectBlocking();
});
afterAll(async () => {
  blocking.disconnect();
  await stores.close();
});

/** An outbox of its own with relays by name, and a way to put orders into it. */
function newOutbox() {
  const saleShard = { saleId: uniqueSaleId(), shard: 0 };
  const key = saleKeys(saleShard).outbox;
  return {
    key,
    saleShard,
    waiting: () => listWaiting(stores.redis, saleShard),
    relay: (name: string) => createOutbox(stores.redis, blocking, saleShard, name),
    add: async (...orderNos: string[]) => {
      for (const orderNo of orderNos) await stores.redis.xadd(key, '*', 'order_no', orderNo);
    },
    consumers: async () => JSON.stringify(await stores.redis.xinfo('CONSUMERS', key, 'relay')),
  };
}

const orderNosOf = (entries: readonly { orderNo: string }[]) => entries.map(({ orderNo }) => orderNo);
const idsOf = (entries: readonly { entryId: string }[]) => entries.map(({ entryId }) => entryId);

test('what reserve wrote is what the relay reads', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const outcome = await stores.reservations.reserve(buildReserveRequest({ saleId }));
  if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
  const outbox = createOutbox(stores.redis, blocking, { saleId, shard: 0 }, 'a');
  await outbox.readNew(1, 1);
  expect(orderNosOf(await outbox.readNew(10, 1))).toEqual([outcome.orderNo]);
});

test('orders accepted before the first relay came are read too, oldest first', async () => {
  const { relay, add } = newOutbox();
  await add('one', 'two', 'three');
  const outbox = relay('a');
  await outbox.readNew(1, 1);
  expect(orderNosOf(await outbox.readNew(2, 1))).toEqual(['one', 'two']);
  expect(orderNosOf(await outbox.readNew(2, 1))).toEqual(['three']);
  expect(await outbox.readNew(2, 1)).toEqual([]);
});

test('an acknowledgement that was cut off after the deletion leaves nothing to do', async () => {
  const { relay, add, key, waiting } = newOutbox();
  await add('one', 'two');
  const outbox = relay('a');
  await outbox.readNew(1, 1);
  const [first] = await outbox.readNew(2, 1);
  await stores.redis.xdel(key, first?.entryId ?? '');

  expect(orderNosOf(await outbox.readPending(10, '0'))).toEqual(['two']);
  expect(await waiting()).toEqual(['two']);
  expect((await stores.redis.xpending(key, 'relay'))[0]).toBe(1);
});

test('two relays share the entries', async () => {
  const { relay, add } = newOutbox();
  await add('one', 'two', 'three');
  await relay('a').readNew(1, 1);
  const first = await relay('a').readNew(2, 1);
  const second = await relay('b').readNew(2, 1);
  expect([...orderNosOf(first), ...orderNosOf(second)]).toEqual(['one', 'two', 'three']);
});

test('what was read and not acknowledged is pending for the relay that read it alone', async () => {
  const { relay, add } = newOutbox();
  await add('one');
  await relay('a').readNew(1, 1);
  await relay('a').readNew(10, 1);
  expect(orderNosOf(await relay('a').readPending(10, '0'))).toEqual(['one']);
  expect(await relay('b').readPending(10, '0')).toEqual([]);
});

test('acknowledged entries are gone: nothing is pending, nothing waits', async () => {
  const { relay, add, key } = newOutbox();
  await add('one', 'two');
  const outbox = relay('a');
  await outbox.readNew(1, 1);
  const [first] = await outbox.readNew(10, 1);
  expect(await stores.redis.xlen(key)).toBe(2);
  await outbox.acknowledge(idsOf(first ? [first] : []));
  await outbox.acknowledge([]);
  expect(await stores.redis.xlen(key)).toBe(1);
  expect(orderNosOf(await outbox.readPending(10, '0'))).toEqual(['two']);
});

test('what a dead relay left behind can be taken over', async () => {
  const { relay, add } = newOutbox();
  await add('one', 'two');
  await relay('dead').readNew(1, 1);
  await relay('dead').readNew(10, 1);
  expect(await relay('heir').claimAbandoned(10, 0)).toBe(2);
  expect(orderNosOf(await relay('heir').readPending(10, '0'))).toEqual(['one', 'two']);
  expect(await relay('dead').readPending(10, '0')).toEqual([]);
});

test('what a relay has read that does not live is taken over, up to a bound', async () => {
  const { relay, add } = newOutbox();
  await add('one', 'two', 'three');
  await relay('dead').readNew(1, 1);
  await relay('dead').readNew(10, 1);
  expect(await relay('heir').takeOver(2, ['heir', 'other'], 0)).toBe(2);
  expect(orderNosOf(await relay('heir').readPending(10, '0'))).toEqual(['one', 'two']);
  expect(await relay('heir').takeOver(2, [], 0)).toBe(1);
  expect(await relay('heir').takeOver(2, [], 0)).toBe(0);
});

test('what a relay works on that lives, or that has done something lately, is not taken over', async () => {
  const { relay, add } = newOutbox();
  expect(await relay('heir').takeOver(10, [], 0)).toBe(0);
  await add('one');
  await relay('slow').readNew(1, 1);
  await relay('slow').readNew(10, 1);
  expect(await relay('heir').takeOver(10, ['slow'], 0)).toBe(0);
  expect(await relay('heir').takeOver(10, [], 60_000)).toBe(0);
  expect(orderNosOf(await relay('slow').readPending(10, '0'))).toEqual(['one']);
});

test('what a living relay works on is not taken from it', async () => {
  const { relay, add } = newOutbox();
  await add('one');
  await relay('alive').readNew(1, 1);
  await relay('alive').readNew(10, 1);
  expect(await relay('other').claimAbandoned(10, 60_000)).toBe(0);
  expect(orderNosOf(await relay('alive').readPending(10, '0'))).toEqual(['one']);
});

test('when the group is gone reading makes it again, and no order is lost', async () => {
  const { relay, add, key } = newOutbox();
  const outbox = relay('a');
  await outbox.readNew(1, 1);
  await stores.redis.del(key);
  await add('one');
  expect(await outbox.readNew(10, 1)).toEqual([]);
  expect(orderNosOf(await outbox.readNew(10, 1))).toEqual(['one']);
});

test('making the group twice, or at once, keeps what is pending', async () => {
  const { relay, add } = newOutbox();
  await add('one');
  await Promise.all([relay('a').readNew(1, 1), relay('b').readNew(1, 1)]);
  await relay('a').readNew(10, 1);
  await relay('a').readNew(1, 1);
  expect(orderNosOf(await relay('a').readPending(10, '0'))).toEqual(['one']);
});

test('idle relays are removed only with nothing pending, and never the one that asks', async () => {
  const { relay, add, consumers } = newOutbox();
  await relay('asks').readNew(1, 1);
  await add('one', 'two', 'three');
  for (const name of ['asks', 'done']) {
    await relay(name).acknowledge(idsOf(await relay(name).readNew(1, 1)));
  }
  await relay('busy').readNew(1, 1);
  await relay('asks').removeIdleConsumers(60_000);
  expect(await consumers()).toContain('done');
  await relay('asks').removeIdleConsumers(0);
  expect(await consumers()).not.toContain('done');
  expect(await consumers()).toContain('asks');
  expect(orderNosOf(await relay('busy').readPending(10, '0'))).toEqual(['three']);
});

const timeReply = z.tuple([z.coerce.number(), z.coerce.number()]);
const toMs = ([seconds, micros]: z.infer<typeof timeReply>) => seconds * 1_000 + Math.floor(micros / 1_000);
const redisNowMs = async () => toMs(timeReply.parse(await stores.redis.time()));

/** When the outbox's only consumer was active last, by Redis' clock, which stands still in a transaction. */
async function lastSeenMs(key: string): Promise<number> {
  const [now, rows] = await transact(stores.redis.multi().time().xinfo('CONSUMERS', key, 'relay'));
  const [row] = z.array(z.array(z.unknown())).parse(rows);
  return toMs(timeReply.parse(now)) - Number(row?.[row.indexOf('idle') + 1]);
}

/** Sends as the given connection, and lets `then` act before the first answer reaches its caller. */
function thenFirst(redis: RedisClient, then: () => Promise<unknown>): RedisClient {
  let isFirst = true;
  return new Proxy(redis, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      return async (...sent: unknown[]): Promise<unknown> => {
        const answer: unknown = await Reflect.apply(value, target, sent);
        const isMine = isFirst;
        isFirst = false;
        if (isMine) await then();
        return answer;
      };
    },
  });
}

test('an entry that an idle relay reads at the moment of its removal is not lost', async () => {
  const { relay, add, waiting, saleShard } = newOutbox();
  const slow = relay('slow');
  await slow.readNew(1, 1);
  await add('one');
  await slow.acknowledge(idsOf(await slow.readNew(1, 1)));
  const redis = thenFirst(stores.redis, async () => {
    await add('two');
    expect(orderNosOf(await slow.readNew(10, 1))).toEqual(['two']);
  });

  await createOutbox(redis, blocking, saleShard, 'asks').removeIdleConsumers(0);

  expect(await waiting()).toEqual(['two']);
  expect(orderNosOf(await slow.readPending(10, '0'))).toEqual(['two']);
});

test('a relay that is removed while it waits for entries gets the next one as before', async () => {
  const { relay, add, waiting, consumers } = newOutbox();
  const waits = relay('waits');
  await waits.readNew(1, 1);
  await add('one');
  await waits.acknowledge(idsOf(await waits.readNew(1, 1)));
  const blocked = waits.readNew(10, 4_000);
  await waitFor('the read to reach Redis', async () =>
    (await stores.redis.info('clients')).includes('blocked_clients:1'),
  );
  expect(await relay('asks').removeIdleConsumers(0)).toBe(1);
  expect(await consumers()).not.toContain('waits');

  await add('two');

  expect(orderNosOf(await blocked)).toEqual(['two']);
  expect(await waiting()).toEqual(['two']);
  expect(orderNosOf(await waits.readPending(10, '0'))).toEqual(['two']);
});

test('a relay that finds nothing to read shows that it lives when it looks for dead ones', async () => {
  const { relay, add, key } = newOutbox();
  const quiet = relay('quiet');
  await quiet.readNew(1, 1);
  await add('one');
  await quiet.acknowledge(idsOf(await quiet.readNew(1, 1)));
  const before = await lastSeenMs(key);
  await waitFor('the clock of Redis to go on', async () => (await redisNowMs()) > before + 1);

  await quiet.readNew(1, 1);
  await quiet.removeIdleConsumers(60_000);

  expect(await lastSeenMs(key)).toBeGreaterThan(before);
});

test('without a group there is no consumer to remove', async () => {
  expect(await newOutbox().relay('asks').removeIdleConsumers(0)).toBe(0);
});

test('what waits is what is unread, or read and not acknowledged; an entry that is neither waits in vain', async () => {
  const { relay, add, waiting, key } = newOutbox();
  expect(await waiting()).toEqual([]);
  await add('one', 'two', 'three', 'four');
  expect(await waiting()).toEqual(['one', 'two', 'three', 'four']);
  await relay('a').readNew(1, 1);
  const [one, two] = await relay('a').readNew(3, 1);
  if (!one || !two) throw new Error('nothing to read');
  expect(await waiting()).toEqual(['one', 'two', 'three', 'four']);
  await relay('a').acknowledge([one.entryId]);
  await stores.redis.xack(key, 'relay', two.entryId);
  expect(await waiting()).toEqual(['three', 'four']);
});
