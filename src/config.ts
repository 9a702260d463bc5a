/** The only reader of the environment: parsed once, all faults listed at once, frozen. */

import { loadClientConnectConfig } from '@temporalio/envconfig';
import { z } from 'zod';
import {
  CONNECTIONS_OF_LOOPS,
  demoInProduction,
  isProduction,
  keysMissing,
  plainInProduction,
  poolTooSmall,
} from './config-faults.ts';
import {
  DEFAULT_DEPLOYMENT_NAME,
  MAX_USER_PURCHASES_PER_MINUTE,
  MYSQL_CONNECTIONS,
  OUTBOX_PAGE,
  OUTBOX_PAGE_MAX,
  PROVIDER_CALLS_AT_ONCE,
  PURCHASES_AT_ONCE,
  SALE_ID_PATTERN,
  STORES_AT_ONCE,
  USER_PURCHASES_PER_MINUTE,
  WATCHERS_AT_ONCE,
  WATCHERS_OF_USER,
} from './limits.ts';
import { DEFAULT_PAYMENT_METHODS, STRIPE_PAYMENT_METHODS } from './providers/stripe.ts';
import { SAMPLERS } from './tracing.ts';

/**
 * Names of deployments travel in a provider's metadata and in JSON, and stand in Redis' keys, where a brace
 * would change the slot: lower case, digits and single dashes, at most 32 characters.
 */
const DEPLOYMENT_NAME_PATTERN = /^(?=.{1,32}$)[a-z0-9]+(?:-[a-z0-9]+)*$/;

/** The task queue of a deployment that has the namespace to itself, as in `src/workflows/contract.ts`. */
const DEFAULT_TASK_QUEUE = 'orders';

const list = z
  .string()
  .transform((text) => text.split(',').map((part) => part.trim()))
  .pipe(z.array(z.string().min(1)).min(1));
/** The same, its type knowing that there is a first. */
const nonEmptyList = list.pipe(z.tuple([z.string()], z.string()));

export function wholeNumber(min: number, max: number) {
  return z.coerce.number().int().min(min).max(max);
}

/** docs/configuration.md shows the schemes; zod keeps no readable trace of them. */
function urlOf(...schemes: string[]) {
  return z.url({ protocol: new RegExp(`^(${schemes.join('|')})$`), abort: true }).meta({ schemes });
}

export const httpUrl = urlOf('http', 'https');
/** As browsers name it: no path, no slash at the end. */
const origin = httpUrl.refine(
  (url) => new URL(url).origin === url,
  'is an origin: scheme, host and port alone',
);

export const port = wholeNumber(0, 65_535);

/** What frames an answer, and what answers have already. */
const OWN_HEADERS =
  /^(?:connection|content-.+|transfer-encoding|trailer|upgrade|keep-alive|date|vary|cache-control|etag|location|preference-applied|ratelimit.*|retry-after|www-authenticate|x-content-type-options|x-request-id|access-control-.+)$/i;

/** `Name: value`, as it stands in an answer (RFC 9110, 5.5). */
const headerLine = z
  .string()
  .regex(/^[A-Za-z0-9-]{1,64}: [!-~](?:[ -~]{0,254}[!-~])?$/)
  .refine((line) => !OWN_HEADERS.test(line.split(':')[0] ?? ''), 'is a header that answers have otherwise');

// The settings, by what they belong to; their descriptions are the text of docs/configuration.md.

/** Orders and signals in flight in Temporal; see docs/decisions.md for the measurement behind it. */
const DEFAULT_ENGINE_BUDGET = 40;
/** A tenth of what a small machine stores; see docs/decisions.md. */
export const DEFAULT_STORES_PER_SECOND = 1_000;

/** What the reconciliation finds is rare; a run of it is a workflow and a few queries a step. */
const DEFAULT_RECONCILE_EVERY_SECONDS = 60;

/** As long as a sale's data are made again when they are lost; its orders have ended by then. */
const DEFAULT_KEEP_SALE_HOURS = 72;
/** Two days: the longest payment window, and as long as its end stays readable. */
const MIN_KEEP_SALE_HOURS = 48;
/** Fraud and disputes show within weeks. */
const DEFAULT_KEEP_CONTACT_DAYS = 30;
/** Disputes may come for 120 days, but by then it is the provider who is asked. */
const DEFAULT_KEEP_NOTICE_DAYS = 90;
const MAX_KEEP_DAYS = 3_650;

