/**
 * The environment of each process: what is required, what is refused, and that all faults are listed at once.
 */

import { expect, test } from 'vitest';
import {
  ConfigError,
  loadApiConfig,
  loadAuditConfig,
  loadOpsConfig,
  loadPrepareConfig,
  loadWorkerConfig,
} from '../src/config.ts';
import { paymentsQueueOf, TASK_QUEUE } from '../src/workflows/contract.ts';

const stores = { REDIS_URL: 'redis://127.0.0.1:6379', MYSQL_URL: 'mysql://root@127.0.0.1/holdfast' };
const audit = {
  ...stores,
  PAYMENT_PROVIDER: 'sandbox',
  PAYMENT_PROVIDER_URL: 'http://127.0.0.1:4000',
  PAYMENT_PROVIDER_API_KEY: 'a-key-of-our-own',
  WEBHOOK_SECRETS: 'whsec_aG9sZGZhc3QtY29uZmlnLXRlc3QtMDE=',
};
const shared = { ...audit, ORDER_SIGNING_SECRETS: 'a-sign-of-our-own-that-is-long-enough' };
const api = { ...shared, JWT_SECRET: 'a-secret-of-our-own-that-is-long-enough' };
const worker = { ...shared, WORKFLOW_BUNDLE: '/app/workflow-bundle.js' };

/** The message with which `load` refuses; each fault is a line. */
function faultsOf(load: () => unknown): string {
  try {
    load();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return error instanceof ConfigError ? error.message : '';
  }
  throw new Error('the configuration was taken');
}

test('what is needed suffices, the rest has defaults, and production is one of them', () => {
  expect(loadApiConfig(api)).toMatchObject({
    NODE_ENV: 'production',
    LOG_LEVEL: 'info',
    REDIS_URL: ['redis://127.0.0.1:6379'],
    API_HOST: '127.0.0.1',
    API_PORT: 3000,
    TRUSTED_PROXY_HOPS: 0,
  });
  expect(loadWorkerConfig(worker)).toMatchObject({ WORKFLOW_BUNDLE: '/app/workflow-bundle.js' });
  expect(loadAuditConfig(audit)).toMatchObject({ PAYMENT_PROVIDER_URL: audit.PAYMENT_PROVIDER_URL });
  expect(loadPrepareConfig(stores)).toMatchObject({
    MYSQL_URL: stores.MYSQL_URL,
    REDIS_URL: [stores.REDIS_URL],
  });
});

test('tokens are verified by a secret, by published keys, or by both, and one of them must be there', () => {
  const byKeys = { ...shared, JWT_JWKS_URL: 'https://id.shop.example/jwks' };
  expect(loadApiConfig(byKeys)).toMatchObject({ JWT_ISSUER: ['holdfast'], JWT_USER_CLAIM: 'sub' });
  expect(loadApiConfig({ ...byKeys, JWT_SECRET: api.JWT_SECRET })).toMatchObject({
    JWT_SECRET: api.JWT_SECRET,
  });
  expect(faultsOf(() => loadApiConfig(shared))).toMatch(/\n {2}JWT_SECRET: .*JWT_JWKS_URL/);
  const demo = { ...byKeys, NODE_ENV: 'development', DEMO_SALE_ID: 'demo' };
  expect(faultsOf(() => loadApiConfig(demo))).toContain('\n  JWT_SECRET: ');
});

test('issuers and audiences of tokens are lists', () => {
  const env = { ...api, JWT_ISSUER: 'https://a/, holdfast', JWT_AUDIENCE: 'shop', JWT_USER_CLAIM: 'user_id' };
  expect(loadApiConfig(env)).toMatchObject({
    JWT_ISSUER: ['https://a/', 'holdfast'],
    JWT_AUDIENCE: ['shop'],
    JWT_USER_CLAIM: 'user_id',
  });
});

