/**
 * deploy/helm/holdfast renders what Kubernetes 1.30 takes, and what the processes, docs/production.md and
 * docs/operations.md ask for. No cluster has run it.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { loadApiConfig, loadPrepareConfig, loadWorkerConfig, settings } from '../../src/config.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { settingNames } from '../../stack/renew/settings-table.ts';
import { builtSources } from '../compose/images.ts';
import { tool } from '../support/tools.ts';
import {
  CHART,
  discover,
  environmentOf,
  judge,
  lint,
  podOf,
  readManifests,
  readYaml,
  renderText,
  type Manifest,
} from './chart.ts';

const read = (...path: string[]): string => readFileSync(join(repoDir, ...path), 'utf8');

/** The least that an operator must give. */
const LEAST = {
  image: { repository: 'registry.example/holdfast' },
  settings: {
    TEMPORAL_ADDRESS: 'temporal:7233',
    PAYMENT_PROVIDER: 'stripe',
    PAYMENT_RETURN_URL: 'https://shop.example/',
  },
};
/** Every option is on, and those that have a form have another than by default. */
const ALL = {
  image: { ...LEAST.image, tag: '1.10', pullSecrets: ['registry'] },
  settings: {
    ...LEAST.settings,
    MYSQL_CONNECTIONS: 30,
    MYSQL_STORES_PER_SECOND: 100_000,
    PUSH_ALLOW_PRIVATE: true,
  },
  secret: 'shop',
  ownerSecret: 'shop-owner',
  api: {
    tag: '1.9',
    settings: { TRUSTED_PROXY_HOPS: 1, MYSQL_CONNECTIONS: 10, JWT_JWKS_URL: 'https://id.shop.example/jwks' },
    autoscaling: { enabled: true, minReplicas: 4, maxReplicas: 8, cpuPercent: 50 },
    pod: { nodeSelector: { pool: 'api' }, tolerations: [{ key: 'pool', operator: 'Exists' }] },
  },
  worker: {
    replicas: null,
    settings: { WORKER_DEPLOYMENT_NAME: 'shop', OTEL_TRACES_SAMPLER_ARG: 0.01 },
    versions: [
      { buildId: 'v1', tag: '1.9', replicas: 2 },
      { buildId: 'v2.0-rc1', tag: '1.10', replicas: 3 },
    ],
    pod: { priorityClassName: 'background' },
  },
};

/** The keys that docs/production.md lets an operator make. */
function secretsNamed(secret: string, owner: string): Record<string, string> {
  const app = {
    REDIS_URL: 'redis://holdfast_app:secret@redis:6379',
    MYSQL_URL: 'mysql://holdfast_app:secret@mysql/holdfast',
    PAYMENT_PROVIDER_API_KEY: 'sk_live_0123456789abcdef',
    WEBHOOK_SECRETS: 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=',
    ORDER_SIGNING_SECRETS: 'a-sign-of-production-with-enough-characters',
    JWT_SECRET: 'a-secret-of-production-with-enough-characters',
  };
  const keys = Object.entries(app).map(([key, value]) => [`${secret}/${key}`, value]);
  return { ...Object.fromEntries(keys), [`${owner}/MYSQL_URL`]: 'mysql://holdfast:secret@mysql/holdfast' };
}

