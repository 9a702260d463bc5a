/** Tells data that are not as the scripts write them from a Redis that does not answer. */

import { ZodError } from 'zod';

/** Redis answers, and what it has of this very key is not as the scripts write it. */
export function isDamaged(error: unknown): boolean {
  return (
    error instanceof ZodError ||
    error instanceof SyntaxError ||
    (error instanceof Error && error.name === 'ReplyError' && !isServers(error))
  );
}

/** Errors that concern the server and not the key. */
function isServers({ message }: Error): boolean {
  return /^(OOM|LOADING|BUSY|READONLY|MISCONF|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|NOAUTH|MOVED|ASK|TRYAGAIN) /.test(
    message,
  );
}
