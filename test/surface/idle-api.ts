/** The API without servers: its stores fail or hang, which is enough to see whom it lets in, and how far. */

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { SignJWT } from 'jose';
import { pino } from 'pino';
import { z } from 'zod';
import { createApp } from '../../src/api/app.ts';
import { ticketKeys } from '../../src/api/calls/ticket.ts';
import { createVerification } from '../../src/api/calls/verification.ts';
import { createTokenSigner, USUAL_RULES } from '../../src/api/http/auth.ts';
import { WATCHER_BOUNDS } from '../../src/api/watchers.ts';
import { PURCHASES_AT_ONCE, USER_PURCHASES_PER_MINUTE } from '../../src/limits.ts';
import { createMetrics } from '../../src/metrics.ts';
import { createStatusBoard, statusReaders } from '../../src/status/board.ts';
import type { Stores } from '../../src/stores/open.ts';
import { JWT_SECRET } from '../support/shopper.ts';
import { signer } from '../support/signer.ts';
import { TICKET_AUDIENCE } from '../support/tickets.ts';
import { buildParts } from './answering-parts.ts';

export interface IdleApi {
  /** Every method and path that it answers; HEAD goes with GET. */
  routes: readonly string[];
  /** From now on the stores never answer; before that they fail. */
  hang: () => void;
  fail: () => void;
  /** @param target a path with its query */
  call: (method: string, target: string, options?: CallOptions) => Promise<Answer>;
  close: () => void;
}

interface CallOptions {
  /** Further claims of the caller's token; undefined: it has none. */
  claims?: object | undefined;
  body?: object | undefined;
}

interface Answer {
  status: number;
  text: string;
  /** Of a problem. */
  code?: string | undefined;
  /** Which the token lacks. */
  scope?: string | undefined;
}

const problem = z.object({ code: z.string().optional(), scope: z.string().optional() });

const RULES = { ...USUAL_RULES, secret: JWT_SECRET };

/** By name, because the app copies them. */
const STORES: Record<Exclude<keyof Stores, 'tracing'>, true> = {
  log: true,
  redis: true,
  pool: true,
  deployment: true,
  connectBlocking: true,
  reservations: true,
  holds: true,
  forgetting: true,
  saleStock: true,
  paymentAttempts: true,
  providerPace: true,
  budget: true,
  saleRebuild: true,
  saleMends: true,
  driftBoard: true,
  feedMarks: true,
  orders: true,
  orderClaims: true,
  callingOffs: true,
  deadlines: true,
  endings: true,
  projectionDoubts: true,
  payments: true,
  paymentSessions: true,
  unmatchedPayments: true,
  refunds: true,
  refundClaims: true,
  parkedWork: true,
  endpoints: true,
  deliveries: true,
  replays: true,
  sales: true,
  eventRows: true,
  eventConsumers: true,
  saleChanges: true,
  saleNews: true,
  cursors: true,
  comparedBook: true,
  repairs: true,
  retention: true,
  returnedUnits: true,
  persons: true,
  temporalNamespaces: true,
  saleEpochs: true,
  readSaleSnapshot: true,
  saleBooks: true,
  orderBooks: true,
  mysqlStatus: true,
  mysqlSetup: true,
  redisStatus: true,
  redisSetup: true,
  staffOrders: true,
  userOrders: true,
  close: true,
};

export async function openIdleApi(): Promise<IdleApi> {
  const fail = () => {
    const failed = Promise.reject(new Error('the stores are away'));
    // Some of the functions are waited for by no one.
    failed.catch(() => {});
    return failed;
  };
  let answer: () => Promise<unknown> = fail;
  const held = () => answer();
  const stores = z
    .custom<Stores>()
    .parse(Object.fromEntries(Object.keys(STORES).map((name) => [name, buildParts(held)])));
  const { handle, routes } = createApp({
    ...stores,
    engine: buildParts(held),
    provider: buildParts(() => undefined),
    signer,
    notifier: buildParts(held),
    eventTicker: buildParts(held),
    metrics: createMetrics(),
    showsMetrics: true,
    purchasesAtOnce: PURCHASES_AT_ONCE,
    statusBoard: createStatusBoard(statusReaders(async () => stores, stores)),
    tokens: { ...RULES, keys: undefined },
    tickets: {
      keys: ticketKeys({ secret: JWT_SECRET, keys: undefined }),
      issuer: undefined,
      audience: TICKET_AUDIENCE,
    },
    verification: createVerification([JWT_SECRET], TICKET_AUDIENCE),
    trustedProxyHops: 0,
    pushRules: { allowPrivate: true, requireHttps: false },
    corsOrigins: [],
    demo: { saleId: 'demo', temporalUiUrl: undefined, sign: createTokenSigner(RULES) },
    isStopping: () => false,
    watcherBounds: WATCHER_BOUNDS,
    purchaseLimits: { userPerMinute: USER_PURCHASES_PER_MINUTE, processes: 1 },
    finalAnswerHeader: undefined,
    log: pino({ level: 'silent' }),
  });
  const server = createServer(handle);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert(typeof address === 'object' && address, 'a listening TCP server has an address');
  const url = `http://127.0.0.1:${address.port}`;

  return {
    // HEAD is answered as GET, without the body.
    routes: routes.filter((route) => !route.startsWith('HEAD ')),
    hang: () => (answer = () => new Promise(() => {})),
    fail: () => (answer = fail),
    async call(method, target, { claims, body } = {}) {
      const response = await fetch(`${url}${target}`, {
        method,
        headers: {
          'idempotency-key': crypto.randomUUID(),
          ...(claims && { authorization: `Bearer ${await signCaller(claims)}` }),
          ...(body && { 'content-type': 'application/json' }),
        },
        ...(body && { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      const isProblem = response.headers.get('content-type')?.startsWith('application/problem+json');
      const { code, scope } = problem.parse(isProblem ? JSON.parse(text) : {});
      return { status: response.status, text, code, scope };
    },
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Signed once for all calls with the same claims. */
const tokens = new Map<string, Promise<string>>();

function signCaller(claims: object): Promise<string> {
  const key = JSON.stringify(claims);
  const token =
    tokens.get(key) ??
    new SignJWT({ sub: 'ada', ...claims })
      .setProtectedHeader({ alg: 'HS256' })
      .setIssuer(USUAL_RULES.issuers[0])
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(Buffer.from(JWT_SECRET));
  tokens.set(key, token);
  return token;
}
