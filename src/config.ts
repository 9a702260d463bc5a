/** The only reader of the environment: parsed once, all faults listed at once, frozen. */

import { loadClientConnectConfig } from '@temporalio/envconfig';
import { z } from 'zod';
import { SALE_ID_PATTERN } from './domain/limits.ts';

/** Orders and signals in flight in Temporal; see docs/decisions.md for the measurement behind it. */
const DEFAULT_ENGINE_BUDGET = 40;
/** Orders the engine starts per second on a small machine; bounds the backlog at a third of the payment window. */
const DEFAULT_STARTS_PER_SECOND = 40;

/** A notice that is lost for good is rare, and a look costs a call for each hundred payments of a day. */
const DEFAULT_RECONCILE_EVERY_SECONDS = 300;

const DEMO_SECRET = /demo/i;

/** Tighter than what Temporal takes: no dot or colon in a deployment's name, both short enough for 255-character ids. */
const DEPLOYMENT_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;
const BUILD_ID = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/;

const list = z
  .string()
  .transform((text) => text.split(',').map((part) => part.trim()))
  .pipe(z.array(z.string().min(1)).min(1));

export const logLevel = z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace']).default('info');
export const port = z.coerce.number().int().min(0).max(65_535);

/** What every process needs. */
const stores = {
  NODE_ENV: z.enum(['development', 'production', 'test']).default('production'),
  LOG_LEVEL: logLevel,
  /** One address, or the nodes of a cluster, separated by commas. */
  REDIS_URL: list.pipe(z.array(z.url({ protocol: /^rediss?$/ }))),
  MYSQL_URL: z.url({ protocol: /^mysql$/ }),
};

export const httpUrl = z.url({ protocol: /^https?$/ });

const providerAccess = {
  PAYMENT_PROVIDER_API_KEY: z.string().min(1),
  /** Signing secrets of webhooks: the current one, and while rotating the one before. */
  WEBHOOK_SECRETS: list.pipe(z.array(z.string().startsWith('whsec_')).max(2)),
};

/** Who takes the money. */
const provider = z.discriminatedUnion('PAYMENT_PROVIDER', [
  z.object({
    ...providerAccess,
    PAYMENT_PROVIDER: z.literal('sandbox').optional(),
    PAYMENT_PROVIDER_URL: httpUrl,
  }),
  z.object({
    ...providerAccess,
    PAYMENT_PROVIDER: z.literal('stripe'),
    /** By default Stripe's own. */
    PAYMENT_PROVIDER_URL: httpUrl
      .refine((url) => new URL(url).pathname === '/', 'is an address without a path')
      .optional(),
    /** Where Stripe sends the shopper's browser after paying; the order's number is added. */
    PAYMENT_RETURN_URL: httpUrl,
  }),
]);

const shared = {
  ...stores,
  /** Sign what a payment session carries of its order: the current one, and while rotating the one before. */
  ORDER_SIGNING_SECRETS: list.pipe(z.array(z.string().min(32)).max(2)),
  ENGINE_BUDGET: z.coerce.number().int().min(1).max(10_000).default(DEFAULT_ENGINE_BUDGET),
  ENGINE_STARTS_PER_SECOND: z.coerce.number().int().min(1).max(100_000).default(DEFAULT_STARTS_PER_SECOND),
};

const apiFields = z.object({
  ...shared,
  API_HOST: z.string().default('0.0.0.0'),
  API_PORT: port.default(3000),
  JWT_SECRET: z.string().min(32),
  /** Proxies in front that append to X-Forwarded-For; a shopper's address is taken from there. */
  TRUSTED_PROXY_HOPS: z.coerce.number().int().min(0).max(10).default(0),
  /** With it the demo page is served at `/`. */
  DEMO_SALE_ID: z.string().regex(SALE_ID_PATTERN).optional(),
  TEMPORAL_UI_URL: z.url().optional(),
});
const apiSchema = apiFields.and(provider);

const workerFields = z.object({
  ...shared,
  /** The prebuilt workflow bundle. */
  WORKFLOW_BUNDLE: z.string().min(1),
  /** Names this version of the code; then it gets orders once Temporal is told that it is current. See docs/operations.md. */
  WORKER_BUILD_ID: z.string().regex(BUILD_ID).optional(),
  WORKER_DEPLOYMENT_NAME: z.string().regex(DEPLOYMENT_NAME).default('holdfast'),
  /** How often the worker looks into the provider's book for money that no notice told of. */
  RECONCILE_EVERY_SECONDS: z.coerce
    .number()
    .int()
    .min(1)
    .max(86_400)
    .default(DEFAULT_RECONCILE_EVERY_SECONDS),
});
const workerSchema = workerFields.and(provider);

