/** `npm start -- --restore <file>`: loads a dump into the empty MySQL before anything else looks at it. */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { createMysqlPool, selectRows } from '../src/mysql/connection.ts';
import { findProgram } from './install/server-packages.ts';
import { runCommand } from './processes/command.ts';

/** A dump of a million orders takes minutes; this bounds a hang. */
const LOAD_TIMEOUT_MS = 60 * 60_000;

export async function restoreDump(options: {
  mysqlUrl: string;
  /** By the folder of the shell. */
  file: string;
  progress: (line: string) => void;
}): Promise<void> {
  const file = resolve(process.env['INIT_CWD'] ?? '.', options.file);
  if (!existsSync(file)) throw new Error(`there is no dump ${file}`);
  await assertEmpty(options.mysqlUrl);
  const client = findProgram(['mariadb', 'mysql']);
  if (client === undefined) throw new Error('a dump is loaded by `mariadb` or `mysql`, which is not on PATH');
  const { hostname, port, username, password, pathname } = new URL(options.mysqlUrl);
  const args = [`--host=${hostname}`, `--port=${port}`, `--user=${username}`, pathname.slice(1)];
  options.progress(`Restoring MySQL: ${client} ${args.join(' ')} < ${file}`);
  const loaded = await runCommand(client, [...args, `--execute=source ${file}`], {
    timeoutMs: LOAD_TIMEOUT_MS,
    env: { ...process.env, MYSQL_PWD: password },
  });
  if (!loaded.ok) throw new Error(`the dump was not loaded (${loaded.reason}):\n${loaded.output}`);
}

/** What is there is never written over. */
async function assertEmpty(mysqlUrl: string): Promise<void> {
  const pool = createMysqlPool(mysqlUrl);
  try {
    const [found] = await selectRows(
      pool,
      z.object({ tables: z.int() }),
      'SELECT COUNT(*) AS tables FROM information_schema.tables WHERE table_schema = DATABASE()',
    );
    if (found?.tables !== 0)
      throw new Error('MySQL is not empty: a dump is restored into an empty one alone');
  } finally {
    await pool.end();
  }
}
