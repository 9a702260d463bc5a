/** Why a token was refused, by the errors of the two libraries that verify tokens. */

import { TokenError } from 'fast-jwt';
import { decodeJwt, errors } from 'jose';
import type { TokenOutcome } from '../../metrics.ts';

/** Nothing of it comes from the token but `offSeconds`, which is a number that a key of ours has signed. */
export interface TokenFault {
  reason: Exclude<TokenOutcome, 'accepted' | 'keys_unavailable'>;
  /** The library's. */
  code: string;
  claim?: string;
  /** How far the claim's time is ahead of this host's clock; negative: behind. */
  offSeconds?: number;
}

export const OTHER_TYPE: TokenFault = { reason: 'malformed', code: 'OTHER_TYPE', claim: 'typ' };

/** The time of a claim is not yet here, or over. */
export function faultOfTime(reason: 'expired' | 'not_yet_valid', code: string, claim: string, at: unknown) {
  const offSeconds = Math.round(Number(at) - Date.now() / 1_000);
  return { reason, code, claim, offSeconds } satisfies TokenFault;
}

/** Of a token of the secret. @throws what is no error of the library */
export function faultOfSecret(error: unknown, token: string): TokenFault {
  if (!(error instanceof TokenError)) throw error;
  const { code, message } = error;
  // The signature is judged before the claims, so these are the issuer's.
  if (code === 'FAST_JWT_EXPIRED') return faultOfTime('expired', code, 'exp', decodeJwt(token).exp);
  if (code === 'FAST_JWT_INACTIVE') return faultOfTime('not_yet_valid', code, 'nbf', decodeJwt(token).nbf);
  if (code === 'FAST_JWT_INVALID_SIGNATURE') return { reason: 'wrong_signature', code };
  if (code === 'FAST_JWT_INVALID_ALGORITHM') return { reason: 'unknown_key', code };
  // The message names the claim, one of those asked for; the rest of it may quote the token.
  const claim = /^(?:The|None of) (\S+) claim\b/.exec(message)?.[1];
  return claim === undefined ? { reason: 'malformed', code } : { reason: reasonOf(claim), code, claim };
}

/** Of a token of an issuer's key. The messages may quote the token, so they stay here. */
export function faultOfKey(error: unknown): TokenFault {
  if (error instanceof errors.JWTExpired)
    return faultOfTime('expired', error.code, error.claim, error.payload.exp);
  if (error instanceof errors.JWTClaimValidationFailed) {
    const { code, claim, reason, payload } = error;
    if (claim === 'nbf' && reason === 'check_failed')
      return faultOfTime('not_yet_valid', code, claim, payload.nbf);
    return { reason: reasonOf(claim), code, claim };
  }
  if (error instanceof errors.JWSSignatureVerificationFailed)
    return { reason: 'wrong_signature', code: error.code };
  // A key that the platform does not take, say a short one, fails without a code of the library.
  if (!(error instanceof errors.JOSEError)) return { reason: 'unknown_key', code: 'UNUSABLE_KEY' };
  const isOfKey =
    error instanceof errors.JWKSNoMatchingKey ||
    error instanceof errors.JWKSMultipleMatchingKeys ||
    error instanceof errors.JOSEAlgNotAllowed;
  return { reason: isOfKey ? 'unknown_key' : 'malformed', code: error.code };
}

const REASONS_OF_CLAIMS: Readonly<Record<string, TokenFault['reason']>> = {
  iss: 'wrong_issuer',
  aud: 'wrong_audience',
  exp: 'malformed',
  nbf: 'malformed',
  iat: 'malformed',
};

/** Any other claim that is asked for is the user's. */
function reasonOf(claim: string): TokenFault['reason'] {
  return REASONS_OF_CLAIMS[claim] ?? 'no_user';
}
