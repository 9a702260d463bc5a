/**
 * The sandbox payment provider: a real server that stands for a payment company, for demonstrations and
 * tests. It keeps a book of its own and can misbehave on purpose.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { bodyParser } from '@koa/bodyparser';
import Koa, { type Middleware } from 'koa';
import type { Logger } from 'pino';
import { createAlarms } from './book/alarms.ts';
import type { Fees } from './book/book-state.ts';
import { openBook } from './book/book.ts';
import { describeProblem, ProblemError, type ProblemCode } from './http/errors.ts';
import { PAGE_POLICY, renderMessagePage } from './http/page.ts';
import { createRoutes, type RoutesOptions } from './http/routes.ts';
import { createWebhookSender, DEFAULT_RETRY_DELAYS_MS } from './webhooks/webhooks.ts';

export interface SandboxOptions {
  host: string;
  /** Where browsers reach the sandbox; left out: the address on which it listens. */
  publicUrl?: string | undefined;
  /** The shop's page, to which the payment page links back; left out: there is no such link. */
  returnUrl?: string | undefined;
  /** Left out: the book lives in memory and ends with the process. */
  bookFile?: string | undefined;
  /** Left out: it charges nothing. */
  fees?: Fees;
  apiKey: string;
  webhookUrl: string;
  /** `whsec_…` */
  webhookSecret: string;
  /** The pause before each repeat of an undelivered event. */
  retryDelaysMs?: readonly number[];
  logger: Logger;
}

export interface RunningSandbox {
  url: string;
  /**
   * Takes no new request, starts no new delivery, then closes the book.
   * Takes at most the grace, two deliveries' time-outs and a second.
   */
  stop: () => Promise<void>;
}

/** How long the receiver of a callback may take; it commits a row before it answers. */
const WEBHOOK_TIMEOUT_MS = 5000;
/** Requests under way get this long to end before their connections are cut: each takes milliseconds. */
const CONNECTION_GRACE_MS = 2000;
/** A whole request has at most 16 KiB of body, so a client that needs longer only holds the connection. */
const REQUEST_TIMEOUT_MS = 10_000;

export function createSandboxProvider(options: SandboxOptions) {
  return {
    /** Port 0 takes any free one. Throws when the book cannot be read or the port is taken. */
    start: async (port: number): Promise<RunningSandbox> => {
      const { logger } = options;
      const book = await openBook(options.bookFile, options.fees ?? { paidBasisPoints: 0, disputed: 0 });
      const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS });
      try {
        const sender = createWebhookSender({
          book,
          url: options.webhookUrl,
          secret: options.webhookSecret,
          retryDelaysMs: options.retryDelaysMs ?? DEFAULT_RETRY_DELAYS_MS,
          timeoutMs: WEBHOOK_TIMEOUT_MS,
          logger,
        });
        const alarms = createAlarms(book, logger);
        server.listen(port, options.host);
        await once(server, 'listening');
        const url = urlOf(server);
        const answer = createApp(
          {
            book,
            apiKey: options.apiKey,
            publicUrl: (options.publicUrl ?? url).replace(/\/+$/, ''),
            returnUrl: options.returnUrl,
            redeliver: sender.redeliver,
          },
          logger,
        ).callback();
        // No connection is handed out in this turn of the event loop, so none meets a server without an app.
        server.on('request', (request, response) => void answer(request, response));
        for (const eventId of book.pendingEventIds()) sender.enqueue(eventId);
        for (const debt of book.debts()) alarms.set(debt);
        book.onRecorded({ event: sender.enqueue, debt: alarms.set });

        return {
          url,
          stop: async () => {
            alarms.stop();
            await closeServer(server);
            await sender.stop();
            book.close();
          },
        };
      } catch (error) {
        book.close();
        throw error;
      }
    },
  };
}

/** Bytes of a body: twice the longest signed order, as JSON may escape each character, and some room. */
const MAX_BODY_BYTES = 40 * 1024;

function createApp(routes: RoutesOptions, logger: Logger): Koa {
  const app = new Koa();
  app.on('error', (error: unknown) => logger.error({ err: error }, 'a reply could not be sent'));
  const router = createRoutes(routes);
  app.use(setSafetyHeaders);
  app.use(answerProblems(logger));
  app.use(
    bodyParser({ enableTypes: ['json', 'form'], jsonLimit: MAX_BODY_BYTES, formLimit: MAX_BODY_BYTES }),
  );
  app.use(router.routes());
  // Answers OPTIONS, and names the allowed methods where another was used.
  app.use(router.allowedMethods());
  return app;
}

const setSafetyHeaders: Middleware = async (ctx, next) => {
  ctx.set({
    'Cache-Control': 'no-store',
    'Content-Security-Policy': PAGE_POLICY,
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
  });
  await next();
};

/**
 * The one place where an exception becomes an answer. An unforeseen one is logged, and its message stays
 * here.
 */
function answerProblems(logger: Logger): Middleware {
  return async (ctx, next) => {
    try {
      await next();
      if (ctx.status === 404) throw new ProblemError('not_found');
      if (ctx.status === 405 || ctx.status === 501) throw new ProblemError('method_not_allowed');
    } catch (error) {
      const code = codeOf(error);
      if (code === 'internal') logger.error({ err: error, path: ctx.path }, 'a request failed');
      const problem = describeProblem(code);
      ctx.status = problem.status;
      // The rest of an oversized body is not worth reading, so the connection ends with the answer.
      if (code === 'body_too_large') ctx.set('Connection', 'close');
      if (ctx.accepts('json', 'html') === 'html') {
        ctx.type = 'html';
        ctx.body = renderMessagePage(problem.title);
      } else {
        ctx.type = 'application/problem+json';
        ctx.body = JSON.stringify({ ...problem, ...(error instanceof ProblemError ? error.extra : {}) });
      }
    }
  };
}

function codeOf(error: unknown): ProblemCode {
  if (error instanceof ProblemError) return error.code;
  const status = error instanceof Error && 'status' in error ? error.status : undefined;
  if (status === 413) return 'body_too_large';
  return typeof status === 'number' && status >= 400 && status < 500 ? 'invalid_request' : 'internal';
}

async function closeServer(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  const cut = setTimeout(() => server.closeAllConnections(), CONNECTION_GRACE_MS);
  await closed;
  clearTimeout(cut);
}

function urlOf(server: Server): string {
  const bound = server.address();
  assert(bound !== null && typeof bound === 'object', 'a listening TCP server has an address');
  const host = bound.family === 'IPv6' ? `[${bound.address}]` : bound.address;
  return `http://${host}:${bound.port}`;
}
