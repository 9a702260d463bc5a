/** Runs a private RabbitMQ on loopback: the broker of a design that the benchmarks compare with Holdfast. */

import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { canUseApt, findProgram, installWithApt } from '../install/server-packages.ts';
import { canConnect, findFreePort, withFreePort } from '../processes/ports.ts';
import type { Processes } from '../processes/processes.ts';

/** Erlang boots, reads its plugins and makes its database: four seconds on two cores. */
const READY_TIMEOUT_MS = 60_000;
/** It closes its queues' files first. */
const STOP_TIMEOUT_MS = 20_000;
const EPMD_TIMEOUT_MS = 10_000;

/** What Debian puts on PATH is a wrapper that changes user and folder; this is what it wraps. */
const DEBIAN_SERVER = '/usr/lib/rabbitmq/bin/rabbitmq-server';
const APT_PACKAGE = 'rabbitmq-server';

const LOOPBACK = '127.0.0.1';

export interface RabbitmqOptions {
  processes: Processes;
  progress: (line: string) => void;
}

/** @returns its URL, as AMQP clients take it */
export async function startRabbitmq({ processes, progress }: RabbitmqOptions): Promise<string> {
  const { server, epmd } = await locateRabbitmq(progress);
  const dir = join(processes.dataDir, 'rabbitmq');
  mkdirSync(dir, { recursive: true });
  const epmdPort = await startEpmd(processes, epmd);
  return withFreePort(undefined, async (port) => {
    await processes.start({
      name: 'rabbitmq',
      command: server,
      args: ['-start_epmd', 'false', '-data_dir', dir],
      env: { ...process.env, ...environment({ dir, port, epmdPort, distPort: await findFreePort() }) },
      marker: dir,
      isReady: () => canConnect(LOOPBACK, port),
      readyTimeoutMs: READY_TIMEOUT_MS,
      stopTimeoutMs: STOP_TIMEOUT_MS,
    });
    return `amqp://guest:guest@${LOOPBACK}:${port}`;
  });
}

/** Erlang's directory of nodes. Without one of ours, Erlang starts one that outlives the broker. */
async function startEpmd(processes: Processes, epmd: string): Promise<number> {
  return withFreePort(undefined, async (port) => {
    const args = ['-address', LOOPBACK, '-port', String(port)];
    await processes.start({
      name: 'epmd',
      command: epmd,
      args,
      marker: args.join(' '),
      isReady: () => canConnect(LOOPBACK, port),
      readyTimeoutMs: EPMD_TIMEOUT_MS,
      stopTimeoutMs: EPMD_TIMEOUT_MS,
    });
    return port;
  });
}

/** Its data, cookie, log and ports are its own, and no file of the system's installation is read. */
function environment(own: { dir: string; port: number; epmdPort: number; distPort: number }) {
  const { dir, port, epmdPort, distPort } = own;
  return {
    HOME: dir,
    ERL_EPMD_ADDRESS: LOOPBACK,
    ERL_EPMD_PORT: String(epmdPort),
    RABBITMQ_NODENAME: 'holdfast@localhost',
    RABBITMQ_NODE_IP_ADDRESS: LOOPBACK,
    RABBITMQ_NODE_PORT: String(port),
    RABBITMQ_DIST_PORT: String(distPort),
    RABBITMQ_MNESIA_BASE: join(dir, 'mnesia'),
    RABBITMQ_LOGS: '-',
    RABBITMQ_CONF_ENV_FILE: join(dir, 'none'),
    RABBITMQ_CONFIG_FILE: join(dir, 'none'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(dir, 'none'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(dir, 'none'),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: `-kernel inet_dist_use_interface {127,0,0,1}`,
    // The script then becomes the broker instead of staying beside it.
    RUNNING_UNDER_SYSTEMD: 'true',
  };
}

async function locateRabbitmq(progress: (line: string) => void): Promise<{ server: string; epmd: string }> {
  const find = () => {
    const server = existsSync(DEBIAN_SERVER) ? DEBIAN_SERVER : findProgram(['rabbitmq-server']);
    const epmd = findProgram(['epmd']);
    return server !== undefined && epmd !== undefined ? { server, epmd } : undefined;
  };
  const there = find();
  if (there !== undefined) return there;
  if (canUseApt()) await installWithApt([APT_PACKAGE], progress);
  const installed = find();
  if (installed !== undefined) return installed;
  throw new Error(`RabbitMQ not found: install it, on Debian with \`apt-get install ${APT_PACKAGE}\`.`);
}