test('what deployments need of their own where they share servers has a usual value, or none', () => {
  expect(loadWorkerConfig(worker)).toMatchObject({
    TEMPORAL_TASK_QUEUE: TASK_QUEUE,
    DEPLOYMENT_NAME: 'holdfast',
  });
  expect(loadPrepareConfig(stores).REDIS_KEY_PREFIX).toBeUndefined();
  const own = { REDIS_KEY_PREFIX: 'lamps', TEMPORAL_TASK_QUEUE: 'lamps' };
  expect(loadApiConfig({ ...api, ...own })).toMatchObject(own);
});

test('a queue of the orders has no name that another deployment gives to its payments', () => {
  expect([TASK_QUEUE, 'lamps'].map(paymentsQueueOf)).toEqual(['payments', 'lamps-payments']);
  for (const TEMPORAL_TASK_QUEUE of ['payments', 'lamps-payments'])
    expect(faultsOf(() => loadWorkerConfig({ ...worker, TEMPORAL_TASK_QUEUE }))).toContain(
      '\n  TEMPORAL_TASK_QUEUE: ',
    );
});

test('a worker has no version unless it is given a build id', () => {
  expect(loadWorkerConfig(worker)).toMatchObject({ WORKER_DEPLOYMENT_NAME: 'holdfast' });
  expect(loadWorkerConfig({ ...worker, WORKER_BUILD_ID: '' }).WORKER_BUILD_ID).toBeUndefined();

  const env = { ...worker, WORKER_BUILD_ID: '1.4.0+5c1f0e9', WORKER_DEPLOYMENT_NAME: 'lamps' };
  expect(loadWorkerConfig(env)).toMatchObject({
    WORKER_BUILD_ID: '1.4.0+5c1f0e9',
    WORKER_DEPLOYMENT_NAME: 'lamps',
  });
});

test.each([
  ['WORKER_BUILD_ID', '__reserved'],
  ['WORKER_BUILD_ID', 'two words'],
  ['WORKER_BUILD_ID', 'x'.repeat(65)],
  ['WORKER_DEPLOYMENT_NAME', 'lamps.eu'],
  ['WORKER_DEPLOYMENT_NAME', 'lamps:eu'],
])('%s=%s, which Temporal would refuse or cannot keep, is refused by name', (name, value) => {
  expect(faultsOf(() => loadWorkerConfig({ ...worker, [name]: value }))).toContain(`\n  ${name}: `);
});

test('everything that is missing is listed at once', () => {
  const message = faultsOf(() => loadApiConfig({}));

  // Which provider decides whether an address is needed.
  const needed = Object.keys(api).filter((name) => name !== 'PAYMENT_PROVIDER_URL');
  for (const name of needed) expect(message).toContain(`\n  ${name}: `);
  expect(message.split('\n')).toHaveLength(needed.length + 1);
});

test.each([
  ['REDIS_URL', 'http://127.0.0.1'],
  ['REDIS_URL', 'redis://a,,redis://b'],
  ['MYSQL_URL', 'postgres://127.0.0.1/x'],
  ['PAYMENT_PROVIDER_URL', 'ftp://127.0.0.1'],
  ['WEBHOOK_SECRETS', 'no-secret'],
  ['WEBHOOK_SECRETS', 'whsec_a,whsec_b,whsec_c'],
  ['PAYMENT_PROVIDER', 'cheques'],
  ['ORDER_SIGNING_SECRETS', 'short'],
  ['ORDER_SIGNING_SECRETS', `${'a'.repeat(32)},${'b'.repeat(32)},${'c'.repeat(32)}`],
  ['ENGINE_BUDGET', '0'],
  ['ENGINE_BUDGET', 'many'],
  ['MYSQL_STORES_PER_SECOND', '1.5'],
  ['API_PORT', '65536'],
  ['JWT_SECRET', 'short'],
  ['JWT_JWKS_URL', 'file:///etc/jwks'],
  ['JWT_ISSUER', ',holdfast'],
  ['JWT_USER_CLAIM', 'two words'],
  ['TRUSTED_PROXY_HOPS', '-1'],
  ['USER_PURCHASES_PER_MINUTE', '0'],
  ['FINAL_ANSWER_HEADER', 'revoke'],
  ['FINAL_ANSWER_HEADER', 'Final:yes'],
  ['FINAL_ANSWER_HEADER', 'Final Answer: yes'],
  ['FINAL_ANSWER_HEADER', 'Final: yes\r\nSet-Cookie: a=b'],
  ['FINAL_ANSWER_HEADER', 'content-length: 0'],
  ['FINAL_ANSWER_HEADER', 'Location: /gone'],
  ['CORS_ORIGINS', '*'],
  ['CORS_ORIGINS', 'null'],
  ['CORS_ORIGINS', 'shop.example'],
  ['CORS_ORIGINS', 'https://shop.example/'],
  ['CORS_ORIGINS', 'https://shop.example/page'],
  ['CORS_ORIGINS', 'https://SHOP.example'],
  ['CORS_ORIGINS', 'ftp://shop.example'],
  ['DEMO_SALE_ID', 'NOT A SALE'],
  ['LOG_LEVEL', 'loud'],
  ['NODE_ENV', 'staging'],
])('%s=%s is refused by name', (name, value) => {
  const message = faultsOf(() => loadApiConfig({ NODE_ENV: 'test', ...api, [name]: value }));

  expect(message).toMatch(new RegExp(`\\n  ${name}[.:]`));
  expect(message.split('\n')).toHaveLength(2);
});

