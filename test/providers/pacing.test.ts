/** Calls to the provider wait for their turn, and for the end of a pause that it asked for. */

import { expect, test } from 'vitest';
import { createPaced, type Pace } from '../../src/providers/pacing.ts';
import { ProviderBusyError } from '../../src/providers/provider.ts';
import { createRemoteAdapter } from '../../src/providers/remote.ts';
import {
  API_KEY,
  buildSessionRequest,
  countStruck,
  SECRET,
  setMischief,
  withWorld,
} from '../sandbox/sandbox-world.ts';

/** A pace that answers these waits, and then has room; and the pauses that were reported to it. */
function openPace(...waits: number[]): { pace: Pace; pauses: number[] } {
  const pauses: number[] = [];
  return {
    pace: { take: async () => waits.shift() ?? 0, pause: async (ms) => void pauses.push(ms) },
    pauses,
  };
}

const HOUR_MS = 60 * 60_000;

test('a call waits for its turn', async () => {
  const { pace } = openPace(1, 1);

  expect(await createPaced(pace, 'shopper')(async () => 'called')).toBe('called');
});

test.each(['shopper', 'background'] as const)(
  'a %s call that would wait for long is not made',
  async (urgency) => {
    const { pace } = openPace(HOUR_MS);
    let calls = 0;

    const call = createPaced(pace, urgency)(async () => (calls += 1));

    await expect(call).rejects.toMatchObject({ name: 'ProviderBusyError', retryAfterMs: HOUR_MS });
    expect(calls).toBe(0);
  },
);

test('a pause that the provider asks for is reported to all, and the call ends with it', async () => {
  const { pace, pauses } = openPace();
  const busy = new ProviderBusyError('too many', 2_000);

  await expect(createPaced(pace, 'shopper')(() => Promise.reject(busy))).rejects.toBe(busy);
  expect(pauses).toEqual([2_000]);
});

test('a call that no shopper waits for is made again after a short pause', async () => {
  const { pace, pauses } = openPace();
  const answers = [
    () => Promise.reject(new ProviderBusyError('too many', 1)),
    () => Promise.resolve('called'),
  ];

  const call = createPaced(
    pace,
    'background',
  )(() => answers.shift()?.() ?? Promise.reject(new Error('again')));

  expect(await call).toBe('called');
  expect(pauses).toEqual([1]);
});

test('any other failure is no reason for a pause', async () => {
  const { pace, pauses } = openPace();

  const call = createPaced(pace, 'background')(() => Promise.reject(new Error('ECONNREFUSED')));

  await expect(call).rejects.toThrow('ECONNREFUSED');
  expect(pauses).toEqual([]);
});

test('the sandbox can refuse calls as a provider does that gets too many, and then did nothing', () =>
  withWorld(async ({ startSandbox }) => {
    const sandbox = await startSandbox();
    const { pace, pauses } = openPace();
    const adapter = createRemoteAdapter({
      name: 'sandbox',
      baseUrl: sandbox.url,
      apiKey: API_KEY,
      webhookSecrets: [SECRET],
      deployment: 'holdfast',
      requestTimeoutMs: 60_000,
      paced: createPaced(pace, 'shopper'),
    });
    await setMischief(sandbox, { rate_limited: 1 });

    const opening = adapter.openSession(buildSessionRequest());
    await expect(opening).rejects.toMatchObject({ name: 'ProviderBusyError', retryAfterMs: 1_000 });
    expect(pauses).toEqual([1_000]);
    expect(await countStruck(sandbox)).toMatchObject({ rate_limited: 1 });

    await setMischief(sandbox, {});
    expect((await adapter.openSession(buildSessionRequest())).url).toContain('/pay/');
  }));
