/** Schemas as JSON Schema, in which two builds can be compared. */

import { z } from 'zod';

/** What a caller may send: before defaults and transformations. */
export function showInput(schema: z.core.$ZodType): unknown {
  return show(schema, 'input');
}

/** What a caller gets. */
export function showReply(schema: z.core.$ZodType): unknown {
  return show(schema, 'output');
}

function show(schema: z.core.$ZodType, io: 'input' | 'output'): unknown {
  const { $schema: _, ...shown } = z.toJSONSchema(schema, { io, unrepresentable: 'any', reused: 'inline' });
  return shown;
}
