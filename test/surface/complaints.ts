/** Listens to what zod complains of, so that a route tells by which schemas it reads a request. */

import { z } from 'zod';

interface Complaint {
  /** What complained, of this input. */
  schema: z.core.$ZodType;
  input: unknown;
  /** Where the input is in all that was parsed. */
  path: string;
}

/** @returns all complaints, those of a whole after those of its parts */
export async function listen(work: () => Promise<unknown>): Promise<Complaint[]> {
  const complaints: Complaint[] = [];
  z.config({
    customError({ inst, input, path = [] }) {
      // A check, such as `refine`, is no schema.
      if (inst instanceof z.core.$ZodType) complaints.push({ schema: inst, input, path: path.join('.') });
      return undefined;
    },
  });
  try {
    await work();
  } finally {
    z.config({ customError: undefined });
  }
  return complaints;
}
