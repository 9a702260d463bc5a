/** What a caller may do: scopes, and the roles that bundle them. */

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
  'status:read',
  'parked:read',
  'parked:write',
  'audit:read',
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
