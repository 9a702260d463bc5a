/** What a caller may do: scopes, and the roles that bundle them. */

import { z } from 'zod';

/** `…:read` looks, `…:write` changes. docs/api.md says which call needs which. */
export const SCOPES = [
  'sales:read',
  'sales:write',
  'orders:read',
  'orders:write',
  'refunds:write',
  'events:read',
  'events:write',
  'endpoints:write',
  'settlement:read',
  'parked:read',
  'parked:write',
] as const;

export type Scope = (typeof SCOPES)[number];

const VIEWER = SCOPES.filter((scope) => scope.endsWith(':read'));

const SUPPORT = [...VIEWER, 'orders:write'] as const;

const OPERATOR = [...SUPPORT, 'refunds:write', 'sales:write', 'events:write', 'parked:write'] as const;

/** Each role has what the one before has, and more. */
export const ROLE_SCOPES = {
  viewer: VIEWER,
  support: SUPPORT,
  operator: OPERATOR,
  admin: SCOPES,
} as const satisfies Record<string, readonly Scope[]>;

export type Role = keyof typeof ROLE_SCOPES;

/** A token's claims about rights, whatever a signer has put there. */
export const rightsClaims = z.object({
  roles: z.unknown().optional(),
  /** RFC 8693: names with spaces between. */
  scope: z.unknown().optional(),
  scopes: z.unknown().optional(),
});

/** Shared by all tokens without rights, which are nearly all. */
const NONE: ReadonlySet<Scope> = new Set();

/**
 * All that the claims give together. Names that are not ours, and claims of another shape, give nothing.
 */
export function scopesOf({ roles, scope, scopes }: z.infer<typeof rightsClaims>): ReadonlySet<Scope> {
  const named = [...namesIn(scopes), ...(typeof scope === 'string' ? scope.split(' ') : [])];
  const byRole = namesIn(roles).flatMap((role) => (isRole(role) ? ROLE_SCOPES[role] : []));
  const given = SCOPES.filter((known) => named.includes(known) || byRole.includes(known));
  return given.length === 0 ? NONE : new Set(given);
}

function namesIn(claim: unknown): unknown[] {
  return Array.isArray(claim) ? claim : [];
}

export function isScope(name: unknown): name is Scope {
  return SCOPES.some((scope) => scope === name);
}

export function isRole(name: unknown): name is Role {
  return typeof name === 'string' && Object.hasOwn(ROLE_SCOPES, name);
}
