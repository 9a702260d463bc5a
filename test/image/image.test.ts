/**
 * `npm run test:image`: what is shipped runs. The images of the Dockerfile are built. The compose file's own
 * processes run from them on real servers, with a read-only root. A purchase is placed and paid, and each
 * process ends in order.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { ulid } from 'ulidx';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import { createMysqlPool } from '../../src/mysql/connection.ts';
import { openStores } from '../../src/stores/open.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import { asProduct } from '../../stack/servers/accounts.ts';
import { loadCompose } from '../compose/compose-file.ts';
import { closeLater } from '../support/close-later.ts';
import { buildSale } from '../support/factories.ts';
import { startPrivateRedis } from '../support/private-redis.ts';
import { JWT_SECRET, openShopper, pressPay, sessionOf, type Shopper } from '../support/shopper.ts';
import { silent } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';
import { createNamespace } from '../support/workflows/temporal.ts';
import { GRACE_MS, openPodman, type Container, type Podman } from './podman.ts';

const BUILT_WITHIN_MS = 30 * 60_000;
/** A process on a busy machine starts in half a minute. */
const READY_WITHIN_MS = 120_000;

/** As an operator sets them. */
const PRODUCTION = {
  NODE_ENV: 'production',
  PAYMENT_PROVIDER: 'sandbox',
  PAYMENT_PROVIDER_API_KEY: 'sk_live_0123456789abcdef',
  WEBHOOK_SECRETS: 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=',
  SANDBOX_WEBHOOK_SECRET: 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=',
  ORDER_SIGNING_SECRETS: 'a-sign-of-production-with-enough-characters',
  DEMO_SALE_ID: '',
  JWT_SECRET,
};

let podman: Podman;
let product: string;
let sandbox: string;

beforeAll(async () => {
  podman = await openPodman(closeLater);
  // One after the other: the second takes the layers that both have from the first.
  product = await podman.build('product');
  sandbox = await podman.build('sandbox');
}, BUILT_WITHIN_MS);

async function waitUntilReady(container: Container, isReady: () => Promise<boolean> | boolean) {
  let isOver = false;
  void container.ended.then(() => (isOver = true));
  await waitFor(
    `${container.name} to be ready`,
    async () => {
      if (isOver) throw new Error(`${container.name} has ended:\n${container.output()}`);
      return isReady();
    },
    READY_WITHIN_MS,
  );
}

/** @returns what it printed, once it has ended as it should */
async function complete(container: Container): Promise<string> {
  const exitCode = await container.ended;
  expect(exitCode, container.output()).toBe(0);
  return container.output();
}

describe('the image of the product', () => {
  /** Runs a script in a container of its own. @returns what it prints */
  async function evaluate(script: string): Promise<string> {
    const command = ['node', '--eval', script];
    return (await complete(podman.run({ name: 'look', image: product, env: {}, command }))).trim();
  }

  test('is run by a user who is not root, and stops at SIGTERM', async () => {
    const { Config } = await podman.inspect(product);
    expect(Config).toMatchObject({
      User: '1000:1000',
      StopSignal: 'SIGTERM',
      Cmd: ['node', 'dist/src/api/main.js'],
    });
    expect(await evaluate('console.log(process.pid, process.getuid(), process.getgid())')).toBe(
      '1 1000 1000',
    );
  });

  test('has the files that it runs and no others', async () => {
    const list = await evaluate("console.log(JSON.stringify(fs.readdirSync('/app').sort()))");
    expect(JSON.parse(list)).toEqual(['dist', 'lua', 'node_modules', 'package.json', 'pages', 'src']);
    const cores = "console.log(fs.readdirSync('/app/node_modules/@temporalio/core-bridge/releases').join())";
    expect((await evaluate(cores)).split(',').every((name) => name.includes('-linux-'))).toBe(true);
  });

  test('has no dependency of development', async () => {
    const dev = await evaluate(
      "console.log(Object.values(JSON.parse(fs.readFileSync('/app/node_modules/.package-lock.json')).packages).filter((p) => p.dev).length)",
    );
    expect(dev).toBe('0');
  });

  test('lets nobody write anywhere but to /tmp', async () => {
    const dirs = ['/', '/app', '/app/dist', '/home/node', '/var/tmp', '/etc', '/tmp'];
    const tried = await evaluate(
      `for (const dir of ${JSON.stringify(dirs)}) { let code = 'written'; try { fs.writeFileSync(dir + '/x', '') } catch (e) { code = e.code } console.log(dir, code) }`,
    );
    expect(tried.split('\n')).toEqual(
      dirs.map((dir) => expect.stringMatching(dir === '/tmp' ? /written$/ : /(EROFS|EACCES)$/)),
    );
  });

  test("has authorities by which the worker's native core reaches a Temporal by TLS", async () => {
    // Nobody answers at this port in TLS: without authorities the core fails before it asks.
    const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    assert(address !== null && typeof address === 'object');
    const failed = await evaluate(
      `require('@temporalio/worker').NativeConnection.connect({ address: '127.0.0.1:${address.port}', tls: true }).catch((e) => { console.log(String(e)); process.exit(0) })`,
    );
    server.close();
    expect(failed).toContain('TransportError');
    expect(failed).not.toContain('NativeCertsNotFound');
  });

  test('has the command line of operators', async () => {
    const command = ['node', 'dist/src/ops/main.js', '--help'];
    const help = await complete(podman.run({ name: 'ops', image: product, env: {}, command }));
    expect(help).toContain('doctor');
  });
});

