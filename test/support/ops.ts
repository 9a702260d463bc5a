/** Runs the operator's commands on the servers of a test, and keeps what they print. */

import { inject } from 'vitest';
import { signToken } from '../../src/api/http/auth.ts';
import { loadOpsAccess, loadOpsConfig } from '../../src/config.ts';
import { runOps } from '../../src/ops/program.ts';
import type { Screen } from '../../src/ops/terminal.ts';
import { asProduct } from '../../stack/servers/accounts.ts';
import { PROVIDER_API_KEY, WEBHOOK_SECRET } from './http-app.ts';
import { JWT_SECRET } from './shopper.ts';
import { ORDER_SIGNING_SECRET } from './signer.ts';
import type { TestStores } from './stores.ts';

/** The operator ends it when it has been shown twice. */
function screenOf(show: (text: string) => void, onShown: () => void = () => {}): Screen {
  const stopping = new AbortController();
  let shown = 0;
  return {
    stopped: stopping.signal,
    show(text) {
      show(text);
      shown += 1;
      onShown();
      if (shown === 2) stopping.abort();
    },
    close() {},
  };
}

interface Printed {
  exitCode: number;
  out: string;
  err: string;
}

export type Ops = (...args: string[]) => Promise<Printed>;

/** The environment of the operator's commands. @param overrides say an address where nothing listens */
export function opsEnv(
  stores: { config: Pick<TestStores['config'], 'REDIS_URL' | 'MYSQL_URL'> },
  overrides: Record<string, string> = {},
): Record<string, string> {
  return {
    REDIS_URL: asProduct(stores.config.REDIS_URL.join(',')),
    MYSQL_URL: asProduct(stores.config.MYSQL_URL),
    TEMPORAL_ADDRESS: inject('temporalAddress'),
    PAYMENT_PROVIDER: 'sandbox',
    PAYMENT_PROVIDER_URL: 'http://127.0.0.1:1',
    PAYMENT_PROVIDER_API_KEY: PROVIDER_API_KEY,
    WEBHOOK_SECRETS: WEBHOOK_SECRET,
    ORDER_SIGNING_SECRETS: ORDER_SIGNING_SECRET,
    ...overrides,
  };
}

/**
 * @param overrides of the environment; commands that call the API need its HOLDFAST_URL, and call it as olga
 * @param onShown is called each time that a screen was shown
 */
export function openOps(
  stores: { config: Pick<TestStores['config'], 'REDIS_URL' | 'MYSQL_URL'> },
  overrides: Record<string, string> = {},
  columns = 80,
  onShown: () => void = () => {},
): Ops {
  const env = opsEnv(stores, overrides);
  return async (...args) => {
    const printed = { out: '', err: '' };
    const exitCode = await runOps(args, {
      terminal: {
        out: (text) => void (printed.out += `${text}\n`),
        write: async (text) => void (printed.out += text),
        err: (text) => void (printed.err += `${text}\n`),
        progress: () => {},
        openScreen: () => screenOf((text) => void (printed.out += `${text}\n`), onShown),
        columns,
      },
      user: 'olga',
      loadConfig: () => loadOpsConfig(env),
      loadAccess: async () =>
        loadOpsAccess({
          HOLDFAST_TOKEN: await signToken(JWT_SECRET, 'olga', '1h', { roles: ['admin'] }),
          ...env,
        }),
    });
    return { exitCode, ...printed };
  };
}
