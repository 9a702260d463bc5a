/** Turns by key, say by sale: a sale in a rush waits behind itself, and not in front of the others. */

/** Turns of one pass: each costs a statement or two. The others have their turn in the next passes. */
const TURNS_MAX = 50;

/**
 * The keys that have work in a table, each once, in the order of their turns.
 * @param findNext seeks the key after this one; after the last key, the first; undefined: none is left
 * @param after the key that had the last turn; empty: none
 */
export async function* takeTurns(
  findNext: (after: string) => Promise<string | undefined>,
  after: string,
): AsyncGenerator<string> {
  const had = new Set<string>();
  let key = await findNext(after);
  while (key !== undefined && !had.has(key)) {
    had.add(key);
    yield key;
    if (had.size === TURNS_MAX) return;
    key = await findNext(key);
  }
}

/** What waits. It is taken in turns by key; within a key, first come, first served. */
export function createTurns<T>() {
  /** In the order of their turns. No queue is empty. */
  const queues = new Map<string, T[]>();

  return {
    add(key: string, item: T): void {
      const queue = queues.get(key);
      if (queue) queue.push(item);
      else queues.set(key, [item]);
    },

    /** Undefined: nothing waits. */
    take(): T | undefined {
      const [next] = queues;
      if (!next) return undefined;
      const [key, queue] = next;
      const item = queue.shift();
      queues.delete(key);
      if (queue.length > 0) queues.set(key, queue);
      return item;
    },

    /** The first of each key. */
    firsts: (): T[] => [...queues.values()].flatMap((queue) => queue.slice(0, 1)),

    /** Takes the first of each key, as long as they are so. No key loses its turn. */
    takeWhile(isSo: (item: T) => boolean): T[] {
      const taken: T[] = [];
      for (const [key, queue] of queues) {
        const end = queue.findIndex((item) => !isSo(item));
        taken.push(...queue.splice(0, end === -1 ? queue.length : end));
        if (queue.length === 0) queues.delete(key);
      }
      return taken;
    },
  };
}

/** Bounds work that goes on at once. What is beyond the bound begins in turns by key. */
export function limitInTurns(atOnce: number) {
  let running = 0;
  const waiting = createTurns<() => void>();

  return async function run<T>(key: string, work: () => Promise<T>): Promise<T> {
    if (running < atOnce) running += 1;
    else await new Promise<void>((start) => waiting.add(key, start));
    try {
      return await work();
    } finally {
      const start = waiting.take();
      if (start) start();
      else running -= 1;
    }
  };
}