describe.each<[string, Record<string, string>]>([
  ['in production', PRODUCTION],
  // Whose tokens the test can sign.
  ['as the demonstration', { JWT_SECRET }],
])('a shop that runs from the images %s', (_, settings) => {
  const compose = loadCompose(settings);
  const isDemo = settings['NODE_ENV'] === undefined;
  let shopper: Shopper;
  let apiUrl: string;
  const containers: Record<string, Container> = {};
  let saleId = 'demo';
  let shared: Record<string, string>;

  function serviceOf(name: string) {
    const service = compose.services[name];
    assert(service, `the compose file has ${name}`);
    return service;
  }

  /** A service of the compose file with its command, its settings and its volumes, on other addresses. */
  function start(name: string, image: string, env: Record<string, string>): Container {
    const { command = [], environment, volumes, read_only: isReadOnly } = serviceOf(name);
    expect(isReadOnly, `${name} has a read-only root`).toBe(true);
    const own = `${name}-${isDemo ? 'demo' : 'production'}`;
    return podman.run({ name: own, image, command, volumes, env: { ...environment, ...env } });
  }

  /** The command by which compose asks whether the service is healthy, at the port that it has here. */
  function healthCheckOf(name: string, port: string, ownPort = ''): string[] {
    const [kind, ...command] = serviceOf(name).healthcheck?.test ?? [];
    expect(kind).toBe('CMD');
    expect(command.join(' ')).toContain(`:${port}/`);
    return command.map((word) => word.replace(`:${port}/`, `:${ownPort}/`));
  }

  beforeAll(async () => {
    const database = `holdfast_${ulid().toLowerCase()}`;
    const admin = createMysqlPool(inject('mysqlUrl'));
    closeLater(() => admin.end());
    await admin.query(`CREATE DATABASE ${database} CHARACTER SET utf8mb4`);
    closeLater(async () => void (await admin.query(`DROP DATABASE ${database}`)));
    const owner = new URL(inject('mysqlUrl'));
    owner.pathname = `/${database}`;
    // Not that of the file: stores belong to one deployment.
    const redis = await startPrivateRedis();
    closeLater(() => redis.stop());
    const [apiPort, metricsPort, workerPort, sdkPort, providerPort] = await Promise.all(
      Array.from({ length: 5 }, () => findFreePort()),
    );
    apiUrl = `http://127.0.0.1:${apiPort}`;
    const providerUrl = `http://127.0.0.1:${providerPort}`;
    const stores = { REDIS_URL: asProduct(redis.url), MYSQL_URL: asProduct(owner.href) };
    shared = {
      ...stores,
      TEMPORAL_ADDRESS: inject('temporalAddress'),
      TEMPORAL_NAMESPACE: await createNamespace(),
      PAYMENT_PROVIDER_URL: providerUrl,
      API_HOST: '127.0.0.1',
      API_PORT: String(apiPort),
      METRICS_PORT: String(metricsPort),
      WORKER_HOST: '127.0.0.1',
      WORKER_PORT: String(workerPort),
      TEMPORAL_METRICS_PORT: String(sdkPort),
    };
    // Wherever the machines of API and worker stand.
    const [east, west] = ['Pacific/Auckland', 'America/St_Johns'];

    const migrated = start('migrate', product, { ...stores, MYSQL_URL: owner.href, TZ: east });
    expect(await complete(migrated)).toContain('"msg":"migrated"');
    containers['provider'] = start('provider', sandbox, {
      SANDBOX_HOST: '127.0.0.1',
      SANDBOX_PORT: String(providerPort),
      SANDBOX_PUBLIC_URL: providerUrl,
      SANDBOX_WEBHOOK_URL: `${apiUrl}/v1/webhooks/payments`,
    });
    const api = start('api', product, { ...shared, TZ: east });
    const worker = start('worker', product, { ...shared, TZ: west });
    Object.assign(containers, { api, worker });
    await waitUntilReady(worker, () => worker.output().includes('worker ready'));
    await waitUntilReady(api, () =>
      fetch(`${apiUrl}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
    const mine = await openStores(
      { REDIS_URL: [redis.url], MYSQL_URL: owner.href, ENGINE_BUDGET: 50, MYSQL_STORES_PER_SECOND: 100 },
      silent,
    );
    closeLater(() => mine.close());
    if (!isDemo) {
      const sale = buildSale();
      ({ saleId } = sale);
      await mine.sales.create(sale);
      await mine.sales.warmUp(saleId, mine.saleStock);
    }
    shopper = await openShopper(apiUrl);
  }, BUILT_WITHIN_MS);

  test('a purchase is placed, paid at the provider, and becomes paid', async () => {
    const orderNo = await shopper.buy(saleId);
    const order = await shopper.awaitStatus(orderNo, 'awaiting_payment');
    // Neither clock nor time zone of a process is in what a shopper is told.
    expect(Math.abs(Date.parse(order.reservedAt) - Date.now())).toBeLessThan(10 * 60_000);

    await pressPay(sessionOf(await shopper.pay(orderNo)).url);
    await shopper.awaitStatus(orderNo, 'paid');
  });

  test('the pages are served from the files of the image', async () => {
    const paths = ['/docs', '/docs/page.js', '/docs/viewer.js', '/openapi.json'];
    const ofDemo = ['/', '/demo/altcha.js'];
    for (const path of [...paths, ...ofDemo]) {
      const { status } = await fetch(`${apiUrl}${path}`);
      expect({ path, status }).toEqual({ path, status: isDemo || paths.includes(path) ? 200 : 404 });
    }
  });

  test('the health checks of the image and of the compose file find each process healthy', async () => {
    const { Healthcheck: own } = await podman.inspect(product);
    assert(own?.Test[0] === 'CMD', 'the image has a health check');
    const { api, worker } = containers;
    assert(api && worker);
    const checks: [Container, string[]][] = [
      [api, own.Test.slice(1)],
      [api, healthCheckOf('api', '3000', shared['API_PORT'])],
      [worker, healthCheckOf('worker', '9464', shared['WORKER_PORT'])],
    ];
    for (const [container, command] of checks)
      await waitFor(`${container.name}: ${command.join(' ')}`, async () => {
        const { exitCode } = await container.exec(command);
        return exitCode === 0;
      });
  });

  test('ops in the image finds nothing wrong, and the audit is clean', async () => {
    const { api } = containers;
    assert(api);
    const status = await api.exec(['node', 'dist/src/ops/main.js', 'status']);
    expect(status.output).toContain('Nothing is wrong.');
    const audit = await api.exec(['node', 'dist/src/audit/main.js']);
    expect(audit, audit.output).toMatchObject({ exitCode: 0 });
  });

  test.each(['worker', 'api', 'provider'])('%s ends in order at SIGTERM', async (name) => {
    const container = containers[name];
    assert(container);
    const begunMs = Date.now();
    await container.signal('SIGTERM');
    const exitCode = await container.ended;

    expect({ exitCode, output: container.output() }).toMatchObject({ exitCode: 0 });
    expect(Date.now() - begunMs).toBeLessThan(GRACE_MS);
    if (name === 'provider') return;
    expect(container.output()).toMatch(/"msg":"stopping"[\s\S]*"msg":"stopped"/);
    expect(container.output()).not.toMatch(/"level":(50|60)/);
  });
});
