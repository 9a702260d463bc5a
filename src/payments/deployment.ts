/**
 * Distinguishes deployments that share one account at the provider. Each writes its mark into its sessions,
 * and leaves payments alone that carry the mark of another.
 */

import type { Deployment } from '../domain/deployment.ts';

/** A mark is known once a store has told the deployment's id, which may be after the adapter was made. */
export type OwnMark = string | (() => string);

/** The id tells deployments apart, the name is for people who look at the provider. */
export function markOf({ id, name }: Deployment): string {
  return `${name}.${id}`;
}

export function readOwnMark(own: OwnMark): string {
  return typeof own === 'string' ? own : own();
}

/**
 * @param marked the mark that a payment carries; null: it was made by hand. A mark that is a name alone is
 *   older than the ids.
 */
export function isForeign(marked: string | null, own: string): boolean {
  if (marked === null) return false;
  const [name, id] = marked.split('.');
  const [ownName, ownId] = own.split('.');
  return id === undefined ? name !== ownName : id !== ownId;
}
