/** The functions of a module that take a connection first, each bound to one: what a process opens. */

type Takes<C> = (connection: C, ...others: never[]) => unknown;

/** Those of a module that take this connection. One that takes another, say a transaction's, is left out. */
export type Bound<C, M> = {
  [K in keyof M as M[K] extends Takes<C> ? K : never]: M[K] extends (
    connection: C,
    ...others: infer Others
  ) => infer Result
    ? (...others: Others) => Result
    : never;
};

export function bind<C, M extends object>(connection: C, module: M): Bound<C, M>;
export function bind(connection: unknown, module: object): object {
  const functions = Object.entries(module).filter(([, member]) => typeof member === 'function');
  return Object.fromEntries(functions.map(([name, fn]) => [name, fn.bind(undefined, connection)]));
}
