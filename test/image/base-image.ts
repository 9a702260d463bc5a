/** What the Dockerfile builds on: Node's public image where it is reached, else one made of its parts. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { locateNodeRoot } from '../../stack/install/node-root.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import type { Call } from './podman.ts';

/** A registry that is reached answers at once; the image has 75 MB. */
const PULL_TIMEOUT_MS = 3 * 60_000;
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** @returns the name of an image in the store, as the Dockerfile takes it for NODE_IMAGE */
export async function baseImage(call: Call): Promise<string> {
  const dockerfile = readFileSync(join(repoDir, 'Dockerfile'), 'utf8');
  const [, image, node, debian] = /^ARG NODE_IMAGE=(node:([\d.]+)-(\w+)-slim)$/m.exec(dockerfile) ?? [];
  assert(image && node && debian, 'the Dockerfile names its base image');
  const [pulled, made] = [`docker.io/library/${image}`, `localhost/${image}`];
  try {
    await call(['pull', pulled], PULL_TIMEOUT_MS);
    return pulled;
  } catch (error) {
    const reason = String(error).trimEnd().split('\n').at(-1);
    console.log(`· ${pulled} is not reached, so the base is made of Debian and of npm: ${reason}`);
  }
  const root = await locateNodeRoot({ node, debian }, (line) => console.log(`· ${line}`));
  await call(['import', `--change=ENV PATH=${PATH}`, '--change=CMD ["node"]', root, made], PULL_TIMEOUT_MS);
  return made;
}

/** So that npm in a build has the registry that it has here, and trusts whom it trusts here. */
export async function npmVolumes(dir: string): Promise<string[]> {
  const [given, ca] = await Promise.all([npmConfig('userconfig'), npmConfig('cafile')]);
  const lines = existsSync(given) ? readFileSync(given, 'utf8').split('\n') : [];
  const inside = '/run/npm-ca.crt';
  const file = join(dir, 'npmrc');
  const own = existsSync(ca) ? [`cafile=${inside}`] : [];
  writeFileSync(file, [...lines.filter((line) => !line.startsWith('cafile')), ...own, ''].join('\n'));
  return [`${file}:/root/.npmrc`, ...(existsSync(ca) ? [`${ca}:${inside}`] : [])];
}

async function npmConfig(key: string): Promise<string> {
  return (await promisify(execFile)('npm', ['config', 'get', key])).stdout.trim();
}
