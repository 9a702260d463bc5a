/** Why a command ends without having done what it was asked to do. */

/** The command was understood and could not be carried out: exit code 1. */
export class OpsError extends Error {
  override name = 'OpsError';
}

/** The command was not understood: exit code 2. */
export class UsageError extends Error {
  override name = 'UsageError';
}
