/** `npm run provider-check` on the sandbox, which keeps the contract, and behind servers that break it. */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { Webhook } from 'standardwebhooks';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { providerCheck } from '../../provider-check/command.ts';
import { API_KEY, SECRET, withWorld } from '../sandbox/sandbox-world.ts';

interface Passed {
  path: string;
  headers: Record<string, string>;
  body: string;
}
interface Answer {
  status: number;
  body: string;
  retryAfter: string | null;
}
/** What stands between the check and the sandbox: it passes all on, but for what it breaks. */
interface Breakage {
  /** Of a call to the sandbox. */
  call?: (call: Passed) => Passed;
  /** Of the sandbox's answer to a call. */
  answer?: (call: Passed, answer: Answer) => Answer | Promise<Answer>;
  /** Of the sandbox's notice. */
  notice?: (notice: Passed) => Passed;
}

const NOTICES = '/v1/webhooks/payments';
/** Presses the button of the sandbox's page; its exit code is that of the answer. */
const PRESS = `
  const page = new URL(process.argv[1]);
  const session = page.pathname.split('/').at(-1);
  const answer = await fetch(new URL('/v1/payment_sessions/' + session + '/pay', page), { method: 'POST' });
  process.exit(answer.ok ? 0 : 1);`;
const PAY = `'${process.execPath}' --input-type=module -e "$PRESS" --`;

/** Runs the command against a sandbox of its own; answers its exit code and the names of its cases. */
async function check(breakage: Breakage = {}, given: { args?: string[]; env?: Record<string, string> } = {}) {
  const lines: string[] = [];
  let code = NaN;
  await withWorld(async ({ startSandbox }) => {
    let noticesTo = '';
    let sandboxUrl = '';
    await withServer(
      async (passed) => {
        const isNotice = passed.path === NOTICES;
        const sent = (isNotice ? breakage.notice?.(passed) : breakage.call?.(passed)) ?? passed;
        const address = isNotice ? noticesTo : sandboxUrl + sent.path;
        const response = await fetch(address, {
          method: passed.method,
          headers: sent.headers,
          ...(sent.body === '' ? {} : { body: sent.body }),
        });
        const { status, headers } = response;
        const answer = { status, body: await response.text(), retryAfter: headers.get('retry-after') };
        return breakage.answer?.(passed, answer) ?? answer;
      },
      async (url) => {
        const sandbox = await startSandbox({ webhookUrl: url + NOTICES });
        sandboxUrl = sandbox.url;
        const env = {
          ...process.env,
          PRESS,
          PAYMENT_PROVIDER_API_KEY: API_KEY,
          WEBHOOK_SECRETS: SECRET,
          ...given.env,
        };
        const args = ['--url', url, '--listen', '127.0.0.1:0', ...(given.args ?? ['--pay', PAY])];
        code = await providerCheck(args, env, (line) => {
          lines.push(line);
          noticesTo ||= /expected at (\S+)/.exec(line)?.[1] ?? '';
        });
      },
    );
  });
  const named = (mark: string) =>
    lines.flatMap((line) => (line.startsWith(mark) ? [/ ([a-z-]+):/.exec(line)?.[1] ?? line] : []));
  return { code, lines, passed: named('ok'), failed: named('FAILED'), notChecked: named('not checked') };
}

