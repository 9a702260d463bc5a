/** The shop's own calls about its sales, and a document to begin with. */

import assert from 'node:assert/strict';
import { shopSaleReply } from '../../../src/api/calls/sales.ts';
import { signToken } from '../../../src/api/http/auth.ts';
import { uniqueSaleId } from '../../support/factories.ts';
import { JWT_SECRET, send, type Reply } from '../../support/shopper.ts';

const HOUR_MS = 60 * 60 * 1000;
/** Of one moment for all, so that a document can be built again. */
const NOW_MS = Date.now();
export const fromNow = (hours: number): string => new Date(NOW_MS + hours * HOUR_MS).toISOString();

export const LAMP = { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 10, limitPerUser: 2 };
export const MUG = { sku: 'mug', name: 'Enamel mug', unitPrice: 1_450, total: 5 };

/** An open sale of ten lamps and five mugs, as a shop sends it. */
export function buildDocument(overrides: object = {}): Record<string, unknown> {
  return {
    name: 'Autumn',
    currency: 'EUR',
    opensAt: fromNow(-1),
    closesAt: fromNow(1),
    skus: [LAMP, MUG],
    ...overrides,
  };
}

export type BackOffice = Awaited<ReturnType<typeof openBackOffice>>;

export async function openBackOffice(url: string, secret = JWT_SECRET) {
  const token = await signToken(secret, 'grace', '1h', { roles: ['operator'] });
  const call = (method: string, path: string, body?: object | string, headers: Record<string, string> = {}) =>
    send(`${url}/v1/admin/sales${path}`, method, {
      headers: { authorization: `Bearer ${token}`, ...headers },
      ...(body === undefined ? {} : { body }),
    });
  return {
    call,
    put: (saleId: string, document: object | string, headers: Record<string, string> = {}): Promise<Reply> =>
      call('PUT', `/${saleId}`, document, headers),
    patch: (saleId: string, patch: object, headers: Record<string, string> = {}): Promise<Reply> =>
      call('PATCH', `/${saleId}`, patch, headers),
    stock: (saleId: string, body: object, headers: Record<string, string> = {}): Promise<Reply> =>
      call('POST', `/${saleId}/stock`, body, headers),
    get: (saleId: string): Promise<Reply> => call('GET', `/${saleId}`),
    list: (query = ''): Promise<Reply> => call('GET', query),
    act: (saleId: string, action: 'pause' | 'resume' | 'close' | 'archive', body?: object): Promise<Reply> =>
      call('POST', `/${saleId}/${action}`, body),
    newSaleId: uniqueSaleId,
  };
}

/** @throws with the refusal, where it is one */
export function saleOf({ status, body }: Reply) {
  assert(status < 300, JSON.stringify(body));
  return shopSaleReply.parse(body);
}
