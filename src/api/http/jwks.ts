/** Verifies tokens of an issuer that publishes its keys: signed with a private key that only it has. */

import { errors, jwtVerify, type JWTPayload } from 'jose';
import { KeysUnavailableError, type KeySet } from './key-set.ts';

/** Why a token was refused: the library's code, for a claim also its name. Both from fixed lists. */
export interface TokenFault {
  code: string;
  claim?: string;
}

type Verified =
  | { kind: 'verified'; claims: JWTPayload }
  | { kind: 'refused'; fault: TokenFault }
  /** The keys could not be read: the token may be good. */
  | { kind: 'unavailable' };

export interface JwksRules {
  keys: KeySet;
  /** One of them signed the token. */
  issuers: readonly string[];
  /** The token is for one of them; undefined: whatever it is for. */
  audiences: readonly string[] | undefined;
  /** Types of tokens as `typeOf` names them: a token of one kind must not pass for another. */
  types: readonly string[];
}

/**
 * Never a symmetric one: the public key, which everyone has, would be its secret. EdDSA is the older name,
 * Ed25519 the newer one.
 */
export const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'];
/** Clocks of issuer and service may differ by this much. */
export const CLOCK_TOLERANCE_MS = 5_000;

export type VerifyByJwks = (token: string) => Promise<Verified>;

/**
 * Checks signature, type, `iss`, `aud`, `nbf`, and `exp`, which must be there. Of the header it takes the id
 * of the key, the algorithm and the type: what it says of keys and their addresses means nothing here.
 */
export function createJwksVerifier({ keys, issuers, audiences, types }: JwksRules): VerifyByJwks {
  const options = {
    algorithms: ALGORITHMS,
    issuer: [...issuers],
    ...(audiences === undefined ? {} : { audience: [...audiences] }),
    requiredClaims: ['exp'],
    clockTolerance: CLOCK_TOLERANCE_MS / 1_000,
  };
  return async (token) => {
    try {
      const { payload, protectedHeader } = await jwtVerify(token, keys.find, options);
      if (!types.includes(typeOf(protectedHeader.typ))) return { kind: 'refused', fault: OTHER_TYPE };
      return { kind: 'verified', claims: payload };
    } catch (error) {
      if (error instanceof KeysUnavailableError) return { kind: 'unavailable' };
      return { kind: 'refused', fault: toFault(error) };
    }
  };
}

export const OTHER_TYPE: TokenFault = { code: 'OTHER_TYPE', claim: 'typ' };

/** RFC 7515: in any case, `application/` may be left out. A token that names none is a JWT as any other. */
export function typeOf(typ: unknown): string {
  if (typ === undefined) return 'jwt';
  return typeof typ === 'string' ? typ.toLowerCase().replace(/^application\//, '') : '';
}

/** The messages may quote the token, so they stay here. */
function toFault(error: unknown): TokenFault {
  if (error instanceof errors.JWTClaimValidationFailed || error instanceof errors.JWTExpired)
    return { code: error.code, claim: error.claim };
  // A key that the platform does not take, say a short one, fails without a code of the library.
  return { code: error instanceof errors.JOSEError ? error.code : 'UNUSABLE_KEY' };
}
