/** The sandbox payment provider as a process of its own. */

import type { Logger } from 'pino';
import { runProcess } from '../src/process.ts';
import { loadSandboxConfig, type SandboxConfig } from './config.ts';
import { createSandboxProvider } from './server.ts';

await runProcess('sandbox', loadSandboxConfig, startSandbox);

async function startSandbox(config: SandboxConfig, logger: Logger) {
  const provider = createSandboxProvider({
    host: config.SANDBOX_HOST,
    publicUrl: config.SANDBOX_PUBLIC_URL,
    returnUrl: config.SANDBOX_RETURN_URL,
    bookFile: config.SANDBOX_BOOK_FILE,
    fees: { paidBasisPoints: config.SANDBOX_FEE_BASIS_POINTS, disputed: config.SANDBOX_DISPUTE_FEE },
    apiKey: config.SANDBOX_API_KEY,
    webhookUrl: config.SANDBOX_WEBHOOK_URL,
    webhookSecret: config.SANDBOX_WEBHOOK_SECRET,
    logger,
  });
  const sandbox = await provider.start(config.SANDBOX_PORT);
  logger.info({ url: sandbox.url }, 'the sandbox provider takes payments');
  return {
    // It ends only by a signal.
    ended: new Promise<never>(() => {}),
    stop: () => sandbox.stop(),
  };
}