test.each([
  ['of values', { MYSQL_URL: 'x', JWT_SECRET: 'hush-hush' }],
  ['demo secrets', { JWT_SECRET: 'demo-hush-hush-that-is-long-enough-to-be-taken' }],
  ['of the provider', { PAYMENT_PROVIDER: 'stripe', PAYMENT_PROVIDER_URL: '', PAYMENT_RETURN_URL: '' }],
])('faults %s are listed together with all others, and no secret is repeated', (_, faulty) => {
  const message = faultsOf(() => loadApiConfig({ ...api, ...faulty, API_PORT: 'x' }));

  const named = Object.keys(faulty).filter((name) => !name.startsWith('PAYMENT_PROVIDER'));
  for (const name of ['API_PORT', ...named]) expect(message).toContain(`\n  ${name}: `);
  expect(message).not.toContain('hush-hush');
});

test.each([
  ['JWT_SECRET', 'demo-secret-that-is-long-enough-to-be-taken'],
  ['PAYMENT_PROVIDER_API_KEY', 'sandbox-Demo-key'],
  ['WEBHOOK_SECRETS', `whsec_${Buffer.from('holdfast-demo-webhook-secret').toString('base64')}`],
  ['ORDER_SIGNING_SECRETS', `${'a'.repeat(32)},demo-sign-that-is-long-enough-to-be-taken`],
  ['DEMO_SALE_ID', 'demo'],
])('a demo %s is refused in production and taken in development', (name, value) => {
  expect(faultsOf(() => loadApiConfig({ ...api, [name]: value }))).toContain(`\n  ${name}: `);

  expect(() => loadApiConfig({ ...api, NODE_ENV: 'development', [name]: value })).not.toThrow();
});

test('a worker in production takes no demo key either', () => {
  const message = faultsOf(() => loadWorkerConfig({ ...worker, PAYMENT_PROVIDER_API_KEY: 'demo-key' }));

  expect(message).toContain('\n  PAYMENT_PROVIDER_API_KEY: ');
});

test('an empty variable is one that was not set', () => {
  const config = loadApiConfig({ ...api, API_PORT: '', LOG_LEVEL: '', DEMO_SALE_ID: '' });

  expect(config).toMatchObject({ API_PORT: 3000, LOG_LEVEL: 'info' });
  expect(config.DEMO_SALE_ID).toBeUndefined();
  expect(faultsOf(() => loadApiConfig({ ...api, MYSQL_URL: '' }))).toContain('\n  MYSQL_URL: ');
});