const prepareSchema = z.object({
  ...stores,
  /** With it a demo sale of this id is created and warmed up. */
  DEMO_SALE_ID: z.string().regex(SALE_ID_PATTERN).optional(),
});

/** What the audit reads from. */
const auditSchema = z.object(stores).and(provider);

export type PrepareConfig = Readonly<z.infer<typeof prepareSchema>>;
export type ApiConfig = Readonly<z.infer<typeof apiSchema>> & { temporal: TemporalConfig };
export type WorkerConfig = Readonly<z.infer<typeof workerSchema>> & { temporal: TemporalConfig };
export type AuditConfig = Readonly<z.infer<typeof auditSchema>> & { temporal: TemporalConfig };
/** Address, TLS, API key and namespace, from Temporal's own variables (`TEMPORAL_ADDRESS`, `TEMPORAL_API_KEY`, …). */
type TemporalConfig = ReturnType<typeof loadClientConnectConfig>;

/** Lists everything that is wrong with the environment, a line each. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

export function loadPrepareConfig(env: NodeJS.ProcessEnv = process.env): PrepareConfig {
  return parseEnv(prepareSchema, env);
}

export function loadApiConfig(env: NodeJS.ProcessEnv = process.env): ApiConfig {
  return withTemporal(apiSchema, env);
}

export function loadWorkerConfig(env: NodeJS.ProcessEnv = process.env): WorkerConfig {
  return withTemporal(workerSchema, env);
}

export function loadAuditConfig(env: NodeJS.ProcessEnv = process.env): AuditConfig {
  return withTemporal(auditSchema, env);
}

function withTemporal<T extends object>(schema: z.ZodType<T>, env: NodeJS.ProcessEnv) {
  const given = dropEmpty(env);
  const temporal = loadClientConnectConfig({ overrideEnvVars: given });
  return Object.freeze({ ...parse(schema, given), temporal });
}

/** @throws ConfigError naming every fault */
export function parseEnv<T extends object>(schema: z.ZodType<T>, env: NodeJS.ProcessEnv): Readonly<T> {
  return Object.freeze(parse(schema, dropEmpty(env)));
}

function parse<T extends object>(schema: z.ZodType<T>, given: Record<string, string>): T {
  const parsed = schema.safeParse(given);
  const faults = (parsed.error?.issues ?? []).map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  const all = [...faults, ...demoInProduction(given)];
  if (parsed.success && all.length === 0) return parsed.data;
  throw new ConfigError(
    `The environment is not as it must be:\n${all.map((fault) => `  ${fault}`).join('\n')}`,
  );
}

/** An empty variable is one that was not set: compose files leave them so. */
function dropEmpty(env: NodeJS.ProcessEnv): Record<string, string> {
  return Object.fromEntries(Object.entries(env).flatMap(([name, value]) => (value ? [[name, value]] : [])));
}

/** Demo secrets are public: anyone could sign a token or a payment notice with them. */
function demoInProduction(given: Record<string, string>): string[] {
  if ((given['NODE_ENV'] ?? 'production') !== 'production') return [];
  const faults = ['JWT_SECRET', 'PAYMENT_PROVIDER_API_KEY', 'WEBHOOK_SECRETS', 'ORDER_SIGNING_SECRETS']
    .filter((name) => isDemoSecret(given[name] ?? ''))
    .map((name) => `${name}: is a demo secret; production needs one of its own`);
  if (given['DEMO_SALE_ID'] === undefined) return faults;
  return [...faults, 'DEMO_SALE_ID: the demo page gives tokens to anyone: not in production'];
}

/** Webhook secrets are base64 after their prefix. */
function isDemoSecret(secrets: string): boolean {
  return secrets
    .split(',')
    .some((secret) => DEMO_SECRET.test(secret) || DEMO_SECRET.test(decodeWebhookSecret(secret)));
}

function decodeWebhookSecret(secret: string): string {
  return Buffer.from(secret.trim().replace(/^whsec_/, ''), 'base64').toString();
}
