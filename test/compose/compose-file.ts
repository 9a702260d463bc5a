/** The compose file as Compose itself would see it: parsed, anchors merged, variables put in. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Ajv, type ValidateFunction } from 'ajv';
import { parse } from 'yaml';
import { z } from 'zod';

export const COMPOSE_FILE = fileURLToPath(new URL('../../docker-compose.temporal.yml', import.meta.url));

/** The parts that the tests look at; the rest is the official schema's business. */
const composeSchema = z.object({
  services: z.record(
    z.string(),
    z.object({
      image: z.string(),
      build: z.object({ context: z.string(), target: z.string() }).optional(),
      command: z.array(z.string()).optional(),
      restart: z.string(),
      profiles: z.array(z.string()).default([]),
      stop_grace_period: z.string().optional(),
      read_only: z.boolean().default(false),
      depends_on: z.record(z.string(), z.object({ condition: z.string() })).default({}),
      healthcheck: z.object({ test: z.array(z.string()) }).optional(),
      /** Numbers are quoted: podman-compose 1.6 fails on any other. */
      environment: z.record(z.string(), z.string()).default({}),
      ports: z.array(z.string()).default([]),
      volumes: z.array(z.string()).default([]),
      configs: z.array(z.object({ source: z.string(), target: z.string() })).default([]),
    }),
  ),
  configs: z.record(z.string(), z.object({ content: z.string().optional(), file: z.string().optional() })),
  volumes: z.record(z.string(), z.null()),
});

export type ComposeFile = z.infer<typeof composeSchema>;

export function readComposeText(): string {
  return readFileSync(COMPOSE_FILE, 'utf8');
}

/** Anchors merged, variables still as written. */
export function parseCompose(text: string): unknown {
  return parse(text, { merge: true });
}

export function loadCompose(env: Record<string, string> = {}): ComposeFile {
  return parseComposeFile(interpolate(parseCompose(readComposeText()), env));
}

export const parseComposeFile = (read: unknown): ComposeFile => composeSchema.parse(read);

/**
 * `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}` and `$$`: what the file makes use of.
 */
function interpolate(node: unknown, env: Record<string, string>): unknown {
  if (typeof node === 'string') return interpolateText(node, env);
  if (Array.isArray(node)) return node.map((item: unknown) => interpolate(item, env));
  if (typeof node !== 'object' || node === null) return node;
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, interpolate(value, env)]));
}

function interpolateText(text: string, env: Record<string, string>): string {
  return text.replaceAll(
    /\$(?:(\$)|\{(\w+)(?:(:?[-?])([^}]*))?\})/g,
    (_match, dollar: string | undefined, name = '', operator = '', word = '') => {
      if (dollar !== undefined) return '$';
      const value = env[String(name)];
      const isGiven = String(operator).startsWith(':') ? Boolean(value) : value !== undefined;
      if (isGiven) return value ?? '';
      if (String(operator).endsWith('?')) throw new Error(`${String(name)}: ${String(word)}`);
      return String(word);
    },
  );
}

/** The Compose Specification's own schema, as the package `dclint` carries it unchanged. */
export function compileComposeSchema(): ValidateFunction {
  const home = dirname(createRequire(import.meta.url).resolve('dclint/package.json'));
  const schema = z
    .looseObject({ $id: z.literal('compose_spec.json'), $schema: z.string().includes('draft-07') })
    .parse(JSON.parse(readFileSync(join(home, 'schemas', 'compose.schema.json'), 'utf8')));
  // Ajv speaks draft-07 by default, and knows it under its older address with http alone.
  const { $schema: _, ...rest } = schema;
  return new Ajv({ strict: false, validateFormats: false, allErrors: true }).compile(rest);
}