async function withServer(
  answer: (passed: Passed & { method: string }) => Promise<Answer>,
  use: (url: string) => Promise<void>,
): Promise<void> {
  const server = createServer((request, response) => {
    void read(request)
      .then(answer)
      .then(
        ({ status, body, retryAfter }) =>
          void response
            .writeHead(status, {
              'content-type': 'application/json',
              ...(retryAfter === null ? {} : { 'retry-after': retryAfter }),
            })
            .end(status === 204 ? undefined : body),
        () => void response.destroy(),
      );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const bound = server.address();
  assert(bound !== null && typeof bound === 'object');
  try {
    await use(`http://127.0.0.1:${bound.port}`);
  } finally {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  }
}

const PASSED_HEADERS = [
  'authorization',
  'content-type',
  'idempotency-key',
  'webhook-id',
  'webhook-timestamp',
  'webhook-signature',
];

async function read(request: IncomingMessage): Promise<Passed & { method: string }> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(z.instanceof(Buffer).parse(chunk));
  const headers = Object.fromEntries(
    PASSED_HEADERS.flatMap((name) => {
      const value = request.headers[name];
      return typeof value === 'string' ? [[name, value]] : [];
    }),
  );
  return {
    method: request.method ?? '',
    path: request.url ?? '',
    headers,
    body: Buffer.concat(chunks).toString(),
  };
}

const withNewKey =
  (path: string) =>
  (call: Passed): Passed =>
    call.path === path ? { ...call, headers: { ...call.headers, 'idempotency-key': randomUUID() } } : call;

/** Signed as it should be, over another body. */
function signAnew(notice: Passed, body: string): Passed {
  const id = notice.headers['webhook-id'] ?? '';
  const at = new Date(Number(notice.headers['webhook-timestamp']) * 1_000);
  return {
    ...notice,
    body,
    headers: { ...notice.headers, 'webhook-signature': new Webhook(SECRET).sign(id, at, body) },
  };
}

test.concurrent('the sandbox keeps every case, and the exit code is 0', async () => {
  const { code, lines, failed, notChecked, passed } = await check();
  expect({ code, failed, notChecked }, lines.join('\n')).toEqual({ code: 0, failed: [], notChecked: [] });
  expect(passed.length).toBeGreaterThan(25);
  for (const line of lines.slice(1, -1)) expect(line).toMatch(/^ok +[a-z-]+: .+; got \S/);
});

test.concurrent('without --pay the cases of money are listed as not checked, and the exit code is 2', async () => {
  const { code, failed, notChecked, passed } = await check({}, { args: [] });
  expect({ code, failed }).toEqual({ code: 2, failed: [] });
  expect(passed).toContain('session-repeated');
  expect(notChecked).toContain('refund-repeated');
  expect(notChecked).toContain('notice-sent');
});

test.concurrent.each<[what: string, breakage: Breakage, failed: string[]]>([
  [
    'opens a session for each call, whatever its key',
    { call: withNewKey('/v1/payment_sessions') },
    ['session-repeated', 'session-at-once', 'session-key-reused'],
  ],
  [
    'refunds at each call, whatever its key',
    { call: withNewKey('/v1/refunds') },
    ['refund-repeated', 'refund-at-once', 'refund-key-reused'],
  ],
  [
    'answers the void of a paid session as voided',
    {
      answer: ({ path }, answer) =>
        path.endsWith('/void') && answer.status === 409
          ? { ...answer, status: 200, body: JSON.stringify({ status: 'voided' }) }
          : answer,
    },
    ['void-paid'],
  ],
  [
    'signs other bytes of its notices than it sends',
    {
      notice: (notice) => ({ ...notice, body: JSON.stringify(JSON.parse(notice.body), undefined, 1) }),
    },
    ['notice-sent', 'notice-repeated', 'refund-noticed', 'notices-signed'],
  ],
  [
    'repeats a notice with another amount',
    (() => {
      const sent = new Set<string>();
      return {
        notice: (notice: Passed) => {
          const id = notice.headers['webhook-id'] ?? '';
          const isFirst = !sent.has(id);
          sent.add(id);
          return isFirst ? notice : signAnew(notice, notice.body.replace(/"amount":\d+/, '"amount":7'));
        },
      };
    })(),
    ['notice-repeated'],
  ],
  [
    'leaves the last payment of its book out',
    {
      answer: ({ path }, answer) => {
        if (!path.startsWith('/v1/payments?') || answer.status !== 200) return answer;
        const page = z.looseObject({ data: z.array(z.unknown()) }).parse(JSON.parse(answer.body));
        const data = page.data.length > 1 ? page.data.slice(0, -1) : page.data;
        return { ...answer, body: JSON.stringify({ ...page, data }) };
      },
    },
    ['book-pages'],
  ],
])('a provider that %s fails in those cases', async (_, breakage, expected) => {
  const { code, failed, lines } = await check(breakage, { args: ['--pay', PAY, '--wait-seconds', '5'] });
  expect({ code, failed }, lines.join('\n')).toEqual({ code: 1, failed: expected });
});

test.concurrent('a call that is answered 429 is made again after its Retry-After, and no sooner', async () => {
  const atMs: number[] = [];
  const { code, lines, failed } = await check(
    {
      answer: ({ path }, answer) => {
        if (!path.startsWith('/v1/payments?') || answer.status !== 200) return answer;
        atMs.push(Date.now());
        return atMs.length === 1 ? { status: 429, body: '{"code":"slow"}', retryAfter: '1' } : answer;
      },
    },
    { args: [] },
  );
  expect({ code, failed }, lines.join('\n')).toEqual({ code: 2, failed: [] });
  expect(lines).toContain('  the provider asks for a pause of 1 s');
  const [first = NaN, again = NaN] = atMs;
  // Both are whole milliseconds, and a timer may fire one early.
  expect(again - first).toBeGreaterThan(990);
});

test.concurrent('a 429 without Retry-After fails, and so does a call that gets no answer', async () => {
  const { code, lines, failed } = await check(
    {
      answer: ({ path }, answer) => {
        if (path.startsWith('/v1/reversals')) return new Promise<never>(() => {});
        return path.startsWith('/v1/payments?') && answer.status === 200
          ? { status: 429, body: '', retryAfter: null }
          : answer;
      },
    },
    { args: [] },
  );
  expect({ code, failed }, lines.join('\n')).toEqual({ code: 1, failed: ['key-wrong', 'book-read'] });
  expect(lines.join('\n')).toMatch(/key-wrong.*no answer within 5 s/);
  expect(lines.join('\n')).toMatch(/book-read.*429 with Retry-After: none/);
});

test.concurrent('what rests on a page that was not paid is not checked', async () => {
  const { code, failed, notChecked } = await check({}, { args: ['--pay', 'false'] });
  expect({ code, failed }).toEqual({ code: 1, failed: ['page-pays'] });
  expect(notChecked).toContain('refund-made');
});

test.concurrent('a command of --pay that does not end is ended', async () => {
  const { failed } = await check({}, { args: ['--pay', 'sleep 600 #', '--pay-seconds', '1'] });
  expect(failed).toEqual(['page-pays']);
});

test.concurrent('without its settings it names them, and the exit code is 3', async () => {
  const { code, lines } = await check({}, { env: { WEBHOOK_SECRETS: '' } });
  expect({ code, text: lines.join('\n') }).toEqual({
    code: 3,
    text: expect.stringContaining('WEBHOOK_SECRETS'),
  });
  expect((await check({}, { args: ['--amount', 'much'] })).code).toBe(3);
  expect((await check({}, { args: ['--help'] })).code).toBe(0);
});
