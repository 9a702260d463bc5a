/**
 * The images of the Dockerfile, built and run by podman in a store of this process alone. Each call has
 * mounts of its own (`unshare`): they end with it, also when it is killed, so that the store can be removed.
 */

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { cacheDir } from '../../stack/install/cache.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { tool } from '../support/tools.ts';
import { baseImage, npmVolumes } from './base-image.ts';

const CALL_TIMEOUT_MS = 60_000;
/** npm ci and the compiler, on a machine that does other work as well. */
const BUILD_TIMEOUT_MS = 15 * 60_000;
/** Compose and the chart give a process 30 s. */
export const GRACE_MS = 30_000;
/** Of the log of a container, which is some hundred kilobytes, the end is kept. */
const OUTPUT_BYTES = 16 * 1024 * 1024;

const STORE = /^podman-(\d+)$/;
const WITHOUT_SYSTEMD = ['--runtime=runc', '--cgroup-manager=cgroupfs', '--events-backend=none'];
/** But for the network, which is the machine's: there the servers are. */
const AS_THE_CHART = [
  '--rm',
  '--network=host',
  '--read-only',
  '--read-only-tmpfs=false',
  '--tmpfs=/tmp',
  '--cap-drop=all',
  '--security-opt=no-new-privileges',
  '--log-driver=none',
  // Podman has systemd ask for it; a test asks itself.
  '--no-healthcheck',
];
/** By number: a call has not the container's files, in which a name would be looked up. */
const user = ['--user', '1000:1000'];
/** This process may be forbidden to raise its limits, and podman's defaults are higher. */
const ULIMITS = ['nofile', 'nproc'].map((name) => `--ulimit=${name}=4096:4096`);

const imageSchema = z.tuple([
  z.object({
    Config: z.object({
      User: z.string(),
      Cmd: z.array(z.string()),
      StopSignal: z.string(),
    }),
    Healthcheck: z.object({ Test: z.array(z.string()) }).optional(),
  }),
]);
type Image = z.infer<typeof imageSchema>[0];

interface RunOptions {
  name: string;
  image: string;
  env: Record<string, string>;
  /** The image's own unless given. */
  command?: readonly string[];
  /** Named volumes and files, as `podman run --volume` takes them. */
  volumes?: readonly string[];
}

