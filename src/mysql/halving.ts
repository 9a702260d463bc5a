/** Pages that one row may spoil. */

import { isUnavailable } from './connection.ts';

/**
 * Works on a page. After a failure it works on the first half of the page, until the row that fails is alone,
 * so that the others go on.
 * @param alone what becomes of that row
 * @throws when the server fails, and not a row: to be repeated later, in a page of any size
 */
export async function withSmallerPages<T>(
  limit: number,
  work: (limit: number) => Promise<T>,
  alone: (error: unknown) => Promise<T>,
): Promise<T> {
  try {
    return await work(limit);
  } catch (error) {
    if (isUnavailable(error)) throw error;
    return limit > 1 ? withSmallerPages(Math.ceil(limit / 2), work, alone) : alone(error);
  }
}
