/** The only reader of the environment: parsed once, all faults listed at once, frozen. */

import { loadClientConnectConfig } from '@temporalio/envconfig';
import { z } from 'zod';
import { demoInProduction, isProduction, keysMissing, plainInProduction } from './config-faults.ts';
import { api, checkout, demoSaleId, keep, orders, provider, stores, tokens, worker } from './settings.ts';

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
const opsSchema = z.object({ ...orders, ...tokens, ...keep }).and(provider);

/** The settings of each process of the product, for docs/configuration.md. */
export const settings = {
  api: apiSchema,
  worker: workerSchema,
  prepare: prepareSchema,
  audit: auditSchema,
  ops: opsSchema,
};

export type PrepareConfig = Readonly<z.infer<typeof prepareSchema>>;
export type ApiConfig = Readonly<z.infer<typeof apiSchema>> & { temporal: TemporalConfig };
export type WorkerConfig = Readonly<z.infer<typeof workerSchema>> & { temporal: TemporalConfig };
export type AuditConfig = Readonly<z.infer<typeof auditSchema>> & { temporal: TemporalConfig };
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
  return withTemporal(workerSchema, env);
}

export function loadAuditConfig(env: NodeJS.ProcessEnv = process.env): AuditConfig {
  return withTemporal(auditSchema, env);
}

export function loadOpsConfig(env: NodeJS.ProcessEnv = process.env): OpsConfig {
  return withTemporal(opsSchema, env);
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
