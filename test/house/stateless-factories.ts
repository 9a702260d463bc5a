/**
 * Finds the factories that only bind their arguments. Such a factory is an exported function `create…` that
 * makes functions and holds no state: what it runs when it is called has no `let`, no `new`, no empty list,
 * no timer, and calls nothing that holds state itself. A function of a package counts as one that does; a
 * method of an argument does not.
 */

import assert from 'node:assert/strict';
import { Visitor, type Function as FunctionNode, type ArrowFunctionExpression } from 'oxc-parser';
import type { Source, Sources } from './sources.ts';

type AnyFunction = FunctionNode | ArrowFunctionExpression;

/** What a function does itself, without the functions that are made in it. */
interface Scope {
  name: string | undefined;
  outer: Scope | undefined;
  isExported: boolean;
  holdsState: boolean;
  /** The functions that it calls by their names. */
  calls: string[];
  made: Scope[];
}

/** Of these packages' functions none holds state. */
const STATELESS_PACKAGES = ['node:assert/strict'];
const TIMERS = ['setTimeout', 'setInterval', 'setImmediate'];

/** `name (file)` of each. */
export function findStatelessFactories(sources: Sources): string[] {
  const modules = new Map([...sources].map(([file, source]) => [file, readScopes(source)]));
  const judged = new Map<Scope, boolean>();

  function holdsState(file: string, scope: Scope): boolean {
    const known = judged.get(scope);
    if (known !== undefined) return known;
    // A function that calls itself holds no state by that.
    judged.set(scope, false);
    const verdict = scope.holdsState || scope.calls.some((name) => callHoldsState(file, scope, name));
    judged.set(scope, verdict);
    return verdict;
  }

  function callHoldsState(file: string, caller: Scope, name: string): boolean {
    const own = findVisible(caller, name);
    if (own) return holdsState(file, own);
    for (const { to, isFile, bindings } of sources.get(file)?.imports ?? []) {
      const binding = bindings.find(({ local }) => local === name);
      if (!binding) continue;
      if (!isFile) return !STATELESS_PACKAGES.includes(to);
      const imported = modules.get(to)?.made.find((scope) => scope.name === binding.name);
      return imported !== undefined && holdsState(to, imported);
    }
    return TIMERS.includes(name);
  }

  return [...modules].flatMap(([file, { made }]) =>
    made
      .filter(({ name, isExported }) => isExported && name !== undefined && /^create[A-Z]/.test(name))
      .filter((scope) => scope.made.length > 0 && !holdsState(file, scope))
      .map(({ name }) => `${name} (${file})`),
  );
}

/** The function of this name that code in the scope sees, innermost first. */
function findVisible(scope: Scope, name: string): Scope | undefined {
  for (let at: Scope | undefined = scope; at; at = at.outer) {
    const found = at.made.find((made) => made.name === name);
    if (found) return found;
  }
  return undefined;
}

/** The module as a scope; `made` are its functions, each with those that are made in it. */
function readScopes({ program }: Source): Scope {
  const module = openScope(undefined, undefined);
  let current = module;
  /** By the place of the function: names that its declaration or variable gives it. */
  const names = new Map<number, string>();
  const exported = new Set<number>();
  /** Places of errors, which are thrown and not kept. */
  const thrown = new Set<number>();

  const enter = (node: AnyFunction): void => {
    const scope = openScope(node.id?.name ?? names.get(node.start), current);
    scope.isExported = exported.has(node.start);
    current.made.push(scope);
    current = scope;
  };
  const leave = (): void => {
    assert(current.outer, 'a function that is left was entered');
    current = current.outer;
  };

  new Visitor({
    ExportNamedDeclaration({ declaration }) {
      if (declaration?.type === 'FunctionDeclaration') exported.add(declaration.start);
      if (declaration?.type !== 'VariableDeclaration') return;
      for (const { init } of declaration.declarations) if (init) exported.add(init.start);
    },
    VariableDeclaration({ kind }) {
      if (kind !== 'const') current.holdsState = true;
    },
    VariableDeclarator({ id, init }) {
      if (init && id.type === 'Identifier') names.set(init.start, id.name);
      if (init?.type === 'ArrayExpression' && init.elements.length === 0) current.holdsState = true;
    },
    ThrowStatement({ argument }) {
      thrown.add(argument.start);
    },
    NewExpression({ start }) {
      if (!thrown.has(start)) current.holdsState = true;
    },
    CallExpression({ callee }) {
      if (callee.type === 'Identifier') current.calls.push(callee.name);
    },
    FunctionDeclaration: enter,
    'FunctionDeclaration:exit': leave,
    FunctionExpression: enter,
    'FunctionExpression:exit': leave,
    ArrowFunctionExpression: enter,
    'ArrowFunctionExpression:exit': leave,
  }).visit(program);
  return module;
}

function openScope(name: string | undefined, outer: Scope | undefined): Scope {
  return { name, outer, isExported: false, holdsState: false, calls: [], made: [] };
}
