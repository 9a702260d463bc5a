/** Pools that a test looks into, or whose transactions stop where something is to happen in between. */

import type { Pool } from '../../src/mysql/connection.ts';

/** `pause` runs once, before the first statement that matches. */
export function pausingPool(pool: Pool, before: RegExp, pause: () => Promise<unknown>): Pool {
  let isDone = false;
  async function query(real: (...args: unknown[]) => unknown, args: unknown[]) {
    if (!isDone && before.test(String(args[0]))) {
      isDone = true;
      await pause();
    }
    return real(...args);
  }
  return replaceMethod(pool, 'getConnection', async () =>
    replaceMethod(await pool.getConnection(), 'query', (_, real, args) => query(real, args)),
  );
}

/** `seen` gets the text of each statement of a transaction, before it runs. */
export function watchedPool(pool: Pool, seen: (sql: string) => void): Pool {
  return replaceMethod(pool, 'getConnection', async () =>
    replaceMethod(await pool.getConnection(), 'query', (_, real, args) => {
      seen(String(args[0]));
      return real(...args);
    }),
  );
}

/** The target with another method of this name, which is given the real one. */
export function replaceMethod<T extends object>(
  target: T,
  method: string,
  call: (target: T, real: (...args: unknown[]) => unknown, args: unknown[]) => unknown,
): T {
  return new Proxy(target, {
    get(_, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      const real = (...args: unknown[]): unknown => Reflect.apply(value, target, args);
      return name === method ? (...args: unknown[]) => call(target, real, args) : real;
    },
  });
}
