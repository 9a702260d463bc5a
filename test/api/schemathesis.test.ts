/**
 * `npm run test:openapi`: schemathesis, which knows nothing of the code, calls each operation of the OpenAPI
 * document with what it makes up, well and ill formed, and holds the answers to the document. OPENAPI_CASES
 * is how many for each operation, OPENAPI_SEED what they are made of.
 */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { signToken, type Rights } from '../../src/api/http/auth.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { buildSale } from '../support/factories.ts';
import { JWT_SECRET } from '../support/shopper.ts';
import { openApi } from './open-api.ts';

const VERSION = '4.32.5';
const CASES = process.env['OPENAPI_CASES'] ?? '500';
const SEED = process.env['OPENAPI_SEED'] ?? '12';

const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_schema_conformance',
  'response_headers_conformance',
];

/** The one status from 500 on that may come; each such answer says when to come back. */
const CONFIG = '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", "503"]\n';

/** Beside what npm keeps, so that it is installed once a checkout. */
function installSchemathesis(): string {
  const folder = join(repoDir, 'node_modules', '.cache', `schemathesis-${VERSION}`);
  const program = join(folder, 'bin', 'schemathesis');
  if (existsSync(program)) return program;
  execFileSync('python3', ['-m', 'venv', folder]);
  execFileSync(join(folder, 'bin', 'pip'), ['install', '--quiet', `schemathesis==${VERSION}`]);
  return program;
}

async function run(url: string, token: string, paths: readonly string[]): Promise<number | null> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-openapi-'));
  try {
    writeFileSync(join(folder, 'schemathesis.toml'), CONFIG);
    const options = ['--max-examples', CASES, '--seed', SEED, '--phases', 'examples,coverage,fuzzing'];
    // A name's pattern is matched by few texts.
    options.push('--suppress-health-check', 'filter_too_much,too_slow');
    const args = ['run', `${url}/openapi.json`, ...options, '--checks', CHECKS.join(','), ...paths];
    const child = spawn(installSchemathesis(), [...args, '--header', `Authorization: Bearer ${token}`], {
      cwd: folder,
      stdio: 'inherit',
    });
    const [code] = await once(child, 'close');
    return typeof code === 'number' ? code : null;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Answers of 500 and more, by call. */
async function countFailures(url: string): Promise<string[]> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return [...text.matchAll(/^holdfast_call_seconds_count\{call="([^"]+)",status="5xx"\} (\d+)/gm)].map(
    ([, call, count]) => `${call}: ${count}`,
  );
}

test.each<[string, string[], Rights]>([
  ['shoppers and the provider', ['--exclude-path-regex', '^/v1/admin/'], {}],
  ['the back office', ['--include-path-regex', '^/v1/admin/'], { roles: ['admin'] }],
])(
  'the answers to %s are those of the document',
  async (_, paths, rights) => {
    const api = await openApi();
    try {
      await api.stores.openSale(buildSale());
      const token = await signToken(JWT_SECRET, 'ada', '6h', rights);
      console.log(`· schemathesis ${VERSION}, seed ${SEED}, ${CASES} cases an operation`);
      const code = await run(api.url, token, paths);
      console.log('· answers of 5xx:', await countFailures(api.url));
      expect(code).toBe(0);
    } finally {
      await api.close();
    }
  },
  3 * 60 * 60_000,
);
