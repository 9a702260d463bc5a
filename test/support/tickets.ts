/** Tickets as a shop signs them, each with a fault where a test wants one. */

import { SignJWT } from 'jose';
import { ulid } from 'ulidx';
import type { Order } from '../../src/orders/content.ts';
import type { OrderUnits } from '../../src/orders/order.ts';
import { JWT_SECRET } from './shopper.ts';

export const TICKET_AUDIENCE = 'holdfast';

export interface TicketClaims {
  sub: string;
  sale: string;
  iss?: string;
  aud?: string;
  jti?: string;
  /** Unix seconds. */
  exp?: number;
  iat?: number;
  nbf?: number;
  single_use?: boolean;
  charges?: NonNullable<Order['charges']>;
  items?: OrderUnits[];
  reference?: string;
}

/** Good for five minutes, and of single use unless said otherwise. */
export function signTicket(
  claims: TicketClaims,
  { secret = JWT_SECRET, typ = 'holdfast-ticket+jwt' }: { secret?: string; typ?: string } = {},
): Promise<string> {
  const nowSeconds = Math.floor(Date.now() / 1000);
  const life = { iat: nowSeconds, exp: nowSeconds + 300 };
  const usual = { iss: 'shop', aud: TICKET_AUDIENCE, jti: ulid(), single_use: true };
  return new SignJWT({ ...usual, ...life, ...claims })
    .setProtectedHeader({ alg: 'HS256', typ })
    .sign(Buffer.from(secret));
}
