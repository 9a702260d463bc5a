/** What a caller may do: scopes, and the roles that bundle them. */

import type { Middleware } from 'koa';
import { z } from 'zod';
import { Problem } from './problem.ts';

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

/** After `authenticate`: lets a caller in whose token has the scope, by itself or by a role. */
export function allow(scope: Scope): Middleware<{ scopes: ReadonlySet<Scope> }> {
  return (ctx, next) => {
    if (!ctx.state.scopes.has(scope)) throw forbidden(scope);
    return next();
  };
}

/** RFC 6750, 3.1: the token is good, and not good enough for this. */
function forbidden(scope: Scope): Problem {
  const challenge = `Bearer realm="holdfast", error="insufficient_scope", scope="${scope}"`;
  return new Problem('forbidden', 'The token does not have the scope that this call needs.', {
    extra: { scope },
    headers: { 'WWW-Authenticate': challenge },
  });
}
