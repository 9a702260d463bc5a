/**
 * The accounts of the product's processes, with no more rights than they need. The tools of a stack, such as
 * what makes the schema or empties a store, have the servers' own.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repoDir } from '../install/repo-dir.ts';

const USER = 'holdfast_app';
const PASSWORD = 'holdfast_app';

/** The rights of docker-compose.temporal.yml; the schema is the account's that `prepare` has. */
export const MYSQL_RIGHTS = 'SELECT, INSERT, UPDATE, DELETE';

export const MYSQL_ACCOUNT = `CREATE USER IF NOT EXISTS '${USER}'@'%' IDENTIFIED BY '${PASSWORD}';
GRANT ${MYSQL_RIGHTS} ON \`holdfast%\`.* TO '${USER}'@'%';
`;

/**
 * Arguments of redis-server. A second deployment of a stack has a prefix before its keys. Redis tries the
 * patterns in turn for each key, so the one for a prefix, which looks at every letter, comes last.
 */
export function redisAccount(): string[] {
  const rights = readFileSync(join(repoDir, 'deploy', 'redis-rights.txt'), 'utf8')
    .trim()
    .split(/\s+/);
  const keys = ['~holdfast:*', ...rights, '~*:holdfast:*'];
  return ['--user', USER, 'on', `>${PASSWORD}`, ...keys, '&holdfast:*', '&*:holdfast:*'];
}

/**
 * A URL of a stack's Redis, maybe of several, or MySQL, as the product's processes get it; one that the
 * environment names, as it is.
 */
export function asProduct(url: string): string {
  const given = [process.env['REDIS_URL'], process.env['MYSQL_URL']];
  return given.includes(url) ? url : url.split(',').map(withAccount).join(',');
}

function withAccount(url: string): string {
  const parsed = new URL(url);
  parsed.username = USER;
  parsed.password = PASSWORD;
  return parsed.href;
}