/** Below the 100 that Stripe takes of a live account, so that its staff and other programs find room. */
const DEFAULT_PROVIDER_CALLS_PER_SECOND = 80;

/** A page of fewer orders pays for a commit that it is not worth. */
const MIN_OUTBOX_PAGE = 10;
/** Each locks the stock of its sale until its commit, so that more only wait for each other. */
const MAX_STORES_AT_ONCE = 16;
/** A call takes a third of a second: as many make the 300 a second that no provider is known to take. */
const MAX_PROVIDER_CALLS_AT_ONCE = 100;
/** A process that accepts 8,000 a second works on each of so many for an eighth of a second. */
const MAX_PURCHASES_AT_ONCE = 1_000;
/**
 * A rebuild holds one for its lock and works on another, and those who ask meanwhile need one too. All
 * processes share the server's limit, which is 151 unless it is raised.
 */
const [MIN_MYSQL_CONNECTIONS, MAX_MYSQL_CONNECTIONS] = [4, 200];

/** A balancer that needs longer to see that an API is stopping is told by its operator. */
const MAX_DRAIN_SECONDS = 600;
/** Connections of more than an hour are of no use: a balancer closes its idle ones after ten minutes. */
const MAX_KEEP_ALIVE_SECONDS = 3_600;

/** So many leave a few of the connections for those that buy. */
const MAX_WATCHERS_AT_ONCE = 14_000;

/** Tighter than Temporal's own: no dot or colon in a deployment's name, both short for 255-character ids. */
const DEPLOYMENT_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;
const BUILD_ID = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/;

export const logLevel = z
  .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace'])
  .default('info')
  .describe('The least severe log line that is written; logs are JSON lines on standard output.');

/** What every process of the product reads. */
const stores = {
  NODE_ENV: z
    .enum(['development', 'production', 'test'])
    .default('production')
    .describe(
      'In `production` demo secrets and the demo sale are refused, and the payment provider must be named.',
    ),
  LOG_LEVEL: logLevel,
  REDIS_URL: list
    .pipe(z.array(urlOf('redis', 'rediss')))
    .describe('One Redis; two addresses or more are nodes of one cluster, from which the others are found.'),
  REDIS_KEY_PREFIX: z
    .string()
    .regex(DEPLOYMENT_NAME_PATTERN)
    .optional()
    .describe(
      'Stands before every key, as in `<prefix>:holdfast:sales`; by it two deployments share one Redis.',
    ),
  MYSQL_URL: urlOf('mysql').describe(
    'User, password, host and database: `mysql://user:password@host/database`. Each deployment has a database of its own.',
  ),
  MYSQL_CONNECTIONS: wholeNumber(MIN_MYSQL_CONNECTIONS, MAX_MYSQL_CONNECTIONS)
    .default(MYSQL_CONNECTIONS)
    .describe(
      `Connections of this process to MySQL; all processes together stay below its \`max_connections\`. A worker needs ${CONNECTIONS_OF_LOOPS} more than \`STORES_AT_ONCE\`.`,
    ),
  DEPLOYMENT_NAME: z
    .string()
    .regex(DEPLOYMENT_NAME_PATTERN)
    .default(DEFAULT_DEPLOYMENT_NAME)
    .describe(
      "What this deployment is called where operators see it: in refusals to start, and in what the provider keeps of a session. Beside it stands the random id of MySQL's schema, which tells deployments apart.",
    ),
};

/** What a process needs that talks to the payment provider. */
export const checkout = {
  ...stores,
  PAYMENT_PROVIDER_API_KEY: z
    .string()
    .min(1)
    .describe(
      "The key for the provider's API: with Stripe a secret key, with the sandbox its `SANDBOX_API_KEY`, with your own server the bearer token that it expects.",
    ),
  WEBHOOK_SECRETS: list
    .pipe(z.array(z.string().startsWith('whsec_')).max(2))
    .describe('Verify payment notices: the current one, while rotating also the one before.'),
  TEMPORAL_TASK_QUEUE: z
    .string()
    .regex(DEPLOYMENT_NAME_PATTERN)
    .refine((name) => !/(^|-)payments$/.test(name), 'is of the payments, whose queue stands beside it')
    .default(DEFAULT_TASK_QUEUE)
    .describe(
      "The task queue of the orders' workflows. A second deployment in one namespace has another, from which the names of its payments' queue and of its reconciliation are made. Change it only where no order is open.",
    ),
  PROVIDER_CALLS_PER_SECOND: wholeNumber(2, 10_000)
    .default(DEFAULT_PROVIDER_CALLS_PER_SECOND)
    .describe(
      'Calls to the provider a second, over all processes together; set it alike on all. Stripe takes 100 for live keys and 25 for test keys.',
    ),
};

