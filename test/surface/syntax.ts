/** The sources as syntax, for what no running code shows: sentences. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseSync, visitorKeys, type Node, type Program } from 'oxc-parser';
import { repoDir } from '../../stack/install/repo-dir.ts';

export interface SourceFile {
  /** Absolute. */
  path: string;
  program: Program;
}

/** They are read once, as several parts of the surface ask for them. */
const read = new Map<string, SourceFile[]>();

/** @param folder in the repository, such as `src` */
export function readSources(folder: string): SourceFile[] {
  const sources = read.get(folder) ?? readFolder(folder);
  read.set(folder, sources);
  return sources;
}

function readFolder(folder: string): SourceFile[] {
  return readdirSync(join(repoDir, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .toSorted()
    .map((path) => readSource(join(repoDir, folder, path)));
}

function readSource(path: string): SourceFile {
  const { program, errors } = parseSync(path, readFileSync(path, 'utf8'));
  if (errors.length > 0) throw new Error(`${path}: ${errors[0]?.message}`);
  return { path, program };
}

/** @param see gets each node with those around it, the nearest first */
export function walk(
  node: Node,
  see: (node: Node, around: readonly Node[]) => void,
  around: readonly Node[] = [],
): void {
  see(node, around);
  for (const key of visitorKeys[node.type] ?? []) {
    const children: unknown = Reflect.get(node, key);
    for (const child of Array.isArray(children) ? children : [children]) {
      if (isNode(child)) walk(child, see, [node, ...around]);
    }
  }
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value;
}

/** The text of a literal, with `{}` for each part that varies; undefined: it is none. */
export function textOf(node: Node): string | undefined {
  if (node.type === 'Literal') return typeof node.value === 'string' ? node.value : undefined;
  if (node.type === 'TemplateLiteral') return node.quasis.map(({ value }) => value.cooked).join('{}');
  return undefined;
}

/** `call` of `call(…)`, `part.call(…)` and `new call(…)`. */
export function calleeOf({ callee }: { callee: Node }): string {
  if (callee.type === 'Identifier') return callee.name;
  if (callee.type === 'MemberExpression' && callee.property.type === 'Identifier')
    return callee.property.name;
  return '';
}

/** What a `const` of this name is made of, in the nearest block that has one. */
export function findConst(name: string, around: readonly Node[]): Node | undefined {
  for (const block of around) {
    if (block.type !== 'BlockStatement' && block.type !== 'Program') continue;
    for (const statement of block.body) {
      const declared = statement.type === 'ExportNamedDeclaration' ? statement.declaration : statement;
      if (declared?.type !== 'VariableDeclaration') continue;
      const found = declared.declarations.find(({ id }) => id.type === 'Identifier' && id.name === name);
      if (found?.init) return found.init;
    }
  }
  return undefined;
}
