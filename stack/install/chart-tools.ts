/** Finds or builds helm, which renders the chart, and kubectl-validate, which checks what it renders. */

import { locateGoTool } from './go-install.ts';

/** Both build from these libraries of Kubernetes, so that what one has compiled the other takes. */
const KUBERNETES = 'v0.30.3';

const HELM = {
  name: 'helm',
  module: 'helm.sh/helm/v3/cmd/helm@v3.15.4',
  oldestGoMinor: 22,
};

/** It carries the schemas of Kubernetes 1.23 to 1.30, and needs no cluster. */
const KUBECTL_VALIDATE = {
  name: 'kubectl-validate',
  module: 'sigs.k8s.io/kubectl-validate@v0.0.4',
  oldestGoMinor: 22,
  overrides: [
    'api',
    'apiextensions-apiserver',
    'apimachinery',
    'apiserver',
    'client-go',
    'component-base',
  ].map((library) => `k8s.io/${library}@${KUBERNETES}`),
};

export interface ChartTools {
  helm: string;
  kubectlValidate: string;
}

/** Each on PATH, else from the cache, else built: one after the other, since both would compile the same. */
export async function locateChartTools(progress: (line: string) => void): Promise<ChartTools> {
  const helm = await locateGoTool(HELM, progress);
  return { helm, kubectlValidate: await locateGoTool(KUBECTL_VALIDATE, progress) };
}
