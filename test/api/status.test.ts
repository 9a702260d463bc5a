/** A program reads what is wrong and what waits, from memory: no store that is away delays it. */

import { beforeAll, expect, test } from 'vitest';
import { signToken } from '../../src/api/http/auth.ts';
import { createStatusBoard, statusReaders } from '../../src/status/board.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { JWT_SECRET, send, type Reply } from '../support/shopper.ts';
import { openApi, type TestApi } from './open-api.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});

async function readStatus(url: string): Promise<Reply> {
  const authorization = `Bearer ${await signToken(JWT_SECRET, 'olga', '1h', { scope: 'status:read' })}`;
  return send(`${url}/v1/admin/status`, 'GET', { headers: { authorization } });
}

test('what was read is answered, what is wrong first', async () => {
  const { saleId } = await api.stores.openSale(buildSale());
  await api.stores.reservations.reserve(buildReserveRequest({ saleId }));
  const statusBoard = createStatusBoard(statusReaders(async () => api.stores, api.stores));
  await statusBoard.look();
  const app = await api.withParts({ statusBoard });
  const { status, body } = await readStatus(app.url);
  await app.close();
  expect(status).toBe(200);
  expect(body).toMatchObject({
    wrong: [{ what: expect.stringMatching(/^No worker lives/) }],
    workers: [],
    outboxes: [{ saleId, waiting: 1 }],
    ordersNotBegun: { waiting: 0, oldestMs: null },
    parked: [],
    comparedAt: null,
    endpoints: [],
  });
});

test('while nothing could be read, that is what is wrong', async () => {
  const { status, body } = await readStatus(api.url);
  expect(status).toBe(200);
  expect(body).toMatchObject({
    wrong: [
      { what: expect.stringMatching(/^Redis does not answer/) },
      { what: expect.stringMatching(/^MySQL does not answer/) },
      { what: expect.stringMatching(/^It is not known which workers live/) },
    ],
    workers: null,
    outboxes: null,
    paymentsWaiting: null,
  });
});
