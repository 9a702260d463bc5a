/** docker-compose.temporal.yml fits the Compose schema, the images and the settings of the services. */

import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { z } from 'zod';
import { sandboxSchema } from '../../sandbox/config.ts';
import { loadApiConfig, loadPrepareConfig, loadWorkerConfig, settings } from '../../src/config.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { settingNames } from '../../stack/renew/settings-table.ts';
import { compileComposeSchema, loadCompose, parseCompose, readComposeText } from './compose-file.ts';
import { isLetThrough, builtSources, sourcesUnder, stages, tsconfigs } from './images.ts';

const OURS = ['migrate', 'provider', 'api', 'worker'];

/** What an operator must set to run it in production. */
const PRODUCTION = {
  NODE_ENV: 'production',
  PAYMENT_PROVIDER: 'sandbox',
  JWT_SECRET: 'a-secret-of-production-with-enough-characters',
  PAYMENT_PROVIDER_API_KEY: 'sk_live_0123456789abcdef',
  WEBHOOK_SECRETS: 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=',
  ORDER_SIGNING_SECRETS: 'a-sign-of-production-with-enough-characters',
  DEMO_SALE_ID: '',
};

/** A file of the repository that a service is given. */
const isPath = (volume: string): boolean => volume.startsWith('./');

const compose = loadCompose();
const services = Object.entries(compose.services);

function serviceOf(name: string, env: Record<string, string> = {}) {
  const service = loadCompose(env).services[name];
  if (!service) throw new Error(`the compose file has no service ${name}`);
  return service;
}

const REDIS_RIGHTS = join(repoDir, 'deploy', 'redis-rights.txt');

