/**
 * What the product says to people, as its sources have it: whatever file or function says it, a sentence is
 * to stay.
 */

import type { Node } from 'oxc-parser';
import { PROBLEM_CODES } from '../support/api-contract.ts';
import { calleeOf, findConst, readSources, textOf, walk } from './syntax.ts';

const LOGGING = new Set(['trace', 'debug', 'info', 'warn', 'error', 'fatal']);
/** Two words at least: what has fewer is a name. */
const PROSE = /[A-Za-z]{2}.*\s.*[A-Za-z]{2}/s;
/** Statements of SQL and their parts: words in capitals, lists of columns, places for values. */
const SQL =
  /\b(?:SELECT|INSERT|UPDATE|DELETE|FROM|WHERE|LIMIT|SET|VALUES|TABLE|INDEX|NULL|LIKE|IN|AND|OR|DESC|INT|JOIN|LOCK|TRANSACTION|BY|WHEN)\b|\b[A-Z_]{2,}\(|[=<>+-] \?|^[\w.]+(?:, [\w.]+)+$/;
/** Routes and options of commands, which are in lists of their own. */
const NAMES = /^[A-Z]+ \/|^--/;

export interface Texts {
  /** By the code of the problem in whose call they stand. */
  details: Map<string, Set<string>>;
  /** For logs. */
  logs: Set<string>;
  /** All others, those of the problems too. */
  sentences: Set<string>;
}

export function readTexts(): Texts {
  const texts: Texts = { details: new Map(), logs: new Set(), sentences: new Set() };
  for (const { program } of readSources('src')) {
    walk(program, (node, around) => {
      addDetails(texts, node, around);
      const text = textOf(node)?.replaceAll(/\s+/g, ' ').trim();
      if (text === undefined || !PROSE.test(text) || SQL.test(text) || NAMES.test(text)) return;
      const role = roleOf(node, around);
      if (role === 'log') texts.logs.add(text);
      if (role === 'sentence') texts.sentences.add(text);
    });
  }
  return texts;
}

/** What says that the code itself is wrong is read by its authors alone. */
function roleOf(node: Node, around: readonly Node[]): 'log' | 'sentence' | 'internal' {
  const call = around.find(({ type }) => type === 'CallExpression' || type === 'NewExpression');
  if (around.some(({ type }) => type.startsWith('TS') && type.endsWith('Type'))) return 'internal';
  if (call?.type === 'NewExpression' && calleeOf(call) === 'Error') return 'internal';
  if (call?.type !== 'CallExpression') return 'sentence';
  if (isAssertion(call)) return 'internal';
  return LOGGING.has(calleeOf(call)) && call.arguments.some((argument) => argument === node)
    ? 'log'
    : 'sentence';
}

function isAssertion({ callee }: { callee: Node }): boolean {
  const of = callee.type === 'MemberExpression' ? callee.object : callee;
  return of.type === 'Identifier' && of.name === 'assert';
}

/** A problem is made by a call with its code, and after it what it says. */
function addDetails({ details }: Texts, node: Node, around: readonly Node[]): void {
  if (node.type !== 'CallExpression' && node.type !== 'NewExpression') return;
  const [first, second] = node.arguments;
  const code = first && textOf(first);
  if (code === undefined || !PROBLEM_CODES.some((known) => known === code) || !second) return;
  const found = details.get(code) ?? new Set();
  for (const text of textsOf(second, around)) found.add(text);
  details.set(code, found);
}

/** Of a literal, of a choice between two, and of a name for one. */
function textsOf(node: Node, around: readonly Node[]): string[] {
  const text = textOf(node);
  if (text !== undefined) return [text];
  if (node.type === 'ConditionalExpression')
    return [node.consequent, node.alternate].flatMap((each) => textsOf(each, around));
  const named = node.type === 'Identifier' ? findConst(node.name, around) : undefined;
  return named ? textsOf(named, around) : [];
}