const providerUrl = "The provider's address; with Stripe it has no path, and is Stripe's own unless set.";

/** The provider that takes the money, with the settings that only this one needs. */
const provider = z.discriminatedUnion(
  'PAYMENT_PROVIDER',
  [
    z.object({
      PAYMENT_PROVIDER: z.literal('sandbox').meta({
        description:
          'The provider that takes the money: Stripe, or with `remote` a server of your own. The sandbox takes none, it is for trying out.',
        unset: '`sandbox`; required in production',
      }),
      PAYMENT_PROVIDER_URL: httpUrl.describe(providerUrl),
    }),
    z.object({
      PAYMENT_PROVIDER: z.literal('remote'),
      PAYMENT_PROVIDER_URL: httpUrl.describe(providerUrl),
    }),
    z.object({
      PAYMENT_PROVIDER: z.literal('stripe'),
      PAYMENT_PROVIDER_URL: httpUrl
        .refine((url) => new URL(url).pathname === '/', 'is an address without a path')
        .optional()
        .describe(providerUrl),
      PAYMENT_RETURN_URL: httpUrl.describe(
        "The page to which Stripe sends the shopper's browser after paying; its query gets `orderNo`.",
      ),
      STRIPE_PAYMENT_METHODS: list
        .pipe(z.array(z.enum(STRIPE_PAYMENT_METHODS)))
        .optional()
        .meta({
          description:
            "What Stripe's page may offer of what settles at once; each where it takes the sale's currency and is switched on in Stripe.",
          unset: `\`${DEFAULT_PAYMENT_METHODS.join(',')}\``,
        }),
    }),
  ],
  { error: 'is neither sandbox nor remote nor stripe; production must name its payment provider' },
);

const orders = {
  ...checkout,
  ORDER_SIGNING_SECRETS: list
    .pipe(z.array(z.string().min(32)).max(2))
    .describe(
      'Sign what a payment session carries of its order: the current one, while rotating also the one before.',
    ),
  ENGINE_BUDGET: wholeNumber(1, 10_000)
    .default(DEFAULT_ENGINE_BUDGET)
    .describe('Orders and signals in flight in Temporal, over all processes together; set it alike on all.'),
  MYSQL_STORES_PER_SECOND: wholeNumber(1, 100_000)
    .default(DEFAULT_STORES_PER_SECOND)
    .describe(
      'Orders that MySQL stores per second: while more are not stored yet, over all sales, than it stores within a third of the payment window, orders are refused.',
    ),
};

/** Which tokens are taken. */
const tokens = {
  JWT_SECRET: z.string().min(32).optional().meta({
    description: "Verifies callers' tokens of the algorithm HS256, and signs those of `ops token`.",
    unset: 'required unless `JWT_JWKS_URL` is set',
  }),
  JWT_ISSUER: nonEmptyList
    .prefault('holdfast')
    .meta({ description: 'Who issues tokens: one of these is the `iss` of each.', unset: '`holdfast`' }),
  JWT_AUDIENCE: nonEmptyList
    .optional()
    .describe('For whom tokens are: where it is set, one of these is in the `aud` of each.'),
  JWT_USER_CLAIM: z
    .string()
    .regex(/^[\w:./-]{1,100}$/)
    .default('sub')
    .describe("The claim of a token that has the user's id; not one inside another."),
};

/** Where events may be pushed to. */
const push = {
  PUSH_ALLOW_PRIVATE: z
    .enum(['true', 'false'])
    .default('false')
    .describe(
      "`true` lets endpoints be inside the private network, and on this machine; else events go to public addresses alone. Anyone who may set endpoints then reaches your network's services.",
    ),
};