/** What the image's entry point is called with: the service's shell runs, and prints the words. */
function redisArguments(env: Record<string, string>): string[] {
  const { command, environment } = serviceOf('redis', env);
  const [shell = '', flags = '', script = ''] = command ?? [];
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-compose-'));
  try {
    const entryPoint = join(dir, 'docker-entrypoint.sh');
    writeFileSync(entryPoint, `#!/bin/sh\nprintf '%s\\n' "$@"\n`);
    chmodSync(entryPoint, 0o755);
    const ours = script.replace('/etc/holdfast/redis-rights.txt', `'${REDIS_RIGHTS}'`);
    const PATH = `${dir}:${process.env['PATH']}`;
    return execFileSync(shell, [flags, ours], { env: { ...environment, PATH }, encoding: 'utf8' })
      .trimEnd()
      .split('\n');
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** The sandbox provider is no part of the product. */
const targetOf = (name: string): 'product' | 'sandbox' => (name === 'provider' ? 'sandbox' : 'product');

test('the schema of the Compose Specification takes the compose file', () => {
  const isValid = compileComposeSchema();
  expect(isValid(parseCompose(readComposeText())), JSON.stringify(isValid.errors)).toBe(true);
});

describe('the services', () => {
  test('every one that is waited for exists, and says when it is healthy where that is the condition', () => {
    for (const [name, { depends_on: targets }] of services) {
      for (const [target, { condition }] of Object.entries(targets)) {
        const service = compose.services[target];
        expect(service, `${name} depends on ${target}`).toBeDefined();
        if (condition === 'service_healthy') expect(service?.healthcheck, target).toBeDefined();
        // What must complete may fail and be repeated, but must not be started again once it is done.
        if (condition === 'service_completed_successfully')
          expect(service?.restart).toMatch(/^on-failure:\d+$/);
        else expect(service?.restart).toBe('unless-stopped');
      }
    }
  });

  test('every one that goes on running says whether it is healthy, but for what is there to look at alone', () => {
    const silent = services.filter(
      ([, { restart, healthcheck }]) => restart === 'unless-stopped' && healthcheck === undefined,
    );
    expect(silent.map(([name, { profiles }]) => [name, profiles])).toEqual([['jaeger', ['traces']]]);
  });

  test('every image of others is pinned to a full version, and ours are one image and the sandbox', () => {
    for (const [name, { image, build }] of services) {
      const target = OURS.includes(name) ? targetOf(name) : undefined;
      if (target !== undefined) {
        const own = target === 'product' ? 'holdfast:local' : 'holdfast-sandbox:local';
        expect({ image, build }).toEqual({ image: own, build: { context: '.', target } });
      } else
        expect({ name, image, build }).toEqual({
          name,
          image: expect.stringMatching(/:v?\d+\.\d+\.\d+/),
          build: undefined,
        });
    }
  });

  test.each(OURS)('%s runs what its image builds of the sources', (name) => {
    const [program, file = ''] = serviceOf(name).command ?? [];
    expect(program).toBe('node');
    expect(builtSources[targetOf(name)]).toContain(file.replace(/^dist\/(.*)\.js$/, '$1.ts'));
  });

  test('every volume and config that is used is declared', () => {
    const volumes = services.flatMap(([, service]) =>
      service.volumes.map((volume) => volume.split(':')[0] ?? ''),
    );
    const [files, named] = [volumes.filter(isPath), volumes.filter((volume) => !isPath(volume))];
    for (const file of files) expect(existsSync(join(repoDir, file)), file).toBe(true);
    const sources = services.flatMap(([, service]) => service.configs.map(({ source }) => source));
    expect(new Set(named)).toEqual(new Set(Object.keys(compose.volumes)));
    expect(new Set(sources)).toEqual(new Set(Object.keys(compose.configs)));
  });

  test('every port is published on loopback alone', () => {
    for (const port of services.flatMap(([, { ports }]) => ports)) expect(port).toMatch(/^127\.0\.0\.1:/);
  });

  test('Redis never evicts and flushes at every write', () => {
    const command = serviceOf('redis').command?.join(' ');
    expect(command).toContain('--maxmemory-policy noeviction');
    expect(command).toContain('--appendonly yes');
    expect(command).toContain('--appendfsync always');
  });

  test.each([
    ['without a prefix', {}, '~holdfast:* &holdfast:*'],
    ['with one', { REDIS_KEY_PREFIX: 'shop2' }, '~shop2:holdfast:* &shop2:holdfast:*'],
  ])(
    'Redis has an account for the keys of this deployment alone, and one for operators: %s',
    (_, env, keys) => {
      const args = redisArguments({ ...env, REDIS_APP_PASSWORD: 'a', REDIS_ADMIN_PASSWORD: 'b' });
      const rights = readFileSync(REDIS_RIGHTS, 'utf8').trim().split(/\s+/);

      expect(args.slice(args.indexOf('--user')).join(' ')).toBe(
        [
          '--user default on nopass resetkeys resetchannels -@all +ping',
          `--user holdfast_app on >a ${rights.join(' ')} ${keys}`,
          '--user holdfast_admin on >b ~* &* +@all',
        ].join(' '),
      );
    },
  );

  test('MySQL flushes both of its logs at every commit, and keeps the binary one for a bounded time', () => {
    const command = serviceOf('mysql').command ?? [];
    expect(command).toEqual(
      expect.arrayContaining(['--innodb-flush-log-at-trx-commit=1', '--log-bin=binlog', '--sync-binlog=1']),
    );
    const kept = command.flatMap((word) => /^--binlog-expire-logs-seconds=(\d+)$/.exec(word)?.[1] ?? []);
    expect(kept.map((seconds) => Number(seconds) / 86_400)).toEqual([3]);
  });

  test('Temporal and Holdfast have databases and users of their own', () => {
    const temporal = serviceOf('temporal').environment;
    expect(new URL(serviceOf('api').environment['MYSQL_URL'] ?? '').pathname).toBe('/holdfast');
    expect(compose.services['mysql']?.environment['MYSQL_DATABASE']).toBe('holdfast');
    for (const name of [temporal['DBNAME'], temporal['VISIBILITY_DBNAME']]) {
      expect(compose.configs['first-statements']?.content).toContain(`CREATE DATABASE ${name} `);
    }
  });

  test('what our processes get to stop is longer than they need', () => {
    const { DRAIN_SECONDS } = loadApiConfig(serviceOf('api').environment);
    for (const name of OURS) {
      const drainSeconds = name === 'api' ? DRAIN_SECONDS : 0;
      expect(serviceOf(name).stop_grace_period).toBe(`${30 + drainSeconds}s`);
    }
  });
});

describe('the environment', () => {
  test('is complete without any setting', () => {
    const api = loadApiConfig(serviceOf('api').environment);
    const worker = loadWorkerConfig(serviceOf('worker').environment);
    expect(api).toMatchObject({ NODE_ENV: 'development', API_PORT: 3000, DEMO_SALE_ID: 'demo' });
    for (const { temporal } of [api, worker]) {
      expect(temporal).toMatchObject({
        namespace: 'default',
        connectionOptions: { address: 'temporal:7233' },
      });
    }
    expect(loadPrepareConfig(serviceOf('migrate').environment)).toMatchObject({ DEMO_SALE_ID: 'demo' });
  });

  test('of api and worker leads to the provider that is there, with its key and its secret', () => {
    const provider = serviceOf('provider').environment;
    for (const config of [
      loadApiConfig(serviceOf('api').environment),
      loadWorkerConfig(serviceOf('worker').environment),
    ]) {
      expect(config.PAYMENT_PROVIDER_URL).toBe(`http://provider:${provider['SANDBOX_PORT']}`);
      expect(config.PAYMENT_PROVIDER_API_KEY).toBe(provider['SANDBOX_API_KEY']);
      expect(config.WEBHOOK_SECRETS).toEqual([provider['SANDBOX_WEBHOOK_SECRET']]);
    }
    expect(provider['SANDBOX_WEBHOOK_URL']).toBe('http://api:3000/v1/webhooks/payments');
  });

  const reads: [service: string, schema: z.ZodType][] = [
    ['migrate', settings.prepare],
    ['provider', sandboxSchema],
    ['api', settings.api],
    ['worker', settings.worker],
  ];
  const readsTemporal = ['TEMPORAL_ADDRESS', 'TEMPORAL_NAMESPACE'];

  test.each(reads)('of %s has every setting that its process reads', (name, schema) => {
    const given = Object.keys(serviceOf(name).environment);

    expect(settingNames(schema).filter((setting) => !given.includes(setting))).toEqual([]);
  });

  test.each(reads)('of %s names no variable that its process does not read', (name, schema) => {
    const known = [...settingNames(schema), ...(name === 'api' || name === 'worker' ? readsTemporal : [])];
    const given = Object.keys(serviceOf(name).environment);

    expect(given.filter((variable) => !known.includes(variable))).toEqual([]);
  });

  test('passes the bounds of a process on to it', () => {
    const bounds = {
      MYSQL_CONNECTIONS: '40',
      OUTBOX_PAGE: '250',
      STORES_AT_ONCE: '4',
      PURCHASES_AT_ONCE: '32',
    };

    const worker = loadWorkerConfig(serviceOf('worker', bounds).environment);
    const api = loadApiConfig(serviceOf('api', bounds).environment);

    expect(worker).toMatchObject({ MYSQL_CONNECTIONS: 40, OUTBOX_PAGE: 250, STORES_AT_ONCE: 4 });
    expect(api).toMatchObject({ MYSQL_CONNECTIONS: 40, PURCHASES_AT_ONCE: 32 });
  });

  test('in production is complete with what the file says must be set', () => {
    expect(loadApiConfig(serviceOf('api', PRODUCTION).environment).DEMO_SALE_ID).toBeUndefined();
    expect(loadWorkerConfig(serviceOf('worker', PRODUCTION).environment).NODE_ENV).toBe('production');
    expect(loadPrepareConfig(serviceOf('migrate', PRODUCTION).environment).DEMO_SALE_ID).toBeUndefined();
  });

  test('takes tokens by published keys alone where the secret is set to nothing', () => {
    const byKeys = { JWT_SECRET: '', JWT_JWKS_URL: 'https://id.shop.example/jwks' };
    const config = loadApiConfig(serviceOf('api', { ...PRODUCTION, ...byKeys }).environment);
    expect([config.JWT_SECRET, config.JWT_JWKS_URL]).toEqual([undefined, byKeys.JWT_JWKS_URL]);
  });

  test('takes the money by Stripe where that is the provider', () => {
    const { environment } = serviceOf('api', {
      ...PRODUCTION,
      PAYMENT_PROVIDER: 'stripe',
      PAYMENT_PROVIDER_URL: '',
      PAYMENT_RETURN_URL: 'https://shop.example/orders',
    });
    const config = loadApiConfig(environment);
    expect(config).toMatchObject({ PAYMENT_PROVIDER: 'stripe' });
    expect(config.PAYMENT_PROVIDER_URL).toBeUndefined();
  });

  test.each(['JWT_SECRET', 'PAYMENT_PROVIDER', 'PAYMENT_PROVIDER_API_KEY', 'ORDER_SIGNING_SECRETS'])(
    'in production is refused without %s',
    (name) => {
      const { environment } = serviceOf('api', { ...PRODUCTION, [name]: '' });
      expect(() => loadApiConfig(environment)).toThrow(name);
    },
  );
});

describe('the images', () => {
  test('are the two that the compose file names, and the product by default', () => {
    const targets = OURS.map((name) => serviceOf(name).build?.target ?? '');
    expect(stages).toEqual(expect.arrayContaining(targets));
    expect(stages.at(-1)).toBe('product');
  });

  test('are built from all of their sources and nothing else', () => {
    const built = [...builtSources.product, ...builtSources.sandbox];
    const other = [
      'package.json',
      'package-lock.json',
      ...tsconfigs,
      'lua/reserve.lua',
      'pages/demo.html',
      'src/mysql/schema.sql',
    ];
    expect([...built, ...other].filter((file) => !isLetThrough(file))).toEqual([]);

    const code = sourcesUnder('stack', 'bench', 'chaos', 'test');
    expect(code.filter((file) => isLetThrough(file) && !built.includes(file))).toEqual([]);
    expect(['.git', 'node_modules', 'dist', '.env', 'README.md'].filter(isLetThrough)).toEqual([]);
  });

  test('of the product have nothing of the sandbox provider', () => {
    expect(builtSources.product.filter((file) => file.startsWith('sandbox/'))).toEqual([]);
  });
});
