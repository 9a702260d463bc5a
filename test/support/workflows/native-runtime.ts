/** Makes the SDK's native part log errors alone, because tests cut its wires on purpose. */

import { DefaultLogger, IllegalStateError, makeTelemetryFilterString, Runtime } from '@temporalio/worker';

/**
 * Call it before anything else uses the native part. There is one runtime in a process at a time: it ends
 * with what used it last, so a file may find that of another, or none.
 */
export function installQuietRuntime(): void {
  try {
    Runtime.install({
      logger: new DefaultLogger('ERROR'),
      telemetryOptions: {
        logging: { filter: makeTelemetryFilterString({ core: 'ERROR', other: 'ERROR' }), forward: {} },
      },
    });
  } catch (error) {
    if (!(error instanceof IllegalStateError)) throw error;
  }
}