/** Where traces go to, by OpenTelemetry's own names; headers and attributes its library reads by itself. */
function tracing(serviceName: string) {
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: httpUrl.optional().meta({
      description:
        'Sends traces to this receiver of OTLP over HTTP, such as `http://jaeger:4318`; `/v1/traces` is added.',
      unset: 'no traces, and nothing of OpenTelemetry is loaded',
    }),
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: httpUrl
      .optional()
      .describe('The same, with its whole path; it comes before `OTEL_EXPORTER_OTLP_ENDPOINT`.'),
    OTEL_EXPORTER_OTLP_PROTOCOL: z
      .literal('http/json')
      .default('http/json')
      .describe('How traces are sent; there is no other way.'),
    OTEL_EXPORTER_OTLP_HEADERS: z
      .string()
      .optional()
      .describe('Headers that the receiver asks for, such as `authorization=Bearer%20…`.'),
    OTEL_RESOURCE_ATTRIBUTES: z
      .string()
      .optional()
      .describe('What each span says of the deployment, such as `deployment.environment.name=production`.'),
    OTEL_SERVICE_NAME: z.string().min(1).default(serviceName).describe('What traces call the process.'),
    OTEL_TRACES_SAMPLER: z
      .enum(SAMPLERS)
      .default('parentbased_always_on')
      .describe(
        'Which purchases are traced, with all that becomes of their orders. With `parentbased_…` a call is not traced whose `traceparent` says so. Set it alike on all.',
      ),
    OTEL_TRACES_SAMPLER_ARG: z.coerce
      .number()
      .min(0)
      .max(1)
      .default(1)
      .describe('The share of purchases that the samplers `…traceidratio` take.'),
  };
}

/** For how long what is kept. */
const keep = {
  KEEP_SALE_HOURS: wholeNumber(MIN_KEEP_SALE_HOURS, 24 * MAX_KEEP_DAYS)
    .default(DEFAULT_KEEP_SALE_HOURS)
    .describe('Hours after the end of a sale for which Redis has its data, where nothing of it is pending.'),
  KEEP_CONTACT_DAYS: wholeNumber(2, MAX_KEEP_DAYS)
    .default(DEFAULT_KEEP_CONTACT_DAYS)
    .describe('Days for which an ended order has its ip and user agent, and its payments the signed order.'),
  KEEP_NOTICE_DAYS: wholeNumber(2, MAX_KEEP_DAYS)
    .default(DEFAULT_KEEP_NOTICE_DAYS)
    .describe(
      'Days for which payment notices are kept as they came, parked work that was settled, and deliveries to endpoints that ended.',
    ),
};

const demoSaleId = z.string().regex(SALE_ID_PATTERN).optional();

const api = z.object({
  ...orders,
  ...push,
  ...tracing('holdfast-api'),
  API_HOST: z
    .string()
    .default('127.0.0.1')
    .describe('The address to listen on; `0.0.0.0` opens it to other machines.'),
  API_PORT: port.default(3000).describe('The port to listen on; 0 takes any that is free.'),
  DRAIN_SECONDS: wholeNumber(0, MAX_DRAIN_SECONDS)
    .default(5)
    .describe(
      'Seconds for which an API goes on serving after SIGTERM, with `/readyz` at 503, before it closes. Longer than the load balancer needs to see it. The whole stop takes at most 25 seconds more.',
    ),
  KEEP_ALIVE_SECONDS: wholeNumber(1, MAX_KEEP_ALIVE_SECONDS)
    .default(65)
    .describe(
      'Seconds after which an idle connection is closed. Longer than the load balancer keeps its idle connections, or a request may meet the close.',
    ),
  PURCHASES_AT_ONCE: wholeNumber(1, MAX_PURCHASES_AT_ONCE)
    .default(PURCHASES_AT_ONCE)
    .describe(
      'Purchases that one process works on at once; 192 more wait, and the next is refused. Fewer refuse sooner, more accept no more orders a second.',
    ),
  WATCHERS_AT_ONCE: wholeNumber(0, MAX_WATCHERS_AT_ONCE)
    .default(WATCHERS_AT_ONCE)
    .describe(
      'Callers that may wait for changes of an order in one process, in long polls and event streams; the next is refused, and polls.',
    ),
  WATCHERS_OF_USER: wholeNumber(1, MAX_WATCHERS_AT_ONCE)
    .default(WATCHERS_OF_USER)
    .describe('Of these, those of one user.'),
  USER_PURCHASES_PER_MINUTE: wholeNumber(1, MAX_USER_PURCHASES_PER_MINUTE)
    .default(USER_PURCHASES_PER_MINUTE)
    .describe(
      'Attempts to buy that one user may make within a minute at one process; the next is refused with 429. Repeats of an accepted order are not counted.',
    ),
  FINAL_ANSWER_HEADER: headerLine.optional().meta({
    description:
      'A header of final answers to purchases, by which a waiting room at the edge frees the place of its caller, such as `Cf-Waiting-Room-Command: revoke`.',
    unset: 'none',
  }),
  METRICS_PORT: port.optional().meta({
    description:
      'The port of `/metrics`; 0 takes any that is free. On it alone, so that shoppers do not read how a sale goes.',
    unset: '`API_PORT` has it',
  }),
  ...tokens,
  JWT_JWKS_URL: httpUrl
    .optional()
    .describe('The public keys of who issues tokens (RS256, PS256, ES256, EdDSA), read every 5 minutes.'),
  TICKET_JWKS_URL: httpUrl.optional().meta({
    description: 'The public keys of who signs tickets.',
    unset: 'those of `JWT_JWKS_URL`, and `JWT_SECRET`',
  }),
  TICKET_ISSUER: z
    .string()
    .min(1)
    .optional()
    .describe('The `iss` that every ticket must have; without it any that has a key.'),
  TICKET_AUDIENCE: z.string().min(1).default('holdfast').describe('The `aud` that every ticket must have.'),
  TRUSTED_PROXY_HOPS: wholeNumber(0, 10)
    .default(0)
    .describe("Proxies in front that append to `X-Forwarded-For`; a shopper's address is taken from there."),
  CORS_ORIGINS: list
    .pipe(z.array(origin))
    .optional()
    .describe(
      "Storefronts on other origins whose pages make shoppers' calls from a browser, such as `https://shop.example`.",
    ),
  DEMO_SALE_ID: demoSaleId.describe(
    'Serves the demo page for this sale at `/`, which gives tokens to anyone; refused in production.',
  ),
  TEMPORAL_UI_URL: httpUrl.optional().describe("Temporal's Web UI, to which the demo page links each order."),
});