test('lists are split at commas: the nodes of a cluster, the secrets while one is replaced', () => {
  const config = loadApiConfig({
    ...api,
    REDIS_URL: 'redis://a:1, rediss://b:2',
    WEBHOOK_SECRETS: 'whsec_bmV3, whsec_b2xk',
    ORDER_SIGNING_SECRETS: `${'n'.repeat(32)}, ${'o'.repeat(32)}`,
  });

  expect(config.REDIS_URL).toEqual(['redis://a:1', 'rediss://b:2']);
  expect(config.WEBHOOK_SECRETS).toEqual(['whsec_bmV3', 'whsec_b2xk']);
  expect(config.ORDER_SIGNING_SECRETS).toEqual(['n'.repeat(32), 'o'.repeat(32)]);
});

test('production takes no provider that is not named', () => {
  for (const [load, env] of [
    [loadApiConfig, api],
    [loadWorkerConfig, worker],
    [loadAuditConfig, audit],
    [loadOpsConfig, shared],
  ] as const) {
    const message = faultsOf(() => load({ ...env, PAYMENT_PROVIDER: '' }));

    expect(message).toContain(
      '\n  PAYMENT_PROVIDER: is neither sandbox nor remote nor stripe; production must name',
    );
    expect(message.split('\n')).toHaveLength(2);
    expect(load(env).PAYMENT_PROVIDER).toBe('sandbox');
  }
});

test.each(['development', 'test'])(
  'in %s the sandbox is the provider unless another is named',
  (NODE_ENV) => {
    const env = { ...api, NODE_ENV, PAYMENT_PROVIDER: '' };

    expect(loadApiConfig(env).PAYMENT_PROVIDER).toBe('sandbox');
    expect(loadApiConfig({ ...env, ...withStripe }).PAYMENT_PROVIDER).toBe('stripe');
  },
);

test('the API is open to other machines only where it is said', () => {
  expect(loadApiConfig(api).API_HOST).toBe('127.0.0.1');
  expect(loadApiConfig({ ...api, API_HOST: '0.0.0.0' }).API_HOST).toBe('0.0.0.0');
});

const withStripe = {
  PAYMENT_PROVIDER: 'stripe',
  PAYMENT_PROVIDER_API_KEY: 'sk_live_of_our_own',
  PAYMENT_PROVIDER_URL: '',
  PAYMENT_RETURN_URL: 'https://shop.example/orders',
};

test('Stripe needs no address of its own, but one to send the shopper back to', () => {
  const config = loadApiConfig({ ...api, ...withStripe });

  expect(config).toMatchObject({
    PAYMENT_PROVIDER: 'stripe',
    PAYMENT_RETURN_URL: 'https://shop.example/orders',
    API_PORT: 3000,
  });
  expect(config.PAYMENT_PROVIDER_URL).toBeUndefined();
  for (const other of [
    loadWorkerConfig({ ...worker, ...withStripe }),
    loadAuditConfig({ ...audit, ...withStripe }),
  ])
    expect(other.PAYMENT_PROVIDER).toBe('stripe');
});

test.each([
  'https://pay.shop.example/holdfast',
  'http://127.0.0.1:4000',
  'http://[::1]:4000',
  'http://localhost',
])("a provider of one's own is called at %s in production", (PAYMENT_PROVIDER_URL) => {
  const config = loadApiConfig({ ...api, PAYMENT_PROVIDER: 'remote', PAYMENT_PROVIDER_URL });

  expect(config).toMatchObject({ PAYMENT_PROVIDER: 'remote', PAYMENT_PROVIDER_URL });
});

test.each([
  'http://pay.shop.example',
  'http://10.0.0.7',
  'http://127.0.0.1.shop.example',
  'http://localhost.shop',
])('in production %s, whose calls anyone on the way could read, is refused', (PAYMENT_PROVIDER_URL) => {
  const remote = { ...api, PAYMENT_PROVIDER: 'remote', PAYMENT_PROVIDER_URL };

  expect(faultsOf(() => loadApiConfig(remote))).toContain('\n  PAYMENT_PROVIDER_URL: production calls');
  expect(loadApiConfig({ ...remote, NODE_ENV: 'test' })).toMatchObject({ PAYMENT_PROVIDER_URL });
});

