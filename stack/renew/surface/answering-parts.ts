/** Stands for parts of the product, such as all stores: every function of theirs answers in one way. */

import { z } from 'zod';

/**
 * @param answer what any function gives, also one of what is read of the parts
 * @param own members that the caller has itself
 */
export function buildParts<T extends object>(answer: () => unknown, own: Partial<T> = {}): T {
  const parts = new Proxy(answer, {
    get(_, name) {
      if (Object.hasOwn(own, name)) return Reflect.get(own, name);
      // What is awaited is asked for its `then`; a part is no promise.
      return name === 'then' ? undefined : buildParts(answer);
    },
    apply: () => answer(),
  });
  return z.custom<T>().parse(parts);
}
