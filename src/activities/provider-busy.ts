/** Has Temporal repeat a step when the provider may be called again, and not before. */

import { ApplicationFailure } from '@temporalio/activity';
import { ProviderBusyError } from '../payments/provider.ts';

/** @throws ApplicationFailure `ProviderBusy`, to be retried after the provider's pause */
export async function unlessBusy<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ProviderBusyError)) throw error;
    throw ApplicationFailure.create({
      message: error.message,
      type: 'ProviderBusy',
      nextRetryDelay: error.retryAfterMs,
      cause: error,
    });
  }
}