test.each([
  ['PAYMENT_RETURN_URL', ''],
  ['PAYMENT_RETURN_URL', 'javascript:alert(1)'],
  ['STRIPE_PAYMENT_METHODS.0', 'sepa_debit'],
  ['STRIPE_PAYMENT_METHODS.1', 'card,customer_balance'],
  ['PAYMENT_PROVIDER_URL', 'https://stripe.example/v1'],
  ['PAYMENT_PROVIDER_API_KEY', ''],
])('with Stripe %s="%s" is refused by name', (name, value) => {
  const [setting = ''] = name.split('.');
  const message = faultsOf(() => loadApiConfig({ ...api, ...withStripe, [setting]: value }));

  expect(message).toContain(`\n  ${name}: `);
  expect(message.split('\n')).toHaveLength(2);
});

test('the configuration is frozen', () => {
  for (const config of [loadApiConfig(api), loadWorkerConfig(worker)]) {
    expect(Object.isFrozen(config)).toBe(true);
    expect(() => Object.assign(config, { LOG_LEVEL: 'trace' })).toThrow(TypeError);
  }
});

test("Temporal's address and namespace come from Temporal's own variables", () => {
  const env = { ...api, TEMPORAL_ADDRESS: 'temporal.example:7233', TEMPORAL_NAMESPACE: 'shop' };

  const { temporal } = loadApiConfig(env);

  expect(temporal.connectionOptions.address).toBe('temporal.example:7233');
  expect(temporal.namespace).toBe('shop');
});

test('what a process does at once has the bounds that it had before it could be set', () => {
  const atOnce = { OUTBOX_PAGE: 500, STORES_AT_ONCE: 2, PROVIDER_CALLS_AT_ONCE: 10, MYSQL_CONNECTIONS: 20 };

  expect(loadWorkerConfig(worker)).toMatchObject(atOnce);
  expect(loadApiConfig(api)).toMatchObject({ PURCHASES_AT_ONCE: 64, MYSQL_CONNECTIONS: 20 });
  expect(loadPrepareConfig(stores)).toMatchObject({ MYSQL_CONNECTIONS: 20 });
});

test('a user may try to buy 120 times a minute, and no answer has a header of its own, unless set otherwise', () => {
  const { USER_PURCHASES_PER_MINUTE: limit, FINAL_ANSWER_HEADER: header } = loadApiConfig(api);
  expect([limit, header]).toEqual([120, undefined]);
  const line = 'Cf-Waiting-Room-Command: revoke';
  expect(loadApiConfig({ ...api, FINAL_ANSWER_HEADER: line })).toMatchObject({ FINAL_ANSWER_HEADER: line });
});

test.each([
  ['OUTBOX_PAGE', 9, 1_001],
  ['STORES_AT_ONCE', 0, 17],
  ['PROVIDER_CALLS_AT_ONCE', 0, 101],
  ['MYSQL_CONNECTIONS', 3, 201],
])('%s below and above its bounds is refused by its name', (name, below, above) => {
  for (const value of [below, above, 'many'])
    expect(faultsOf(() => loadWorkerConfig({ ...worker, [name]: String(value) }))).toContain(`\n  ${name}: `);
});

test('a worker is refused whose pool its own transactions would use up', () => {
  const needs = (STORES_AT_ONCE: string, MYSQL_CONNECTIONS: string) => () =>
    loadWorkerConfig({ ...worker, STORES_AT_ONCE, MYSQL_CONNECTIONS });

  expect(faultsOf(needs('4', '11'))).toContain(
    '\n  MYSQL_CONNECTIONS: is 11; a worker with STORES_AT_ONCE 4 needs 12, 8 of them for its other loops',
  );
  expect(faultsOf(needs('13', ''))).toContain('MYSQL_CONNECTIONS: is 20; a worker with STORES_AT_ONCE 13');
  expect(needs('4', '12')()).toMatchObject({ STORES_AT_ONCE: 4, MYSQL_CONNECTIONS: 12 });
  expect(loadApiConfig({ ...api, MYSQL_CONNECTIONS: '4' })).toMatchObject({ MYSQL_CONNECTIONS: 4 });
});
