/** The identity of a deployment: it distinguishes deployments that share a server. */

export interface Deployment {
  /** Random, made with MySQL's schema. */
  id: string;
  /** For people: `DEPLOYMENT_NAME`. Two deployments may have the same. */
  name: string;
}

/**
 * The number of the form in which the stores keep what they keep. It is counted up when a release could not
 * read, or would spoil, what an earlier one has stored; the migration of that release then carries it over.
 */
export const STORES_FORMAT = 10;

/** A store is another deployment's, or of another format: the process must not touch it. */
export class WrongDeploymentError extends Error {
  override name = 'WrongDeploymentError';
}

export function showDeployment({ id, name }: Deployment): string {
  return `${name} (${id})`;
}
