/**
 * The titles of all tests, as they are written. What a table adds to them is shown where it stands in the
 * sources: the first literal of each row.
 */

import { dirname, join } from 'node:path';
import type { Node } from 'oxc-parser';
import { calleeOf, findConst, readSource, readSources, textOf, walk, type SourceFile } from './syntax.ts';

const TITLED = new Set(['test', 'it', 'describe']);
/** `test.each(…)` and the like make a function that takes the title. */
const MAKERS = new Set(['each', 'for', 'skipIf', 'runIf']);

/** Enough to know a row by; some tests have rows of kilobytes. */
const LONGEST_ROW_CHARS = 80;

/** Where an expression stands. */
interface Place {
  file: SourceFile;
  /** The nearest first. */
  around: readonly Node[];
}

type Call = Extract<Node, { type: 'CallExpression' }>;

/**
 * `describe > test`, and after a bar the row; sorted, without the file, as files may be split and joined. One
 * that several tests have comes with their number.
 */
export function readTitles(): string[] {
  const titles = new Map<string, number>();
  const add = (title: string): void => void titles.set(title, (titles.get(title) ?? 0) + 1);
  for (const file of readSources('test')) {
    if (!file.path.endsWith('.test.ts')) continue;
    walk(file.program, (node, around) => {
      const own = titleOf(node);
      if (own === undefined || node.type !== 'CallExpression') return;
      const above = around.flatMap((each) => titleOf(each) ?? []).toReversed();
      const title = [...above, own].join(' > ');
      if (!isGroup(node)) add(title);
      for (const row of rowsOf(node, { file, around })) add(`${title} | ${row}`);
    });
  }
  return [...titles].map(([title, times]) => (times === 1 ? title : `${title} (${times} times)`)).toSorted();
}

/** Undefined of what is no test and no group of tests. */
function titleOf(node: Node): string | undefined {
  if (node.type !== 'CallExpression' || !TITLED.has(rootOf(node)) || MAKERS.has(calleeOf(node)))
    return undefined;
  const [title] = node.arguments;
  if (!title) return undefined;
  const text = textOf(title) ?? (title.type === 'Identifier' ? `{${title.name}}` : '{}');
  return text.replaceAll(/\s+/g, ' ');
}

function isGroup(call: Call): boolean {
  return rootOf(call) === 'describe';
}

/** `test` of `test(…)`, `test.concurrent(…)` and `test.each(…)(…)`. */
function rootOf(node: Node): string {
  if (node.type === 'Identifier') return node.name;
  if (node.type === 'CallExpression') return rootOf(node.callee);
  return node.type === 'MemberExpression' ? rootOf(node.object) : '';
}

/** Of the table that the title is made for, or of the loop around it. */
function rowsOf({ callee, arguments: [title] }: Call, place: Place): string[] {
  if (callee.type === 'CallExpression' && ['each', 'for'].includes(calleeOf(callee))) {
    const [table] = callee.arguments;
    return table ? rowsIn(table, place) : [];
  }
  const loop = place.around.find(({ type }) => type === 'ForOfStatement');
  return title?.type === 'Identifier' && loop?.type === 'ForOfStatement' ? rowsIn(loop.right, place) : [];
}

/** None of what the sources do not show. */
function rowsIn(node: Node, place: Place): string[] {
  if (node.type === 'TSAsExpression' || node.type === 'TSSatisfiesExpression')
    return rowsIn(node.expression, place);
  if (node.type === 'ArrayExpression')
    return node.elements.flatMap((element) => {
      if (!element) return [];
      return element.type === 'SpreadElement' ? rowsIn(element.argument, place) : showRow(element);
    });
  if (node.type === 'ObjectExpression')
    return node.properties.flatMap((property) => {
      if (property.type === 'SpreadElement') return rowsIn(property.argument, place);
      return property.key.type === 'Identifier' ? property.key.name : (textOf(property.key) ?? []);
    });
  if (node.type === 'CallExpression' && ['keys', 'entries'].includes(calleeOf(node))) {
    // `Object.keys` and `Object.entries`.
    const [object] = node.arguments;
    return object ? rowsIn(object, place) : [];
  }
  // Rows that are told otherwise stay as many.
  if (node.type === 'CallExpression' && calleeOf(node) === 'map' && node.callee.type === 'MemberExpression')
    return rowsIn(node.callee.object, place);
  const found = node.type === 'Identifier' ? find(node.name, place) : undefined;
  return found ? rowsIn(found.node, found.place) : [];
}

/** The first literal in it. */
function showRow(node: Node): string {
  let row: string | undefined;
  walk(node, (each) => {
    row ??= textOf(each) ?? (each.type === 'Literal' ? String(each.value) : undefined);
  });
  // Some rows have control characters.
  return row === undefined ? '{}' : JSON.stringify(row.slice(0, LONGEST_ROW_CHARS));
}

/** What a name stands for, here or in the file that it comes from. */
function find(name: string, { file, around }: Place): { node: Node; place: Place } | undefined {
  const own = findConst(name, around);
  if (own) return { node: own, place: { file, around } };
  for (const statement of file.program.body) {
    if (statement.type !== 'ImportDeclaration' || !statement.source.value.startsWith('.')) continue;
    if (!statement.specifiers.some(({ local }) => local.name === name)) continue;
    const from = readSource(join(dirname(file.path), statement.source.value));
    const node = findConst(name, [from.program]);
    return node && { node, place: { file: from, around: [from.program] } };
  }
  return undefined;
}
