/** The database that MYSQL_URL names: it is made where it is missing, or an error says what to do. */

import { ulid } from 'ulidx';
import { expect, inject, onTestFinished, test } from 'vitest';
import { createMysqlPool } from '../../src/mysql/connection.ts';
import { createGivenDatabase } from '../../stack/servers/mysql.ts';

function urlOf(change: (url: URL) => void): string {
  const url = new URL(inject('mysqlUrl'));
  change(url);
  return url.href;
}

test('a database that is missing is made, and one that is there is left alone', async () => {
  const name = `holdfast_${ulid().toLowerCase()}`;
  const url = urlOf((each) => (each.pathname = `/${name}`));
  await createGivenDatabase(url);
  const pool = createMysqlPool(url);
  onTestFinished(async () => {
    await pool.query(`DROP DATABASE ${name}`);
    await pool.end();
  });
  await pool.query('CREATE TABLE kept (id INT PRIMARY KEY)');
  await createGivenDatabase(url);
  await expect(pool.query('SELECT id FROM kept')).resolves.toBeDefined();
});

test('a database that the user may not make is named in the error', async () => {
  const url = urlOf((each) => (each.pathname = '/of_another'));
  await expect(createGivenDatabase(url)).rejects.toThrow(
    /MYSQL_URL names the database of_another.* grant it/,
  );
});

test('a wrong password is an error of MYSQL_URL', async () => {
  const url = urlOf((each) => (each.password = 'wrong'));
  await expect(createGivenDatabase(url)).rejects.toThrow(/^MYSQL_URL: Access denied/);
});
