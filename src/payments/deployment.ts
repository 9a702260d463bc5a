/**
 * Distinguishes deployments that share one account at the provider. Each writes its name into its sessions,
 * and leaves payments alone that carry the name of another.
 */

/** @param named the deployment that a payment names; null: it is older than these names, or made by hand */
export function isForeign(named: string | null, own: string): boolean {
  return named !== null && named !== own;
}
