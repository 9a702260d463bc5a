/** An API and a worker that run on a checkout stack, with shoppers who call the API. */

import { startApi, startWorker } from '../../stack/app.ts';
import { openCheckoutStack, type CheckoutStack } from '../compare/parts/payable/checkout-stack.ts';
import { createShoppers } from '../shoppers.ts';

export type Shoppers = Awaited<ReturnType<typeof createShoppers>>;

interface Running {
  stack: CheckoutStack;
  shoppers: Shoppers;
  close(): Promise<void>;
}

/** @param crowd users, and their connections */
export async function openRunning(
  progress: (line: string) => void,
  crowd: { users: number; connections: number },
): Promise<Running> {
  const stack = await openCheckoutStack(progress);
  const shoppers = await createShoppers(stack.apiUrl, crowd.users, crowd.connections);
  const close = async (): Promise<void> => {
    shoppers.close();
    await stack.close();
  };
  try {
    await startApi(stack.processes, { name: 'api', env: stack.env });
    await startWorker(stack.processes, { name: 'worker', env: stack.env });
  } catch (error) {
    await close();
    throw error;
  }
  return { stack, shoppers, close };
}
