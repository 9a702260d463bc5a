/** The chart of deploy/helm/holdfast as helm renders it, and as kubectl-validate judges that. */

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import type { ChartTools } from '../../stack/install/chart-tools.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';

export const CHART = join(repoDir, 'deploy', 'helm', 'holdfast');

/** What the chart was checked for, and no cluster is asked, whichever the environment names. */
const KUBERNETES = '1.30';
const NO_CLUSTER = { ...process.env, KUBECONFIG: join(CHART, 'no-cluster') };

const probe = z.object({
  httpGet: z.object({ path: z.string(), port: z.number() }),
  periodSeconds: z.number(),
  timeoutSeconds: z.number(),
});
const variable = z.object({
  name: z.string(),
  value: z.string().optional(),
  valueFrom: z
    .object({
      secretKeyRef: z.object({ name: z.string(), key: z.string(), optional: z.boolean().default(false) }),
    })
    .optional(),
});
const container = z.looseObject({
  name: z.string(),
  image: z.string(),
  command: z.array(z.string()),
  env: z.array(variable),
  ports: z.array(z.object({ name: z.string(), containerPort: z.number() })).default([]),
  readinessProbe: probe.optional(),
  livenessProbe: probe.optional(),
  resources: z.object({
    requests: z.record(z.string(), z.string()),
    limits: z.record(z.string(), z.string()),
  }),
});
const labels = z.record(z.string(), z.string());
const pod = z.looseObject({ containers: z.array(container).length(1) });
const manifest = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string(), annotations: labels.default({}) }),
  spec: z
    .looseObject({
      replicas: z.number().optional(),
      selector: z.union([z.object({ matchLabels: labels }), labels]).optional(),
      template: z.object({ metadata: z.object({ labels }), spec: pod }).optional(),
    })
    .optional(),
});

export type Manifest = z.infer<typeof manifest>;
type Variable = z.infer<typeof variable>;

export function readYaml(file: string): unknown {
  return parse(readFileSync(join(CHART, file), 'utf8'));
}

/** @throws with helm's own words where it refuses the values */
export function renderText({ helm }: ChartTools, values: object): string {
  return runHelm(helm, ['template', 'holdfast', CHART, '--namespace', 'shop', '--values', '-'], values);
}

export function lint({ helm }: ChartTools, values: object): string {
  return runHelm(helm, ['lint', '--strict', CHART, '--values', '-'], values);
}

function runHelm(helm: string, args: string[], values: object): string {
  return execFileSync(helm, args, { input: JSON.stringify(values), encoding: 'utf8', stdio: 'pipe' });
}

export function readManifests(text: string): Manifest[] {
  return parseAllDocuments(text)
    .map((document): unknown => document.toJS())
    .filter((document) => document !== null)
    .map((document) => manifest.parse(document));
}

/** By file, one for each document in it. */
const statuses = z.record(
  z.string(),
  z.array(z.object({ status: z.string(), message: z.string().default('') })),
);

/** What kubectl-validate says of each document, in their order: `Success`, or what is wrong. */
export function judge({ kubectlValidate }: ChartTools, text: string): string[] {
  return inFile('manifests.yaml', text, (file) => {
    const args = ['--version', KUBERNETES, '--output', 'json', file];
    const { stdout, stderr, status } = spawnSync(kubectlValidate, args, {
      encoding: 'utf8',
      env: NO_CLUSTER,
    });
    const ofFiles = statuses.parse(JSON.parse(stdout || '{}'));
    const verdicts = ofFiles[file]?.map((each) => (each.status === 'Success' ? each.status : each.message));
    if (verdicts === undefined || (status === 0) !== verdicts.every((each) => each === 'Success'))
      throw new Error(`kubectl-validate ended with ${status}: ${stderr}${stdout}`);
    return verdicts;
  });
}

const discovered = z.array(z.object({ labels: z.record(z.string(), z.string()) }));

/** What Prometheus would scrape of these, by the rules of monitoring/prometheus-kubernetes.yaml. */
export function discover(promtool: string, found: object[]): z.infer<typeof discovered> {
  const rules = readFileSync(join(repoDir, 'monitoring', 'prometheus-kubernetes.yaml'), 'utf8');
  const given = rules
    .replace('kubernetes_sd_configs: [{ role: pod }]', `static_configs: ${JSON.stringify(found)}`)
    .replace(/^rule_files: .*$/m, '');
  return inFile('prometheus.yaml', given, (file) => {
    // It waits for so long, in case that more is found.
    const args = ['check', 'service-discovery', '--timeout=1s', file, 'holdfast'];
    const all = discovered.parse(JSON.parse(execFileSync(promtool, args, { encoding: 'utf8' })));
    return all.filter(({ labels: kept }) => Object.keys(kept).length > 0);
  });
}

function inFile<T>(name: string, text: string, use: (file: string) => T): T {
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-chart-'));
  try {
    const file = join(dir, name);
    writeFileSync(file, text);
    return use(file);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Of a Deployment or a Job. */
export function podOf({ metadata, spec }: Manifest) {
  if (!spec?.template) throw new Error(`${metadata.name} has no pods`);
  const [first] = spec.template.spec.containers;
  if (!first) throw new Error(`${metadata.name} has no container`);
  return { ...spec.template.spec, labels: spec.template.metadata.labels, container: first };
}

/** The environment of a process whose secrets have these keys, each a secret's name and a key of it. */
export function environmentOf(of: Manifest, secrets: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    podOf(of).container.env.flatMap((each): [string, string][] => {
      const value = each.value ?? readSecret(each, secrets);
      return value === undefined ? [] : [[each.name, value]];
    }),
  );
}

function readSecret({ name, valueFrom }: Variable, secrets: Record<string, string>): string | undefined {
  const from = valueFrom?.secretKeyRef;
  if (!from) throw new Error(`${name} has neither a value nor a secret`);
  const value = secrets[`${from.name}/${from.key}`];
  // As the kubelet: the container is not started.
  if (value === undefined && !from.optional) throw new Error(`${name}: ${from.name} has no key ${from.key}`);
  return value;
}
