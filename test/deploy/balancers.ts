/** A real load balancer in front of two APIs, with the files of deploy/balancers. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { canConnect, findFreePort } from '../../stack/processes/ports.ts';
import type { Processes } from '../../stack/processes/processes.ts';

export type BalancerName = 'nginx' | 'haproxy';

export interface Balancer {
  url: string;
  /** How many requests broke at an API, by nginx's log; HAProxy counts none there. */
  broken(): number;
}

/** Bounds a hang; both listen within moments. */
const READY_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 5_000;

/** Debian installs both into /usr/sbin, which is not on everybody's PATH. */
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin`;

export function isInstalled(name: BalancerName): boolean {
  return spawnSync(name, ['-v'], { env: { PATH } }).status === 0;
}

/**
 * @param apis as the balancer reaches them, `host:port`
 * @param repeats whether it repeats a purchase that broke at one API, as its file says
 */
export async function startBalancer(
  processes: Processes,
  name: BalancerName,
  { apis, repeats }: { apis: readonly string[]; repeats: boolean },
): Promise<Balancer> {
  const port = await findFreePort();
  const dir = join(processes.dataDir, `${name}-${port}`);
  mkdirSync(dir);
  const address = `127.0.0.1:${port}`;
  const text = textOf(name, apis);
  const args =
    name === 'nginx'
      ? nginxArgs(dir, address, repeats ? text : without(text, ' non_idempotent'))
      : haproxyArgs(dir, address, repeats ? text : without(text, '  retry-on conn-failure empty-response\n'));
  await processes.start({
    name,
    command: name,
    args,
    env: { PATH },
    marker: dir,
    isReady: () => canConnect('127.0.0.1', port),
    readyTimeoutMs: READY_TIMEOUT_MS,
    stopTimeoutMs: STOP_TIMEOUT_MS,
  });
  const log = (): string => readFileSync(processes.logFile(name), 'utf8');
  return {
    url: `http://${address}`,
    broken: () => log().match(/while (?:reading response|sending request)/g)?.length ?? 0,
  };
}

function nginxArgs(dir: string, address: string, text: string): string[] {
  const temps = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${join(dir, kind)};`,
  );
  const main = [
    'daemon off; worker_processes 2; error_log stderr;',
    `pid ${join(dir, 'pid')};`,
    'events { worker_connections 2048; }',
    `http { access_log off; ${temps.join(' ')}`,
    replaced(text, 'listen 80;', `listen ${address};`),
    '}',
  ];
  writeFileSync(join(dir, 'nginx.conf'), main.join('\n'));
  return ['-p', dir, '-c', 'nginx.conf'];
}

function haproxyArgs(dir: string, address: string, text: string): string[] {
  const file = join(dir, 'haproxy.cfg');
  writeFileSync(file, replaced(text, 'bind :80', `bind ${address}`));
  return ['-db', '-f', file];
}

function textOf(name: BalancerName, apis: readonly string[]): string {
  const file = name === 'nginx' ? 'nginx.conf' : 'haproxy.cfg';
  const text = readFileSync(join(repoDir, 'deploy', 'balancers', file), 'utf8');
  return apis.reduce((filled, api, index) => replaced(filled, `api-${index + 1}:3000`, api), text);
}

const without = (text: string, part: string): string => replaced(text, part, '');

function replaced(text: string, part: string, by: string): string {
  assert(text.includes(part), `the balancer's file says ${part}`);
  return text.replace(part, by);
}
