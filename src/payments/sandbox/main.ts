/** The sandbox as a process. */

import { pino } from 'pino';
import { z } from 'zod';

import { createSandboxProvider, STOP_LIMIT_MS, type RunningSandbox } from './server.ts';

const environmentSchema = z.object({
  SANDBOX_HOST: z.string().min(1).default('127.0.0.1'),
  SANDBOX_PORT: z
    .string()
    .regex(/^\d{1,5}$/)
    .transform(Number)
    .pipe(z.int().max(65_535)),
  SANDBOX_PUBLIC_URL: z.url({ protocol: /^https?$/ }).optional(),
  SANDBOX_BOOK_FILE: z.string().min(1).optional(),
  SANDBOX_API_KEY: z.string().min(16),
  SANDBOX_WEBHOOK_URL: z.url({ protocol: /^https?$/ }),
  SANDBOX_WEBHOOK_SECRET: z.string().regex(/^whsec_[A-Za-z0-9+/]+={0,2}$/),
});

const logger = pino({ name: 'sandbox' });

await main();

async function main(): Promise<void> {
  const environment = readEnvironment();
  const provider = createSandboxProvider({
    host: environment.SANDBOX_HOST,
    publicUrl: environment.SANDBOX_PUBLIC_URL,
    bookFile: environment.SANDBOX_BOOK_FILE,
    apiKey: environment.SANDBOX_API_KEY,
    webhookUrl: environment.SANDBOX_WEBHOOK_URL,
    webhookSecret: environment.SANDBOX_WEBHOOK_SECRET,
    logger,
  });
  const sandbox = await provider.start(environment.SANDBOX_PORT);
  logger.info({ url: sandbox.url }, 'the sandbox provider takes payments');
  // Once each: a second signal finds no handler and ends the process at once.
  process.once('SIGINT', () => void shutDown(sandbox));
  process.once('SIGTERM', () => void shutDown(sandbox));
}

/** The only reader of the environment here; every fault is listed, no value is shown. */
function readEnvironment() {
  const parsed = environmentSchema.safeParse(process.env);
  if (parsed.success) return Object.freeze(parsed.data);
  throw new Error(`the sandbox cannot start with this environment:\n${z.prettifyError(parsed.error)}`);
}

async function shutDown(sandbox: RunningSandbox): Promise<void> {
  const deadline = setTimeout(() => {
    logger.error('the sandbox did not stop in time');
    process.exit(1);
  }, STOP_LIMIT_MS);
  try {
    await sandbox.stop();
    logger.info('the sandbox has stopped');
  } catch (error) {
    logger.error({ err: error }, 'the sandbox did not stop in order');
    process.exitCode = 1;
  } finally {
    clearTimeout(deadline);
  }
}