const worker = z.object({
  ...orders,
  ...tracing('holdfast-worker'),
  WORKFLOW_BUNDLE: z
    .string()
    .min(1)
    .describe('The file of the prebuilt workflows: `dist/workflow-bundle.js` after `npm run build`.'),
  WORKER_BUILD_ID: z
    .string()
    .regex(BUILD_ID)
    .optional()
    .describe('Names this version of the worker; it gets orders once the version is current in Temporal.'),
  WORKER_DEPLOYMENT_NAME: z
    .string()
    .regex(DEPLOYMENT_NAME)
    .default('holdfast')
    .describe("Groups the versions of one shop's workers."),
  WORKER_HOST: z
    .string()
    .default('127.0.0.1')
    .describe('The address of the worker for probes and scrapes; `0.0.0.0` opens it to other machines.'),
  WORKER_PORT: port
    .default(0)
    .describe(
      'The port of its `/healthz` and `/metrics`; 0 takes any that is free, which the log and `ops status` name.',
    ),
  TEMPORAL_METRICS_PORT: wholeNumber(1, 65_535).optional().meta({
    description:
      "The port of `WORKER_HOST` at which Temporal's SDK answers `/metrics` of its own: pollers, slots, latencies of its calls.",
    unset: 'none',
  }),
  OUTBOX_PAGE: wholeNumber(MIN_OUTBOX_PAGE, OUTBOX_PAGE_MAX)
    .default(OUTBOX_PAGE)
    .describe('Orders that are read from the outbox at once, and stored in one transaction.'),
  STORES_AT_ONCE: wholeNumber(1, MAX_STORES_AT_ONCE)
    .default(STORES_AT_ONCE)
    .describe('Transactions in which a worker stores orders at once, over all sales.'),
  PROVIDER_CALLS_AT_ONCE: wholeNumber(1, MAX_PROVIDER_CALLS_AT_ONCE)
    .default(PROVIDER_CALLS_AT_ONCE)
    .describe(
      'Calls to the provider at once of the workflows of a worker, and as many of its ends of orders. Shoppers who pay are not counted.',
    ),
  RECONCILE_EVERY_SECONDS: wholeNumber(1, 86_400)
    .default(DEFAULT_RECONCILE_EVERY_SECONDS)
    .describe('Seconds between two runs of the reconciliation, which mends what was lost on the way.'),
  ...push,
  ...keep,
});

