/** The sandbox provider's environment. Every fault is listed at once. */

import { z } from 'zod';
import { httpUrl, logLevel, parseEnv, port } from '../src/config.ts';

const sandboxSchema = z.object({
  LOG_LEVEL: logLevel,
  SANDBOX_HOST: z.string().min(1).default('127.0.0.1'),
  SANDBOX_PORT: port,
  /** Where shoppers' browsers find it; by default where it listens. */
  SANDBOX_PUBLIC_URL: httpUrl.optional(),
  /** Without it the book is kept in memory. */
  SANDBOX_BOOK_FILE: z.string().optional(),
  SANDBOX_API_KEY: z.string().min(16),
  SANDBOX_WEBHOOK_URL: httpUrl,
  SANDBOX_WEBHOOK_SECRET: z.string().startsWith('whsec_'),
});

export type SandboxConfig = Readonly<z.infer<typeof sandboxSchema>>;

/** @throws ConfigError naming every fault */
export function loadSandboxConfig(env: NodeJS.ProcessEnv = process.env): SandboxConfig {
  return parseEnv(sandboxSchema, env);
}
