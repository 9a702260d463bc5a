/** The sandbox provider's environment. Every fault is listed at once. */

import { z } from 'zod';
import { parseEnv, httpUrl, port, wholeNumber, logLevel } from '../src/config.ts';

export const sandboxSchema = z.object({
  LOG_LEVEL: logLevel,
  SANDBOX_HOST: z
    .string()
    .min(1)
    .default('127.0.0.1')
    .describe('The address to listen on; `0.0.0.0` opens it to other machines.'),
  SANDBOX_PORT: port.describe('The port to listen on; 0 takes any that is free.'),
  SANDBOX_PUBLIC_URL: httpUrl
    .optional()
    .describe("Where shoppers' browsers find its pages, where that is not the address it listens on."),
  SANDBOX_RETURN_URL: httpUrl
    .optional()
    .describe(
      "The shop's page to which the payment page links back, with the order and the outcome; by the host that shoppers open, for the page knows its orders by it. Without it no link.",
    ),
  SANDBOX_BOOK_FILE: z
    .string()
    .optional()
    .describe('The file that keeps its book over a restart; without it the book is in memory alone.'),
  SANDBOX_FEE_BASIS_POINTS: wholeNumber(0, 10_000)
    .default(0)
    .describe('What it charges for each payment, in hundredths of a percent: 150 is 1.5 %.'),
  SANDBOX_DISPUTE_FEE: wholeNumber(0, 1_000_000)
    .default(0)
    .describe('What it charges for each dispute, in minor units.'),
  SANDBOX_API_KEY: z.string().min(16).describe('The key that callers of its API must send.'),
  SANDBOX_WEBHOOK_URL: httpUrl.describe(
    "Where it sends payment notices: the API's address with the path `/v1/webhooks/payments`.",
  ),
  SANDBOX_WEBHOOK_SECRET: z
    .string()
    .startsWith('whsec_')
    .describe("Signs payment notices: one of the API's `WEBHOOK_SECRETS`."),
});

export type SandboxConfig = Readonly<z.infer<typeof sandboxSchema>>;

/** @throws ConfigError naming every fault */
export function loadSandboxConfig(env: NodeJS.ProcessEnv = process.env): SandboxConfig {
  return parseEnv(sandboxSchema, env);
}
