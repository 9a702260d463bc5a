/** What calls that list share of their queries. */

import { z } from 'zod';

/** A place in a list, or a number of its entries: not negative, and within exact integers. */
export const wholeNumber = z
  .string()
  .regex(/^\d{1,15}$/)
  .transform(Number);

/** Entries of a page: as many as there may be, unless the caller wants fewer. */
export function pageLimit(max: number) {
  return z
    .string()
    .regex(/^\d{1,3}$/)
    .transform(Number)
    .pipe(z.int().min(1).max(max))
    .default(max);
}