const prepareSchema = z.object({
  ...stores,
  DEMO_SALE_ID: demoSaleId.describe('Creates and warms up a demo sale of this id; refused in production.'),
  PAYMENT_PROVIDER: z
    .enum(['sandbox', 'remote', 'stripe'])
    .default('sandbox')
    .describe('The provider that must take the prices of the demo sale.'),
});
const apiSchema = api.and(provider);
const workerSchema = worker.and(provider);
const auditSchema = z.object(checkout).and(provider);
const ops = { ...orders, ...tokens };
const opsSchema = z.object(ops).and(provider);
const FOR_CALLS = 'required for commands that call the API';
const access = {
  HOLDFAST_URL: httpUrl.meta({
    description: 'The API that `ops` calls for what staff decide and look at.',
    unset: FOR_CALLS,
  }),
  HOLDFAST_TOKEN: z.string().min(1).meta({
    description: 'Who operates, for the API that `ops` calls: a token of staff, such as `ops token` signs.',
    unset: FOR_CALLS,
  }),
};
const accessSchema = z.object(access);

/** The settings of each process of the product, for docs/configuration.md. */
export const settings = {
  api: apiSchema,
  worker: workerSchema,
  prepare: prepareSchema,
  audit: auditSchema,
  ops: z.object({ ...ops, ...access }).and(provider),
};

export type PrepareConfig = Readonly<z.infer<typeof prepareSchema>>;
export type ApiConfig = Readonly<z.infer<typeof apiSchema>> & { temporal: TemporalConfig };
export type WorkerConfig = Readonly<z.infer<typeof workerSchema>> & { temporal: TemporalConfig };
export type AuditConfig = Readonly<z.infer<typeof auditSchema>> & { temporal: TemporalConfig };
export type OpsAccess = Readonly<z.infer<typeof accessSchema>>;
export type OpsConfig = Readonly<z.infer<typeof opsSchema>> & { temporal: TemporalConfig };
/** Address, TLS, API key and namespace, from Temporal's own variables: `TEMPORAL_ADDRESS` and others. */
type TemporalConfig = ReturnType<typeof loadClientConnectConfig>;

/** Lists everything that is wrong with the environment, a line each. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

export function loadPrepareConfig(env: NodeJS.ProcessEnv = process.env): PrepareConfig {
  return parseEnv(prepareSchema, env);
}

export function loadApiConfig(env: NodeJS.ProcessEnv = process.env): ApiConfig {
  return withTemporal(apiSchema, env, keysMissing);
}

export function loadWorkerConfig(env: NodeJS.ProcessEnv = process.env): WorkerConfig {
  return withTemporal(workerSchema, env, poolTooSmall);
}

export function loadAuditConfig(env: NodeJS.ProcessEnv = process.env): AuditConfig {
  return withTemporal(auditSchema, env);
}

export function loadOpsConfig(env: NodeJS.ProcessEnv = process.env): OpsConfig {
  return withTemporal(opsSchema, env);
}

/** Where the API is, and who calls it. */
export function loadOpsAccess(env: NodeJS.ProcessEnv = process.env): OpsAccess {
  return parseEnv(accessSchema, env);
}

type FindFaults = (given: Record<string, string>) => string[];

function withTemporal<T extends object>(
  schema: z.ZodType<T>,
  env: NodeJS.ProcessEnv,
  findMore: FindFaults = () => [],
) {
  const given = dropEmpty(env);
  const temporal = loadClientConnectConfig({ overrideEnvVars: given });
  return Object.freeze({ ...parse(schema, nameProvider(given), findMore), temporal });
}

/** @throws ConfigError naming every fault */
export function parseEnv<T extends object>(schema: z.ZodType<T>, env: NodeJS.ProcessEnv): Readonly<T> {
  return Object.freeze(parse(schema, dropEmpty(env), () => []));
}

function parse<T extends object>(
  schema: z.ZodType<T>,
  given: Record<string, string>,
  findMore: FindFaults,
): T {
  const parsed = schema.safeParse(given);
  const faults = (parsed.error?.issues ?? []).map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  const all = [...faults, ...findMore(given), ...demoInProduction(given), ...plainInProduction(given)];
  if (parsed.success && all.length === 0) return parsed.data;
  throw new ConfigError(
    `The environment is not as it must be:\n${all.map((fault) => `  ${fault}`).join('\n')}`,
  );
}

/** An empty variable is one that was not set: compose files leave them so. */
function dropEmpty(env: NodeJS.ProcessEnv): Record<string, string> {
  return Object.fromEntries(Object.entries(env).flatMap(([name, value]) => (value ? [[name, value]] : [])));
}

/** Only production must name its provider: a shop that forgot to would take orders and no money. */
function nameProvider(given: Record<string, string>): Record<string, string> {
  return isProduction(given) ? given : { PAYMENT_PROVIDER: 'sandbox', ...given };
}
