/** The receiver of pushes in a storm: what it takes, and when it is away. */

import { afterEach, beforeEach, expect, test } from 'vitest';
import { openPushReceiver, type PushReceiver } from '../../chaos/push-receiver.ts';
import { createSecret, signMessage, createSender, type Answer } from '../../src/push/deliverer.ts';

const SECRET = createSecret();
const ORDER = 'storm-0-1-A';

let receiver: PushReceiver;
beforeEach(async () => {
  receiver = await openPushReceiver();
  receiver.trust(SECRET);
});
afterEach(() => receiver.close());

const deadline = '2026-11-21T10:30:00.000Z';

async function push(
  version: number,
  secret = SECRET,
  id = `${ORDER}.${version}`,
  type = 'order.paid',
): Promise<Answer> {
  const order = { status: 'paid', payment: 'applied', deadline };
  const event = { id: `${ORDER}.${version}`, type, orderNo: ORDER, version, data: { order } };
  const body = JSON.stringify(event);
  const sender = createSender({ allowPrivate: true });
  const answer = await sender.post(receiver.url, signMessage(id, body, [secret], new Date()), body);
  sender.close();
  return answer;
}

test('it takes what is signed by its secret, and counts what comes again', async () => {
  expect(await push(1)).toMatchObject({ status: 204 });
  expect(await push(1)).toMatchObject({ status: 204 });
  expect(receiver.log).toEqual({
    receptions: [{ orderNo: ORDER, version: 1, status: 'paid', payment: 'applied' }],
    notices: [],
    repeated: 1,
    forged: 0,
  });
});

test('a deadline that is near is no change of its order', async () => {
  await push(1, SECRET, `${ORDER}.1`, 'order.expiring');
  const notices = [{ id: `${ORDER}.1`, orderNo: ORDER, version: 1, deadline }];
  expect(receiver.log).toMatchObject({ receptions: [], notices });
});

test.each([
  ['signed by another', () => push(1, createSecret())],
  ['sent under another id', () => push(1, SECRET, `${ORDER}.2`)],
])('it refuses what is %s', async (_, act) => {
  expect(await act()).toMatchObject({ status: 400 });
  expect(receiver.log).toEqual({ receptions: [], notices: [], repeated: 0, forged: 1 });
});

test('while it is away nothing is taken, and it comes back under the same address', async () => {
  await receiver.goAway();
  await receiver.goAway();
  expect((await push(1)).kind).toBe('failed');
  await receiver.comeBack();
  expect(await push(1)).toMatchObject({ status: 204 });
  expect(receiver.log.receptions).toHaveLength(1);
});