const SECRETS = secretsNamed('holdfast', 'holdfast-owner');
/** What only some have: Temporal Cloud by key or certificate, a receiver of traces that asks for headers. */
const SECRETS_OF_SOME = [
  'TEMPORAL_API_KEY',
  'TEMPORAL_TLS_CLIENT_CERT_DATA',
  'TEMPORAL_TLS_CLIENT_KEY_DATA',
  'OTEL_EXPORTER_OTLP_HEADERS',
];
const secretKeys = [...Object.keys(SECRETS).map((name) => name.replace(/^.*\//, '')), ...SECRETS_OF_SOME];

/** Where they listen is the chart's own business, and the bundle's place the image's. */
const OF_THE_CHART = [
  'API_HOST',
  'API_PORT',
  'METRICS_PORT',
  'WORKER_HOST',
  'WORKER_PORT',
  'TEMPORAL_METRICS_PORT',
  'WORKER_BUILD_ID',
  'WORKFLOW_BUNDLE',
];
/** Of Temporal's own variables, those that are neither secrets nor files. */
const OF_TEMPORAL = [
  'TEMPORAL_ADDRESS',
  'TEMPORAL_NAMESPACE',
  'TEMPORAL_TLS',
  'TEMPORAL_TLS_SERVER_NAME',
  'TEMPORAL_TLS_SERVER_CA_CERT_DATA',
];

const tools = { helm: tool('helm'), kubectlValidate: tool('kubectl-validate') };

const render = (values: object): Manifest[] => readManifests(renderText(tools, values));

function find(manifests: Manifest[], kind: string, name: string): Manifest {
  const found = manifests.find((each) => each.kind === kind && each.metadata.name === name);
  if (!found)
    throw new Error(`no ${kind} ${name} among ${manifests.map(({ metadata }) => metadata.name).join()}`);
  return found;
}

const namesOf = (manifests: Manifest[], kind: string): string[] =>
  manifests.filter((each) => each.kind === kind).map(({ metadata }) => metadata.name);

const withPods = (manifests: Manifest[]): Manifest[] =>
  manifests.filter(({ spec }) => spec?.template !== undefined);

describe('the chart', () => {
  test.each([
    ['nothing but its own values', {}],
    ['the least', LEAST],
    ['all', ALL],
  ])('pleases helm lint with %s', (_what, values) => {
    expect(lint(tools, values)).toContain('1 chart(s) linted, 0 chart(s) failed');
  });

  test.each([
    ['the least', LEAST, 7],
    ['all', ALL, 10],
    ['the values of docs/production.md', documentedValues(), 8],
  ])('renders with %s what Kubernetes 1.30 takes', (_what, values, manifests) => {
    const text = renderText(tools, values);

    expect(judge(tools, text)).toEqual(Array.from({ length: manifests }, () => 'Success'));
    expect(readManifests(text)).toHaveLength(manifests);
  });

  test.each([
    ['a field that does not exist', 'livenessProbe:', 'livenesProbe:', 'unknown field'],
    ['a value of another type', 'replicas: 2', 'replicas: two', 'must be of type integer'],
    ['a field that is missing', /^ {6}containers:\n[^]*?(?=^---)/m, '', 'containers: Required value'],
    ['a version that went', 'policy/v1', 'policy/v1beta1', 'policy/v1beta1'],
    ['a kind that does not exist', 'kind: Job', 'kind: Jobs', 'Jobs not found'],
    ['a name that cannot be', 'name: holdfast-api', 'name: holdfast_api', 'RFC 1123'],
  ])('would be refused with %s', (_what, found, replacement, message) => {
    const text = renderText(tools, LEAST);
    const broken = text.replace(found, replacement);
    expect(broken).not.toBe(text);

    expect(judge(tools, broken).filter((each) => each !== 'Success')).toEqual([
      expect.stringContaining(message),
    ]);
  });

  test.each([
    ['no image', { ...LEAST, image: {} }, 'image.repository'],
    [
      'no payment provider',
      { ...LEAST, settings: { TEMPORAL_ADDRESS: 'temporal:7233' } },
      'settings.PAYMENT_PROVIDER',
    ],
    ['no Temporal', { ...LEAST, settings: { PAYMENT_PROVIDER: 'stripe' } }, 'settings.TEMPORAL_ADDRESS'],
    [
      'a setting that is misspelt',
      { ...LEAST, api: { settings: { TRUSTED_PROXY_HOP: 1 } } },
      'TRUSTED_PROXY_HOP',
    ],
    ['a setting of the other process', { ...LEAST, api: { settings: { OUTBOX_PAGE: 100 } } }, 'OUTBOX_PAGE'],
    [
      'a secret among the settings',
      { ...LEAST, settings: { ...LEAST.settings, WEBHOOK_SECRETS: 'x' } },
      'WEBHOOK_SECRETS',
    ],
    ['an option that does not exist', { ...LEAST, api: { replica: 3 } }, 'replica'],
    ['a tag that is a number', { ...LEAST, image: { ...LEAST.image, tag: 1.1 } }, 'image.tag'],
    [
      'a build id that no Deployment can have',
      { ...LEAST, worker: { versions: [{ buildId: 'V_2', tag: 'b', replicas: 1 }] } },
      'buildId',
    ],
  ])('refuses %s', (_what, values, message) => {
    expect(() => renderText(tools, values)).toThrow(message);
  });

  test('installs the version of package.json unless a tag is set', () => {
    const { version } = z.object({ version: z.string() }).parse(JSON.parse(read('package.json')));
    const images = (values: object) => withPods(render(values)).map((each) => podOf(each).container.image);

    expect(new Set(images(LEAST))).toEqual(new Set([`registry.example/holdfast:${version}`]));
    expect(
      images(ALL)
        .map((image) => image.replace('registry.example/holdfast:', ''))
        .toSorted(),
    ).toEqual(['1.10', '1.10', '1.10', '1.9', '1.9']);
  });

  test('makes no secret, and reads them by name alone', () => {
    for (const values of [LEAST, ALL]) expect(namesOf(render(values), 'Secret')).toEqual([]);
    expect(JSON.stringify(readYaml('values.yaml'))).not.toMatch(/whsec_|sk_|redis:|mysql:/);
  });

  test('says that it has not run on a cluster, where it is chosen, installed and described', () => {
    const files = [
      join(repoDir, 'docs', 'production.md'),
      join(CHART, 'values.yaml'),
      join(CHART, 'templates', 'NOTES.txt'),
    ];
    const flat = (file: string): string => readFileSync(file, 'utf8').replaceAll(/\s+(# )?/g, ' ');
    expect(files.filter((file) => !flat(file).includes('chart has not run on a cluster'))).toEqual([]);
  });
});

describe('the environment', () => {
  test('with the least is what the processes take in production', () => {
    const manifests = render(LEAST);
    const api = environmentOf(find(manifests, 'Deployment', 'holdfast-api'), SECRETS);
    const worker = environmentOf(find(manifests, 'Deployment', 'holdfast-worker'), SECRETS);
    const migrate = environmentOf(find(manifests, 'Job', 'holdfast-migrate'), SECRETS);

    expect(loadApiConfig(api)).toMatchObject({
      NODE_ENV: 'production',
      API_HOST: '0.0.0.0',
      PAYMENT_PROVIDER: 'stripe',
      temporal: { connectionOptions: { address: 'temporal:7233' } },
    });
    expect(loadWorkerConfig({ ...worker, WORKFLOW_BUNDLE: bundleOfTheImage() })).toMatchObject({
      NODE_ENV: 'production',
      WORKER_HOST: '0.0.0.0',
      temporal: { connectionOptions: { address: 'temporal:7233' } },
    });
    expect(loadPrepareConfig(migrate).MYSQL_URL).toBe(SECRETS['holdfast-owner/MYSQL_URL']);
    for (const env of [api, worker]) expect(env['MYSQL_URL']).toBe(SECRETS['holdfast/MYSQL_URL']);
  });

  test('passes settings on: numbers and booleans as they are written, and those of one process before the shared', () => {
    const manifests = render(ALL);
    const secrets = secretsNamed('shop', 'shop-owner');
    const api = loadApiConfig(environmentOf(find(manifests, 'Deployment', 'holdfast-api'), secrets));
    const env = environmentOf(find(manifests, 'Deployment', 'holdfast-worker-v1'), secrets);
    const worker = loadWorkerConfig({ ...env, WORKFLOW_BUNDLE: bundleOfTheImage() });

    expect(api).toMatchObject({ MYSQL_CONNECTIONS: 10, TRUSTED_PROXY_HOPS: 1, PUSH_ALLOW_PRIVATE: 'true' });
    expect(worker).toMatchObject({
      MYSQL_CONNECTIONS: 30,
      WORKER_BUILD_ID: 'v1',
      WORKER_DEPLOYMENT_NAME: 'shop',
    });
    expect(env).toMatchObject({ MYSQL_STORES_PER_SECOND: '100000', OTEL_TRACES_SAMPLER_ARG: '0.01' });
    const migrate = environmentOf(find(manifests, 'Job', 'holdfast-migrate'), secrets);
    expect(loadPrepareConfig(migrate)).toMatchObject({ MYSQL_CONNECTIONS: 30 });
  });

  test('can have every setting of the processes, and none that they do not read', () => {
    const plain = (process: 'api' | 'worker'): string[] => [
      ...settingNames(settings[process]).filter(
        (name) => !OF_THE_CHART.includes(name) && !secretKeys.includes(name),
      ),
      ...OF_TEMPORAL,
    ];
    const [api, worker] = [plain('api'), plain('worker')];
    const names = z
      .object({ propertyNames: z.object({ enum: z.array(z.string()) }) })
      .transform((each) => each.propertyNames.enum.toSorted());
    const allowed = z
      .object({
        definitions: z
          .object({ both: names, api: names, worker: names })
          .loose()
          .transform(({ both, api: a, worker: w }) => ({ both, api: a, worker: w })),
      })
      .parse(JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8'))).definitions;

    expect(allowed).toEqual({
      both: api.filter((name) => worker.includes(name)).toSorted(),
      api: api.toSorted(),
      worker: worker.toSorted(),
    });
  });

  test('of each process has the secrets that it reads, and no others', () => {
    const manifests = render(LEAST);
    const secretsOf = (kind: string, name: string) =>
      podOf(find(manifests, kind, name))
        .container.env.filter(({ valueFrom }) => valueFrom !== undefined)
        .map((each) => each.name);
    const readBy = (process: 'api' | 'worker' | 'prepare') =>
      secretKeys.filter((key) => settingNames(settings[process]).includes(key));
    const certificates = SECRETS_OF_SOME.filter((key) => key.startsWith('TEMPORAL_'));

    expect(new Set(secretsOf('Deployment', 'holdfast-api'))).toEqual(
      new Set([...readBy('api'), ...certificates]),
    );
    expect(new Set(secretsOf('Deployment', 'holdfast-worker'))).toEqual(
      new Set([...readBy('worker'), ...certificates]),
    );
    expect(new Set(secretsOf('Job', 'holdfast-migrate'))).toEqual(new Set(readBy('prepare')));
  });

  test('of the migration has every setting that it reads', () => {
    const plain = settingNames(settings.prepare).filter((name) => !secretKeys.includes(name));
    const given = {
      NODE_ENV: 'development',
      LOG_LEVEL: 'debug',
      REDIS_KEY_PREFIX: 'shop',
      MYSQL_CONNECTIONS: 8,
      DEPLOYMENT_NAME: 'shop',
    };
    const values = {
      ...LEAST,
      settings: { ...LEAST.settings, ...given },
      api: { settings: { DEMO_SALE_ID: 'demo' } },
    };

    const env = podOf(find(render(values), 'Job', 'holdfast-migrate')).container.env;

    expect(
      env
        .filter(({ value }) => value !== undefined)
        .map(({ name }) => name)
        .toSorted(),
    ).toEqual(plain.toSorted());
  });

  test('needs the secrets that docs/production.md makes', () => {
    const page = read('docs', 'production.md');
    expect(secretKeys.filter((key) => !page.includes(key))).toEqual([]);
  });
});

/** What it shows one after the other is one file. */
function documentedValues(): object {
  const [, section = ''] = /^## On Kubernetes$([^]*?)^## /m.exec(read('docs', 'production.md')) ?? [];
  const blocks = [...section.matchAll(/```yaml\n([^]*?)```/g)].map(([, text = '']): unknown => parse(text));
  return Object.assign({}, ...blocks);
}

/** As the Dockerfile sets it. */
function bundleOfTheImage(): string {
  return /^ENV WORKFLOW_BUNDLE=(\S+)$/m.exec(read('Dockerfile'))?.[1] ?? '';
}

describe('the pods', () => {
  test('run what the image has, under its user', () => {
    for (const each of withPods(render(ALL))) {
      const [program, file = ''] = podOf(each).container.command;
      expect(program).toBe('node');
      expect(builtSources.product).toContain(file.replace(/^dist\/(.*)\.js$/, '$1.ts'));
      // The number of `node` in the images of Node.
      expect(podOf(each)).toMatchObject({ securityContext: { runAsNonRoot: true, runAsUser: 1000 } });
    }
    expect(read('Dockerfile')).toMatch(/^USER 1000:1000$/m);
  });

  test('may do nothing that they need not', () => {
    for (const each of withPods(render(ALL))) {
      expect(podOf(each)).toMatchObject({
        automountServiceAccountToken: false,
        securityContext: { seccompProfile: { type: 'RuntimeDefault' } },
        container: {
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
          volumeMounts: [{ name: 'tmp', mountPath: '/tmp' }],
        },
        volumes: [{ name: 'tmp' }],
      });
      expect(podOf(each).container.resources).toMatchObject({
        requests: { cpu: expect.any(String), memory: expect.any(String) },
        limits: { memory: expect.any(String) },
      });
    }
  });

  test.each([
    ['holdfast-api', 'The API', 'production.md'],
    ['holdfast-worker', 'The worker', 'operations.md'],
  ])('of %s have the probes and the time to stop that the docs name', (name, comment, page) => {
    const documented = z
      .object({
        containers: z.tuple([
          z.looseObject({ env: z.array(z.object({ name: z.string(), value: z.string() })) }),
        ]),
      })
      .loose()
      .parse(
        parse(new RegExp(`\`\`\`yaml\\n(# ${comment}\\.[^]*?)\`\`\``).exec(read('docs', page))?.[1] ?? ''),
      );
    const {
      containers: [{ env, ...container }],
      ...spec
    } = documented;
    const rendered = podOf(find(render(LEAST), 'Deployment', name));

    expect(rendered).toMatchObject({ ...spec, container });
    expect(rendered.container.env).toEqual(expect.arrayContaining(env));
    expect(Object.keys(container)).toEqual(expect.arrayContaining(['readinessProbe', 'livenessProbe']));
  });

  test.each([0, 20])('of the API have 30 seconds to stop, and the %d for which it drains', (seconds) => {
    const values = { ...LEAST, api: { settings: { DRAIN_SECONDS: seconds } } };
    expect(podOf(find(render(values), 'Deployment', 'holdfast-api'))).toMatchObject({
      terminationGracePeriodSeconds: 30 + seconds,
    });
  });

  test('are probed where the process listens', () => {
    for (const [name, listens] of [
      ['api', 'API_PORT'],
      ['worker', 'WORKER_PORT'],
    ] as const) {
      const deployment = find(render(LEAST), 'Deployment', `holdfast-${name}`);
      const { container } = podOf(deployment);
      const port = Number(environmentOf(deployment, SECRETS)[listens]);
      expect([container.readinessProbe?.httpGet.port, container.livenessProbe?.httpGet.port]).toEqual([
        port,
        port,
      ]);
      expect(container.ports.map(({ containerPort }) => containerPort)).toContain(port);
    }
  });

  test('of the API are reached by the service at the port of shoppers alone', () => {
    const manifests = render(LEAST);
    const { container, labels } = podOf(find(manifests, 'Deployment', 'holdfast-api'));
    const service = find(manifests, 'Service', 'holdfast-api');

    expect(labels).toMatchObject(service.spec?.selector ?? { none: '' });
    expect(service.spec).toMatchObject({ ports: [{ port: 80, targetPort: 'http' }] });
    expect(container.ports).toContainEqual({ name: 'http', containerPort: 3000 });
  });

  test('are scraped by monitoring/prometheus-kubernetes.yaml as the jobs that the dashboard knows', () => {
    // Debian's Prometheus knows no Kubernetes: it is given what that would have found.
    const found = withPods(render(LEAST)).flatMap((each) =>
      podOf(each).container.ports.map(({ name, containerPort }) => ({
        targets: [`10.0.0.1:${containerPort}`],
        labels: {
          ...Object.fromEntries(
            Object.entries(podOf(each).labels).map(([label, value]) => [
              `__meta_kubernetes_pod_label_${label.replaceAll(/\W/g, '_')}`,
              value,
            ]),
          ),
          __meta_kubernetes_pod_container_port_name: name,
        },
      })),
    );
    const scraped = discover(tool('promtool'), found).map(
      ({ labels: { job, instance } }) => `${job} ${instance?.replace(/^.*:/, '')}`,
    );

    expect(scraped.toSorted()).toEqual(['api 9465', 'temporal-sdk 9466', 'worker 9464']);
  });

  test('are replaced one by one, and spared by budgets that select them', () => {
    for (const manifests of [render(LEAST), render(ALL)]) {
      for (const deployment of manifests.filter(({ kind }) => kind === 'Deployment')) {
        const { labels } = podOf(deployment);
        expect(deployment.spec).toMatchObject({
          strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
          selector: { matchLabels: labels },
        });
        const budget = find(
          manifests,
          'PodDisruptionBudget',
          `holdfast-${labels['app.kubernetes.io/component']}`,
        );
        expect(budget.spec).toMatchObject({ maxUnavailable: 1 });
        expect(labels).toMatchObject(
          z.object({ matchLabels: z.record(z.string(), z.string()) }).parse(budget.spec?.selector)
            .matchLabels,
        );
      }
    }
  });

  test('of the migration come first, and need nothing that the release makes', () => {
    const migrate = find(render(LEAST), 'Job', 'holdfast-migrate');

    expect(migrate.metadata.annotations).toMatchObject({ 'helm.sh/hook': 'pre-install,pre-upgrade' });
    expect(podOf(migrate)).not.toHaveProperty('serviceAccountName');
  });

  test('go where they are sent', () => {
    const manifests = render(ALL);

    expect(podOf(find(manifests, 'Deployment', 'holdfast-api'))).toMatchObject({
      nodeSelector: { pool: 'api' },
      imagePullSecrets: [{ name: 'registry' }],
    });
    expect(podOf(find(manifests, 'Deployment', 'holdfast-worker'))).toMatchObject({
      priorityClassName: 'background',
    });
  });
});

describe('the workers', () => {
  test('of each version have a Deployment that selects no other, beside those without one', () => {
    const manifests = render(ALL);
    const deployments = ['worker', 'worker-v1', 'worker-v2.0-rc1'].map((name) =>
      find(manifests, 'Deployment', `holdfast-${name}`),
    );

    expect(new Set(deployments.map((each) => podOf(each).labels['build-id'])).size).toBe(3);
    expect(deployments.map(({ spec }) => spec?.replicas)).toEqual([undefined, 2, 3]);
    const ids = deployments.map(
      (each) => podOf(each).container.env.find(({ name }) => name === 'WORKER_BUILD_ID')?.value,
    );
    expect(ids).toEqual([undefined, 'v1', 'v2.0-rc1']);
  });

  test('without a version go once there are to be none', () => {
    const manifests = render({ ...ALL, worker: { ...ALL.worker, replicas: 0 } });

    expect(namesOf(manifests, 'Deployment')).toEqual([
      'holdfast-api',
      'holdfast-worker-v1',
      'holdfast-worker-v2.0-rc1',
    ]);
  });

  test("are those that the autoscaler's example names, and the API's number is left to its own", () => {
    const manifests = render(ALL);

    expect(read('docs', 'production.md')).toContain('scaleTargetRef: { name: holdfast-worker }');
    expect(find(manifests, 'Deployment', 'holdfast-api').spec).not.toHaveProperty('replicas');
    expect(find(manifests, 'HorizontalPodAutoscaler', 'holdfast-api').spec).toMatchObject({
      minReplicas: 4,
      maxReplicas: 8,
      scaleTargetRef: { name: 'holdfast-api' },
    });
    expect(namesOf(render(LEAST), 'HorizontalPodAutoscaler')).toEqual([]);
  });
});
