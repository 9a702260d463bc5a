/** Renders the tables of docs/configuration.md from the schemas that parse the environment. */

import { z } from 'zod';
import { sandboxSchema } from '../../sandbox/config.ts';
import { settings } from '../../src/config.ts';
import { tableOf } from './markdown.ts';

/** What the tables show of a setting's JSON Schema. `schemes` and `unset` are our own metadata. */
const shape = z.object({
  type: z.string().optional(),
  description: z.string().optional(),
  default: z.union([z.string(), z.number()]).optional(),
  unset: z.string().optional(),
  schemes: z.array(z.string()).optional(),
  enum: z.array(z.string()).optional(),
  const: z.string().optional(),
  pattern: z.string().optional(),
  minimum: z.number().optional(),
  maximum: z.number().optional(),
  minLength: z.number().optional(),
  maxItems: z.number().optional(),
});
const setting = shape.extend({ items: shape.optional() });
const fields = z.object({
  properties: z.record(z.string(), setting),
  required: z.array(z.string()).optional(),
});
/** Where settings depend on the provider, the schema is one variant for each. */
const processSettings = z.union([
  fields.transform((only) => [only]),
  z.object({ oneOf: z.array(fields) }).transform(({ oneOf }) => oneOf),
]);

type Fields = z.infer<typeof fields>;
type Setting = z.infer<typeof setting>;
type Row = { readBy: string[]; value: string; unset: string; description: string };

/** The settings of the product's processes, and those of the sandbox provider, as Markdown. */
export function renderSettings(): string {
  const product = new Map<string, Row>();
  for (const [name, schema] of Object.entries(settings)) addRows(product, name, schema);
  const sandbox = new Map<string, Row>();
  addRows(sandbox, 'sandbox', sandboxSchema);
  return [
    '### The product',
    tableOf(
      ['setting', 'read by', 'value', 'unless set', 'what for'],
      [...product].map(([name, row]) => [
        code(name),
        row.readBy.length === Object.keys(settings).length ? 'all' : row.readBy.join(', '),
        row.value,
        row.unset,
        row.description,
      ]),
    ),
    '### The sandbox provider',
    tableOf(
      ['setting', 'value', 'unless set', 'what for'],
      [...sandbox].map(([name, row]) => [code(name), row.value, row.unset, row.description]),
    ),
  ].join('\n\n');
}

function addRows(rows: Map<string, Row>, processName: string, schema: z.ZodType): void {
  const variants = variantsOf(schema);
  for (const name of namesIn(variants)) addRow(rows, processName, name, variants);
}

/** The names of all settings that a process reads, with whichever provider. */
export const settingNames = (schema: z.ZodType): string[] => namesIn(variantsOf(schema));

const variantsOf = (schema: z.ZodType): Fields[] => processSettings.parse(z.toJSONSchema(schema));

const namesIn = (variants: readonly Fields[]): string[] => [
  ...new Set(variants.flatMap(({ properties }) => Object.keys(properties))),
];

/** A setting that several processes read is one row; a description of its own in one of them is added. */
function addRow(rows: Map<string, Row>, processName: string, name: string, variants: Fields[]): void {
  const found = variants.flatMap((variant) => variant.properties[name] ?? []);
  const description = found.find((each) => each.description !== undefined)?.description;
  if (description === undefined) throw new Error(`${name} has no description in its schema`);
  const row = rows.get(name);
  if (row === undefined) {
    const value = [...new Set(found.map(describeValue))].join(' or ');
    rows.set(name, {
      readBy: [processName],
      value,
      unset: describeUnset(name, variants),
      description,
    });
    return;
  }
  row.readBy.push(processName);
  if (!row.description.includes(description)) row.description += ` In ${processName}: ${description}`;
}

function describeValue(from: Setting): string {
  if (from.items !== undefined) {
    const most = from.maxItems === undefined ? 'one or more' : `1 to ${from.maxItems}`;
    return `${most}, separated by commas; each ${describeValue(from.items)}`;
  }
  if (from.const !== undefined) return code(from.const);
  if (from.enum !== undefined) return from.enum.map(code).join(', ');
  if (from.type === 'number') return `number, ${from.minimum} to ${from.maximum}`;
  if (from.type === 'integer') return `whole number, ${from.minimum} to ${from.maximum}`;
  if (from.schemes !== undefined)
    return `URL: ${from.schemes.map((scheme) => code(`${scheme}://`)).join(', ')}`;
  const prefix = /^\^(\w+)\.\*$/.exec(from.pattern ?? '')?.[1];
  if (prefix !== undefined) return `text that begins with ${code(prefix)}`;
  if (from.pattern !== undefined) return code(from.pattern);
  return (from.minLength ?? 1) > 1 ? `text, at least ${from.minLength} characters` : 'text';
}

function describeUnset(name: string, variants: Fields[]): string {
  const found = variants.flatMap((variant) => variant.properties[name] ?? []);
  const unset = found.find((each) => each.unset !== undefined)?.unset;
  if (unset !== undefined) return unset;
  const standard = found.find((each) => each.default !== undefined)?.default;
  if (standard !== undefined) return code(String(standard));
  const demanding = variants.filter((variant) => variant.required?.includes(name));
  if (demanding.length === variants.length) return '**required**';
  if (demanding.length === 0) return '';
  const providers = demanding.map((variant) => code(variant.properties['PAYMENT_PROVIDER']?.const ?? ''));
  return `required with ${providers.join(', ')}`;
}

const code = (text: string): string => `\`${text}\``;
