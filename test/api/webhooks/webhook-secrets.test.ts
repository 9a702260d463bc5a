/** A webhook secret is replaced while notices come: the provider changes over at its own time. */

import { beforeAll, expect, test } from 'vitest';
import { createRemoteAdapter } from '../../../src/providers/remote.ts';
import { PROVIDER_API_KEY } from '../../support/http-app.ts';
import { scrapeCounter } from '../metrics.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { harmlessNotice, sendNotice } from './signed-notice.ts';

const OLDER = 'whsec_dGhlLW9sZGVyLXNlY3JldC1vZi10aGUtdGVzdHM=';
const NEWER = 'whsec_dGhlLW5ld2VyLXNlY3JldC1vZi10aGUtdGVzdHM=';

let api: TestApi;

beforeAll(async () => {
  api = await openApi();
});

/**
 * An app with these secrets, as after a restart; answers how a notice signed with each of both is received.
 */
async function answersWith(webhookSecrets: readonly string[]) {
  const baseUrl = api.providerUrl;
  const provider = createRemoteAdapter({
    name: 'sandbox',
    baseUrl,
    apiKey: PROVIDER_API_KEY,
    webhookSecrets,
    deployment: 'holdfast',
    requestTimeoutMs: 60_000,
  });
  const app = await api.withParts({ provider });
  const older = await sendNotice(app.url, harmlessNotice(), { secret: OLDER });
  const newer = await sendNotice(app.url, harmlessNotice(), { secret: NEWER });
  const { accepted, forged } = await scrapeCounter(app.url, 'holdfast_notices_total');
  return { older: older.status, newer: newer.status, accepted, forged };
}

test('before a rotation only notices with the older secret are taken', async () => {
  expect(await answersWith([OLDER])).toEqual({ older: 204, newer: 401, accepted: 1, forged: 1 });
});

test.each([[[NEWER, OLDER]], [[OLDER, NEWER]]])(
  'with two secrets notices with either are taken',
  async (both) => {
    expect(await answersWith(both)).toEqual({ older: 204, newer: 204, accepted: 2, forged: 0 });
  },
);

test('once the older secret is removed, a notice that is signed with it is refused', async () => {
  expect(await answersWith([NEWER])).toEqual({ older: 401, newer: 204, accepted: 1, forged: 1 });
});
