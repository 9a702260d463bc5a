/**
 * The five ways as they are walked: what each needs beforehand, and what sets it off, up to its end. On the
 * way itself nothing of `src` is called from here, so that what runs is the service alone.
 */

import assert from 'node:assert/strict';
import { ulid } from 'ulidx';
import { z } from 'zod';
import { signToken } from '../../src/api/http/auth.ts';
import { saleKeys, wholeSale } from '../../src/redis/keys.ts';
import { runPush } from '../../src/workers/service.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { uniqueSaleId } from '../support/factories.ts';
import { openReceiver, type Receiver } from '../support/receiver.ts';
import { JWT_SECRET } from '../support/shopper.ts';
import { silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

export interface Way {
  name: string;
  /** The files of the workflows that it takes. */
  workflows: readonly string[];
  /** Makes what is to be there beforehand. @returns the way itself, to be walked once, to its end */
  prepare(shop: Shop): Promise<() => Promise<void>>;
}

const ORDER_WORKFLOW = 'src/workflows/order.ts';
const REFUND_WORKFLOW = 'src/workflows/refund.ts';

export const WAYS: readonly Way[] = [
  {
    name: 'a purchase with its payment',
    workflows: [ORDER_WORKFLOW],
    async prepare(shop) {
      const shopper = await shop.person();
      return async () => {
        const orderNo = await placeOrder(shop, shopper);
        await pressPay(await openPayment(shop, shopper, orderNo));
        await awaitStatus(shop, shopper, orderNo, 'paid');
        await awaitWorkflow(shop, orderNo);
      };
    },
  },
  {
    name: 'a webhook until the order is paid',
    workflows: [ORDER_WORKFLOW],
    async prepare(shop) {
      const shopper = await shop.person();
      const orderNo = await placeOrder(shop, shopper);
      const pageUrl = await openPayment(shop, shopper, orderNo);
      return async () => {
        await pressPay(pageUrl);
        await awaitWorkflow(shop, orderNo);
      };
    },
  },
  {
    name: 'a refund in part',
    workflows: [REFUND_WORKFLOW],
    async prepare(shop) {
      const [shopper, staff] = [await shop.person(), await shop.person('admin')];
      const orderNo = await placeOrder(shop, shopper);
      await pressPay(await openPayment(shop, shopper, orderNo));
      await awaitWorkflow(shop, orderNo);
      const stock = await readLamps(shop);
      return async () => {
        const lines = [{ sku: 'lamp', quantity: 1 }];
        await call(shop, staff, 'POST', `/v1/admin/orders/${orderNo}/refunds`, { lines, restock: true });
        await waitFor('Redis to have the lamp back', async () => (await readLamps(shop)) === stock + 1);
      };
    },
  },
  {
    name: 'a change of a sale',
    workflows: [],
    async prepare(shop) {
      const staff = await shop.person('admin');
      return () => shop.changeSale(staff);
    },
  },
  {
    name: 'a pushed event',
    workflows: [],
    async prepare(shop) {
      const [shopper, staff] = [await shop.person(), await shop.person('admin')];
      const { url, received } = shop.receiver;
      await call(shop, staff, 'PUT', '/v1/admin/endpoints/office', { url });
      await shop.holdEvents();
      const orderNo = await placeOrder(shop, shopper);
      return async () => {
        shop.letEventsGo();
        await waitFor('the event of the order', () =>
          received.some(({ event }) => event['orderNo'] === orderNo),
        );
      };
    },
  },
];

export interface Shop extends Pick<Checkout, 'url' | 'client' | 'stores'> {
  saleId: string;
  /** Of the sale's stock in Redis. */
  stockKey: string;
  /** What an endpoint of the shop receives. */
  receiver: Receiver;
  /** The `Authorization` of somebody whom the service has not seen before. */
  person(role?: 'admin'): Promise<string>;
  /** Adds a lamp to the sale. */
  changeSale(authorization: string): Promise<void>;
  /** From now on events wait for their numbers, and so none is pushed. */
  holdEvents(): Promise<void>;
  letEventsGo(): void;
  close(): Promise<void>;
}

/** The whole service with push, and one sale that is open. */
export async function openShop(): Promise<Shop> {
  const closers: (() => Promise<unknown>)[] = [];
  const close = async () => {
    for (const closeOne of closers.splice(0).toReversed()) await closeOne();
  };
  const gate = createGate();
  const under = (stores: TestStores): TestStores => ({
    ...stores,
    eventRows: {
      ...stores.eventRows,
      async numberEvents(max, known) {
        await gate.pass();
        return stores.eventRows.numberEvents(max, known);
      },
    },
  });
  try {
    const checkout = await openCheckout({ under });
    closers.push(
      () => checkout.close(),
      async () => gate.open(),
    );
    const receiver = await openReceiver();
    closers.push(() => receiver.close());
    const stopping = new AbortController();
    const push = runPush(
      { ...checkout.stores, sender: { allowPrivate: true }, log: silent },
      stopping.signal,
    );
    closers.push(() => {
      stopping.abort();
      return push;
    });
    const saleId = uniqueSaleId();
    const { url, client, stores } = checkout;
    const person = async (role?: 'admin') => {
      const token = await signToken(JWT_SECRET, ulid().toLowerCase(), '1h', role ? { roles: [role] } : {});
      return `Bearer ${token}`;
    };
    const changeSale = createChanger(url, saleId);
    await changeSale(await person('admin'));
    return {
      url,
      client,
      stores,
      saleId,
      stockKey: saleKeys(wholeSale(saleId)).stock,
      receiver,
      person,
      changeSale,
      holdEvents: () => gate.close(),
      letEventsGo: () => gate.open(),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** @returns puts the sale as it was put last, with one lamp more */
function createChanger(url: string, saleId: string) {
  const hourMs = 60 * 60 * 1_000;
  const [opensAt, closesAt] = [-hourMs, hourMs].map((ms) => new Date(Date.now() + ms).toISOString());
  let total = 1_000;
  return async (authorization: string): Promise<void> => {
    total += 1;
    const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total }];
    const sale = { name: 'Autumn', currency: 'EUR', opensAt, closesAt, skus };
    await call({ url }, authorization, 'PUT', `/v1/admin/sales/${saleId}`, sale);
  };
}

/** Open at first. */
function createGate() {
  let isOpen = true;
  const waiting: (() => void)[] = [];
  return {
    async pass(): Promise<void> {
      if (!isOpen) await new Promise<void>((resolve) => waiting.push(resolve));
    },
    /** Settles when somebody waits, so that nothing is under way behind it. */
    async close(): Promise<void> {
      isOpen = false;
      await waitFor('somebody at the gate', () => waiting.length > 0);
    },
    open(): void {
      isOpen = true;
      for (const goOn of waiting.splice(0)) goOn();
    },
  };
}

const orderBody = z.object({ orderNo: z.string(), status: z.string() });

/** Two lamps. @returns the orderNo, once the order can be paid */
async function placeOrder(shop: Shop, shopper: string): Promise<string> {
  const items = [{ sku: 'lamp', quantity: 2 }];
  const placed = await call(shop, shopper, 'POST', '/v1/orders', { saleId: shop.saleId, items });
  const { orderNo } = orderBody.parse(placed);
  await awaitStatus(shop, shopper, orderNo, 'awaiting_payment');
  return orderNo;
}

function awaitStatus(shop: Shop, shopper: string, orderNo: string, status: string): Promise<boolean> {
  return waitFor(`order ${orderNo} to be ${status}`, async () => {
    const order = orderBody.parse(await call(shop, shopper, 'GET', `/v1/orders/${orderNo}`));
    return order.status === status;
  });
}

/** @returns the address of the provider's page */
async function openPayment(shop: Shop, shopper: string, orderNo: string): Promise<URL> {
  const session = await call(shop, shopper, 'POST', `/v1/orders/${orderNo}/payment`);
  return new URL(z.object({ url: z.string() }).parse(session).url);
}

/** The button on the provider's page. */
async function pressPay(page: URL): Promise<void> {
  const sessionId = page.pathname.split('/').at(-1);
  const response = await fetch(new URL(`/v1/payment_sessions/${sessionId}/pay`, page), { method: 'POST' });
  assert(response.ok, await response.text());
}

/** Waits until the order's workflow has ended, with the order paid. */
async function awaitWorkflow({ client }: Shop, orderNo: string): Promise<void> {
  const outcome = await client.workflow.getHandle(orderNo).result();
  assert.equal(z.object({ status: z.string() }).parse(outcome).status, 'paid');
}

/** As Redis has them. */
async function readLamps({ stores, stockKey }: Shop): Promise<number> {
  return Number(await stores.redis.hget(stockKey, 'lamp:available'));
}

/** Each call has a key of its own; those that take none do not look at it. */
async function call(
  { url }: Pick<Shop, 'url'>,
  authorization: string,
  method: string,
  path: string,
  body?: object,
): Promise<unknown> {
  const response = await fetch(`${url}${path}`, {
    method,
    headers: {
      authorization,
      'idempotency-key': ulid(),
      ...(body && { 'content-type': 'application/json' }),
    },
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  assert(response.ok, `${method} ${path} was answered with ${response.status} ${text}`);
  return JSON.parse(text);
}
