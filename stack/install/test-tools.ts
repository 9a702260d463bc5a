/**
 * Tools that some tests need beside the servers. They are found or installed before the first test. If one is
 * missing, its tests fail with the reason.
 */

import { STRIPE_MOCK } from '../servers/stripe-mock.ts';
import { TOXIPROXY } from '../servers/toxiproxy.ts';
import { locateChartTools } from './chart-tools.ts';
import { locateChromium } from './chromium.ts';
import { locateFaketime } from './faketime.ts';
import { locateGoTool } from './go-install.ts';
import { locatePodman } from './podman.ts';
import { locatePrometheus } from './prometheus.ts';
import { locatePythonTool, PODMAN_COMPOSE, SCHEMATHESIS } from './python-tool.ts';

type Locate = (progress: (line: string) => void) => Promise<string | undefined>;

const LOCATE = {
  chromium: locateChromium,
  libfaketime: locateFaketime,
  prometheus: async (progress) => (await locatePrometheus(progress)).prometheus,
  promtool: async (progress) => (await locatePrometheus(progress)).promtool,
  helm: async (progress) => (await locateChartTools(progress)).helm,
  'kubectl-validate': async (progress) => (await locateChartTools(progress)).kubectlValidate,
  'stripe-mock': (progress) => locateGoTool(STRIPE_MOCK, progress),
  'toxiproxy-server': (progress) => locateGoTool(TOXIPROXY, progress),
  schemathesis: (progress) => locatePythonTool(SCHEMATHESIS, progress),
  podman: locatePodman,
  'podman-compose': (progress) => locatePythonTool(PODMAN_COMPOSE, progress),
} satisfies Record<string, Locate>;

export type ToolName = keyof typeof LOCATE;

/** The path of each tool, or the reason why the tests that need it fail. */
export type Tools = Partial<Record<ToolName, { path: string } | { missing: string }>>;

const SLOW: readonly ToolName[] = [
  'chromium',
  'libfaketime',
  'prometheus',
  'promtool',
  'helm',
  'kubectl-validate',
  'stripe-mock',
  'toxiproxy-server',
];
/** By the project of vitest.config.ts; the others need none. */
const NEEDS: Record<string, readonly ToolName[]> = {
  slow: SLOW,
  faults: ['toxiproxy-server'],
  storm: ['toxiproxy-server'],
  openapi: ['schemathesis'],
  image: ['podman', 'podman-compose'],
};

/** Finds or gets what the tests of these projects need, one by one, because each build uses both cores. */
export async function locateTools(
  projects: readonly string[],
  progress: (line: string) => void,
): Promise<Tools> {
  const tools: Tools = {};
  for (const name of new Set(projects.flatMap((project) => NEEDS[project] ?? []))) {
    tools[name] = await locate(name, progress);
  }
  return tools;
}

async function locate(
  name: ToolName,
  progress: (line: string) => void,
): Promise<{ path: string } | { missing: string }> {
  try {
    const path = await LOCATE[name](progress);
    return path === undefined ? { missing: `${name} is missing: install it and run again.` } : { path };
  } catch (error) {
    const missing = error instanceof Error ? error.message : String(error);
    progress(`Tests that need ${name} will fail: ${missing}`);
    return { missing };
  }
}