export interface Container {
  name: string;
  /** What it has printed until now. */
  output(): string;
  /** Runs a command inside as the image's user. */
  exec(command: readonly string[]): Promise<{ exitCode: number; output: string }>;
  signal(name: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Its exit code, once it has ended. */
  ended: Promise<number>;
}

/** Calls podman. @throws with what it printed */
export type Call = (args: readonly string[], timeoutMs?: number) => Promise<string>;

export type Podman = Awaited<ReturnType<typeof openPodman>>;

/** @param onClose takes what removes the containers, the images and the store */
export async function openPodman(onClose: (close: () => Promise<void>) => void) {
  const program = tool('podman');
  await removeLeftStores();
  const store = storeOf(process.pid);
  const dirs = { root: join(store, 'root'), runroot: join(store, 'run'), tmpdir: join(store, 'tmp') };
  for (const dir of Object.values(dirs)) mkdirSync(dir, { recursive: true });
  const places = Object.entries(dirs).map(([flag, dir]) => `--${flag}=${dir}`);
  const begin = ['--mount', '--propagation=private', program, ...places, ...WITHOUT_SYSTEMD];
  const env = { ...process.env, TMPDIR: dirs.tmpdir };

  const running = new Map<string, Container>();
  /** Once for all builds, so that they share layers. */
  let base: Promise<string> | undefined;

  const call: Call = async (args, timeout = CALL_TIMEOUT_MS) => {
    const options = { env, timeout, maxBuffer: OUTPUT_BYTES };
    const { stdout } = await promisify(execFile)('unshare', [...begin, ...args], options);
    return stdout;
  };

  onClose(async () => {
    await Promise.all(
      [...running.values()].map(async ({ signal, ended }) => {
        await signal('SIGKILL');
        await ended;
      }),
    );
    await removeStore(process.pid);
  });

  return {
    async inspect(image: string): Promise<Image> {
      return imageSchema.parse(JSON.parse(await call(['image', 'inspect', image])))[0];
    },

    /** The very Dockerfile, on the public base image where that is reached, else on one made of its parts. */
    async build(target: 'product' | 'sandbox'): Promise<string> {
      const image = `localhost/holdfast-${target}`;
      base ??= baseImage(call);
      const args = ['build', '--isolation=chroot', '--network=host', '--format=docker', '--layers'];
      const npm = (await npmVolumes(store)).map((volume) => `--volume=${volume}:ro`);
      const what = [`--build-arg=NODE_IMAGE=${await base}`, `--target=${target}`, `--tag=${image}`, repoDir];
      await call([...args, ...npm, ...what], BUILD_TIMEOUT_MS);
      return image;
    },

    /**
     * As the chart runs it: the root is read-only, /tmp is in memory, and no capability is left. There is no
     * init, so the process is the first one of its namespace.
     */
    run({ name, image, env: given, command = [], volumes = [] }: RunOptions): Container {
      const args = [
        'run',
        `--name=${name}`,
        `--cgroup-parent=/${groupOf(process.pid)}`,
        ...AS_THE_CHART,
        ...ULIMITS,
        ...volumes.map((volume) => `--volume=${volume}`),
        // What a killed run leaves, stack/bootstrap.mjs finds by this name.
        ...Object.entries({ ...given, HOLDFAST_TEST_RUN: process.env['HOLDFAST_TEST_RUN'] ?? '' }).map(
          ([key, value]) => `--env=${key}=${value}`,
        ),
        image,
        ...command,
      ];
      let output = '';
      // In a process group of its own, so that a Ctrl-C of the terminal does not reach it first.
      const child = spawn('unshare', [...begin, ...args], { env, detached: true });
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (chunk: Buffer) => (output = (output + chunk.toString()).slice(-OUTPUT_BYTES)));
      const ended = once(child, 'close').then(([code]) => {
        running.delete(name);
        return Number(code ?? -1);
      });
      const container: Container = {
        name,
        output: () => output,
        ended,
        async exec(inside) {
          try {
            return { exitCode: 0, output: await call(['exec', ...user, name, ...inside]) };
          } catch (error) {
            assert(error instanceof Error);
            const { code, stdout, stderr } = failure.parse(error);
            return { exitCode: code, output: stdout + stderr };
          }
        },
        async signal(which) {
          // It may have ended meanwhile.
          await call(['kill', `--signal=${which}`, name]).catch((error: unknown) => {
            if (running.has(name) && which === 'SIGTERM') throw error;
          });
        },
      };
      running.set(name, container);
      return container;
    },
  };
}

const failure = z.looseObject({ code: z.number(), stdout: z.string(), stderr: z.string() });

const storeOf = (pid: number): string => join(cacheDir(), `podman-${pid}`);
const groupOf = (pid: number): string => `holdfast-image-${pid}`;

async function removeStore(pid: number): Promise<void> {
  rmSync(storeOf(pid), { recursive: true, force: true });
  // The kernel keeps an empty group of processes until somebody removes it.
  const groups = ['/sys/fs/cgroup', '-depth', '-type', 'd', '-path', `*/${groupOf(pid)}*`, '-delete'];
  await promisify(execFile)('find', groups, { timeout: CALL_TIMEOUT_MS });
}

/** Of test runs that were killed. Their containers have ended with them. */
async function removeLeftStores(): Promise<void> {
  const pids = readdirSync(cacheDir()).flatMap((name) => STORE.exec(name)?.[1] ?? []);
  for (const pid of pids) if (!existsSync(`/proc/${pid}`)) await removeStore(Number(pid));
}
