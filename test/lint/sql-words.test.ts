/** No name in our SQL is a word that MySQL or MariaDB reserves: that server alone refuses the statement. */

import { parseSync, Visitor } from 'oxc-parser';
import { expect, test } from 'vitest';
import { readSources, readText } from '../house/sources.ts';
import { RESERVED_WORDS } from './reserved-words.ts';

const QUOTED = /'[^']*'|`[^`]*`|"[^"]*"/g;
const COMMENT = /--.*$/gm;
/** Keywords are in capitals. A word after a dot may be a reserved one. */
const NAME = /(?<![.@\w])\w*[a-z]\w*/g;
/** Prose has no keywords in capitals. */
const SQL = /\b(CREATE|SELECT|FROM|WHERE|AND|OR|AS|SET|IN|IS|JOIN|VALUES|ORDER BY)\b/;

function reservedNamesIn(text: string): string[] {
  const sql = text.replaceAll(COMMENT, '').replaceAll(QUOTED, '?');
  const names = SQL.test(sql) ? (sql.match(NAME) ?? []) : [];
  return names.filter((name) => RESERVED_WORDS.has(name.toUpperCase()));
}

function textsOf(file: string): string[] {
  const found: string[] = [];
  new Visitor({
    Literal({ value }) {
      if (typeof value === 'string') found.push(value);
    },
    TemplateLiteral({ quasis }) {
      found.push(quasis.map(({ value }) => value.cooked).join('?'));
    },
  }).visit(parseSync(file, readText(file)).program);
  return found;
}

const sources = [...readSources().values()].filter(({ file }) => /\.sql\.ts$|^src\/mysql\//.test(file));

test.each(sources)('no name in the SQL of $file is a reserved word', ({ file }) => {
  expect(textsOf(file).flatMap(reservedNamesIn)).toEqual([]);
});

test('no table or column is a reserved word', () => {
  expect(reservedNamesIn(readText('src/mysql/schema.sql'))).toEqual([]);
});

test.each([
  ['an alias', "SELECT f.status = 'failed' AS stored FROM order_events f", ['stored']],
  ['a column', 'UPDATE orders SET rank = ? WHERE order_no IN (?)', ['rank']],
  ['a table', 'SELECT 1 FROM window', ['window']],
  ['none', "SELECT o.key AS `order` FROM orders o WHERE kind = 'order'", []],
])('a reserved word is found as a name: %s', (_, sql, found) => {
  expect(reservedNamesIn(sql)).toEqual(found);
});
