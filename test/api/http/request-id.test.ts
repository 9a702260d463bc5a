/** X-Request-Id: taken from the caller or made, answered, and in each line of the call. */

import { beforeAll, expect, test } from 'vitest';
import { buildSale } from '../../support/factories.ts';
import { send, type Shopper } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { openTestLog } from '../test-log.ts';

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

let api: TestApi;
let shopper: Shopper;
let saleId: string;
beforeAll(async () => {
  api = await openApi();
  shopper = await api.shopper();
  ({ saleId } = await api.stores.openSale(buildSale()));
});

const idOf = ({ headers }: { headers: Headers }) => headers.get('x-request-id');
const cart = () => ({ saleId, items: [{ sku: 'lamp', quantity: 1 }] });

test.each(['0b1f-42', 'Root=1-67891233-abcdef012345678912345678', 'a'.repeat(128), 'AbC+/=:._'])(
  'a well-formed one is answered as it came: %s',
  async (given) => {
    const headers = { 'x-request-id': given };
    expect(idOf(await shopper.placeOrder(cart(), headers))).toBe(given);
    expect(idOf(await shopper.call('GET', '/v1/orders/none', { headers }))).toBe(given);
    expect(idOf(await send(`${api.url}/v1/sales/${saleId}`, 'GET', { headers }))).toBe(given);
  },
);

test.each([undefined, '', 'a b', 'x'.repeat(129), '{"a":1}', 'é'])(
  'another one is replaced by one of ours: %s',
  async (given) => {
    const headers: Record<string, string> = given === undefined ? {} : { 'x-request-id': given };
    const answers = [
      await shopper.placeOrder(cart(), headers),
      await shopper.placeOrder('no JSON', headers),
      await send(`${api.url}/healthz`, 'GET', { headers }),
      await send(`${api.url}/nowhere`, 'GET', { headers }),
    ];
    for (const answer of answers) expect(idOf(answer)).toMatch(UUID);
    expect(new Set(answers.map(idOf)).size).toBe(answers.length);
  },
);

test('each line of a call has it', async () => {
  const { log, lines } = openTestLog();
  const fail = async (): Promise<never> => {
    throw new Error('away');
  };
  const { stores } = api;
  const broken = await api.withParts({
    log,
    reservations: { ...stores.reservations, reserve: fail, lookUp: fail },
  });
  try {
    const buyer = await api.shopper();
    const orderNo = await buyer.buy(saleId);
    const caller = await broken.shopper(buyer.userId);
    await caller.placeOrder(cart(), { 'x-request-id': 'purchase' });
    await caller.getOrder(orderNo, { 'x-request-id': 'poll' });
  } finally {
    await broken.close();
  }

  expect(lines().length).toBeGreaterThan(1);
  for (const line of lines())
    expect(line).toMatchObject({ requestId: expect.stringMatching(/^(?:purchase|poll)$/) });
  for (const requestId of ['purchase', 'poll'])
    expect(lines()).toContainEqual(expect.objectContaining({ requestId }));
});
