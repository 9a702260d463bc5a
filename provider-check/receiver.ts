/** The check's own receiver of notices: keeps each with its very bytes, and says how it is signed. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Webhook } from 'standardwebhooks';
import { moneyNoticeSchema, noticeEnvelopeSchema, type MoneyNotice } from '../src/providers/remote-wire.ts';

/** Where Holdfast takes notices; the contract names no other address. */
export const NOTICE_PATH = '/v1/webhooks/payments';
/** Bytes that Holdfast reads of a notice. */
const MAX_NOTICE_BYTES = 262_144;
/** Notices that are kept: a run makes some dozens, and a provider that floods must not fill the memory. */
const MAX_NOTICES = 1_000;

export interface Notice {
  /** The `webhook-id`; empty where it has none. */
  id: string;
  /** Unix time in ms at which it came, by this machine's clock. */
  atMs: number;
  /** The `webhook-timestamp`, in seconds; NaN where it is none. */
  sentAtSeconds: number;
  /** What is wrong with it, in words; undefined: it is signed, and of the contract's form. */
  fault: string | undefined;
  /** As the contract has it; undefined where its body is of another form. */
  said: MoneyNotice | undefined;
  /** The status that it was answered with. */
  answered: number;
}

export type Receiver = Awaited<ReturnType<typeof openReceiver>>;

/** @param secrets `whsec_…`: a notice is signed by any of them */
export async function openReceiver(host: string, port: number, secrets: readonly string[]) {
  const webhooks = secrets.map((secret) => new Webhook(secret));
  const notices: Notice[] = [];
  const waiting = new Set<() => void>();
  /** Orders whose next notice is answered 503. */
  const refused = new Set<string>();
  const misdirected = new Set<string>();

  async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? '/', 'http://receiver');
    if (request.method !== 'POST' || pathname !== NOTICE_PATH) {
      misdirected.add(`${request.method} ${pathname}`);
      response.writeHead(404).end();
      return;
    }
    const body = await read(request);
    const notice = body === undefined ? tooLarge(request) : judge(request, body, webhooks);
    const reference = notice.said?.data.reference ?? '';
    if (notice.said?.type === 'payment.succeeded' && refused.delete(reference)) notice.answered = 503;
    if (notices.length < MAX_NOTICES) notices.push(notice);
    response.writeHead(notice.answered, notice.answered === 503 ? { 'retry-after': '1' } : {}).end();
    for (const look of waiting) look();
  }

  // A request that breaks off is the provider's to repeat.
  const server = createServer((request, response) => {
    receive(request, response).catch(() => response.destroy());
  });
  server.listen(port, host);
  await once(server, 'listening');
  const bound = server.address();
  assert(bound !== null && typeof bound === 'object', 'a listening TCP server has an address');

  return {
    url: `http://${host}:${bound.port}${NOTICE_PATH}`,
    /** In the order in which they came. */
    notices,
    /** Calls that came elsewhere, each once. */
    misdirected,
    /** Answers 503 to the next notice of this order's payment, as Holdfast does while its store is away. */
    refuseNext: (reference: string) => void refused.add(reference),
    /** The first that fits, now or within `withinMs`; undefined when none comes. */
    async wait(fits: (notice: Notice) => boolean, withinMs: number): Promise<Notice | undefined> {
      const found = notices.find(fits);
      if (found) return found;
      return new Promise((resolve) => {
        const end = (notice: Notice | undefined) => {
          clearTimeout(timer);
          waiting.delete(look);
          resolve(notice);
        };
        const look = () => {
          const notice = notices.find(fits);
          if (notice) end(notice);
        };
        const timer = setTimeout(() => end(undefined), withinMs);
        waiting.add(look);
      });
    },
    async close(): Promise<void> {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Undefined: it is larger than Holdfast reads. */
async function read(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    assert(Buffer.isBuffer(chunk));
    bytes += chunk.length;
    if (bytes <= MAX_NOTICE_BYTES) chunks.push(chunk);
  }
  return bytes > MAX_NOTICE_BYTES ? undefined : Buffer.concat(chunks);
}

function headerOf(request: IncomingMessage, name: string): string {
  return String(request.headers[name] ?? '');
}

function tooLarge(request: IncomingMessage): Notice {
  const fault = `it has more than ${MAX_NOTICE_BYTES} bytes`;
  return { ...envelopeOf(request), fault, said: undefined, answered: 413 };
}

function envelopeOf(request: IncomingMessage) {
  const timestamp = headerOf(request, 'webhook-timestamp');
  return {
    id: headerOf(request, 'webhook-id'),
    atMs: Date.now(),
    sentAtSeconds: /^\d+$/.test(timestamp) ? Number(timestamp) : NaN,
  };
}

/** Answered as Holdfast does: 401 where it is not signed, 400 where its form is unknown, else 204. */
function judge(request: IncomingMessage, body: Buffer, webhooks: readonly Webhook[]): Notice {
  const envelope = envelopeOf(request);
  const json = parseJson(body);
  const parsed = moneyNoticeSchema.safeParse(json);
  const said = parsed.data;
  const signed = describeSignature(request, body, json, webhooks);
  if (signed !== undefined) return { ...envelope, fault: signed, said, answered: 401 };
  if (!/^[^]{1,128}$/.test(envelope.id))
    return { ...envelope, fault: 'its webhook-id has more than 128 characters', said, answered: 400 };
  // Notices of other types are recorded and ignored.
  const type = noticeEnvelopeSchema.safeParse(json).data?.type;
  const isOther =
    type !== undefined && !moneyNoticeSchema.options.some((each) => each.shape.type.value === type);
  if (said !== undefined || isOther) return { ...envelope, fault: undefined, said, answered: 204 };
  const first = parsed.error?.issues[0];
  const where = json === undefined ? 'it is not JSON' : `${first?.path.join('.')}: ${first?.message}`;
  return { ...envelope, fault: `of another form: ${where}`, said, answered: 400 };
}

/** What is wrong with the signature; undefined: nothing. */
function describeSignature(
  request: IncomingMessage,
  body: Buffer,
  json: unknown,
  webhooks: readonly Webhook[],
): string | undefined {
  const names = ['webhook-id', 'webhook-timestamp', 'webhook-signature'];
  const headers = Object.fromEntries(names.map((name) => [name, headerOf(request, name)]));
  const missing = names.filter((name) => headers[name] === '');
  if (missing.length > 0) return `it has no ${missing.join(', ')}`;
  const why = refusalOf(body, headers, webhooks);
  if (why === undefined) return undefined;
  const written = json === undefined ? undefined : Buffer.from(JSON.stringify(json));
  if (written && !written.equals(body) && refusalOf(written, headers, webhooks) === undefined)
    return 'its signature is over its JSON written anew, and not over the bytes that were sent';
  return `its signature is refused: ${why}`;
}

function refusalOf(
  body: Buffer,
  headers: Record<string, string>,
  webhooks: readonly Webhook[],
): string | undefined {
  let why: string | undefined;
  for (const webhook of webhooks) {
    try {
      webhook.verify(body, headers, { jsonParse: false });
      return undefined;
    } catch (error) {
      why = error instanceof Error ? error.message : String(error);
    }
  }
  return why;
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
}
