/**
 * A back office that is pushed to: it verifies what comes, can be away, and remembers what it was told.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Webhook } from 'standardwebhooks';
import { z } from 'zod';
import { ORDER_STATUSES, PAYMENT_STATES } from '../src/orders/order.ts';
import { findFreePort } from '../stack/processes/ports.ts';
import type { Notice, Told } from './feed-checks.ts';

/** As the feed shows it, of what is judged. */
const pushed = z.looseObject({
  id: z.string(),
  type: z.string(),
  orderNo: z.string().optional(),
  version: z.int().optional(),
  data: z.looseObject({
    order: z
      .looseObject({ status: z.enum(ORDER_STATUSES), payment: z.enum(PAYMENT_STATES), deadline: z.string() })
      .optional(),
  }),
});

interface PushLog {
  /** First receptions of orders' changes alone, in the order in which they came. */
  receptions: Told[];
  /** And of deadlines that are near. */
  notices: Notice[];
  /** Of events that had come before. */
  repeated: number;
  /** What was not signed by the secret, or was no event. */
  forged: number;
}

export type PushReceiver = Awaited<ReturnType<typeof openPushReceiver>>;

/** Listens on a free port of this machine, and takes nothing before it knows the secret. */
export async function openPushReceiver() {
  const log: PushLog = { receptions: [], notices: [], repeated: 0, forged: 0 };
  const known = new Set<string>();
  let secret: string | undefined;

  function take(body: string, request: IncomingMessage): void {
    const event = pushed.parse(new Webhook(secret ?? '').verify(body, headersOf(request)));
    assert.equal(event.id, request.headers['webhook-id'], 'the id of the event is that of the delivery');
    if (known.has(event.id)) {
      log.repeated += 1;
      return;
    }
    known.add(event.id);
    const { id, type, orderNo, version, data } = event;
    if (orderNo === undefined || version === undefined || !data.order) return;
    const { status, payment, deadline } = data.order;
    if (type === 'order.expiring') log.notices.push({ id, orderNo, version, deadline });
    else log.receptions.push({ orderNo, version, status, payment });
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let status = 204;
    try {
      const body = await read(request);
      // Synchronously from here on, so that what came first is noted first.
      if (secret === undefined) status = 503;
      else take(body, request);
    } catch {
      log.forged += 1;
      status = 400;
    }
    response.writeHead(status).end();
  }

  const listen = async (port: number): Promise<Server> => {
    const server = createServer((request, response) => void answer(request, response));
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return server;
  };
  // While it is away its port is lent to no connection.
  const port = await findFreePort();
  let server: Server | undefined = await listen(port);

  async function goAway(): Promise<void> {
    const leaving = server;
    server = undefined;
    if (!leaving) return;
    leaving.closeAllConnections();
    leaving.close();
    await once(leaving, 'close');
  }

  return {
    url: `http://127.0.0.1:${port}/pushed`,
    log,

    /** The secret that the endpoint was created with. */
    trust(given: string): void {
      secret = given;
    },

    /** From now on its connections are refused; what it was answering is cut off. */
    goAway,

    async comeBack(): Promise<void> {
      server ??= await listen(port);
    },

    close: goAway,
  };
}

function headersOf({ headers }: IncomingMessage): Record<string, string> {
  const names = ['webhook-id', 'webhook-timestamp', 'webhook-signature'];
  return Object.fromEntries(names.map((name) => [name, String(headers[name])]));
}

async function read(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(z.instanceof(Buffer).parse(chunk));
  return Buffer.concat(chunks).toString();
}
