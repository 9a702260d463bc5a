/** The table of rights: each call of the back office, tried with each scope, each role, and without. */

import { beforeAll, describe, expect, test } from 'vitest';
import { ADMIN_CALLS } from '../../src/api/calls/calls.ts';
import { signToken, type Rights } from '../../src/api/http/auth.ts';
import { ROLE_SCOPES, SCOPES, type Role, type Scope } from '../../src/api/http/scopes.ts';
import type { Reply } from '../support/api-contract.ts';
import { buildSale } from '../support/factories.ts';
import { JWT_SECRET, problemOf, refusalOf, send } from '../support/shopper.ts';
import { openApi, type TestApi } from './open-api.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});

const ROLES = Object.keys(ROLE_SCOPES).filter((name): name is Role => Object.hasOwn(ROLE_SCOPES, name));
const calls = Object.entries(ADMIN_CALLS).map(([call, { scope }]): [string, Scope] => [call, scope]);

/** Names nothing that exists, and carries no body that is complete: a call that is let in changes nothing. */
async function attempt(call: string, rights?: Rights): Promise<Reply> {
  const [method = '', path = ''] = call.split(' ');
  const authorization = rights && `Bearer ${await signToken(JWT_SECRET, 'grace', '1h', rights)}`;
  return send(`${api.url}${path.replaceAll(/:\w+/g, 'nothing')}`, method, {
    headers: authorization === undefined ? {} : { authorization },
    ...(method === 'GET' || method === 'DELETE' ? {} : { body: { nothing: true } }),
  });
}

test('every route of the back office is in the table of scopes, and every row of it is a route', () => {
  const mounted = api.routes.filter((route) => route.includes(' /v1/admin') && !route.startsWith('HEAD '));
  expect(mounted.toSorted()).toEqual(Object.keys(ADMIN_CALLS).toSorted());
});

test('a sale that may only be looked at is as it was after each try to change it', async () => {
  const { saleId } = await api.stores.openSale(buildSale());
  const headers = {
    authorization: `Bearer ${await signToken(JWT_SECRET, 'vera', '1h', { roles: ['viewer'] })}`,
  };
  const sale = `${api.url}/v1/admin/sales/${saleId}`;
  const before = (await send(sale, 'GET', { headers })).body;

  for (const action of ['pause', 'resume', 'close', 'archive'])
    expect(refusalOf(await send(`${sale}/${action}`, 'POST', { headers }))).toBe('403 forbidden');
  expect(refusalOf(await send(sale, 'PUT', { headers, body: { name: 'Mine' } }))).toBe('403 forbidden');

  expect((await send(sale, 'GET', { headers })).body).toEqual(before);
});

describe.each(calls)('%s, for %s', (call, needed) => {
  test('is opened by that scope, and by the roles that have it, and by nothing else', async () => {
    const rights = [
      ...SCOPES.map((scope) => ({ scope, gives: [scope] })),
      ...ROLES.map((role) => ({ roles: [role], gives: ROLE_SCOPES[role] })),
    ];
    for (const { gives, ...claims } of rights) {
      const reply = await attempt(call, claims);
      const may = gives.some((scope) => scope === needed);
      expect(reply.status === 403, JSON.stringify(claims)).toBe(!may);
      expect(reply.status).not.toBe(401);
    }
  });

  test('is closed without a token, and to a shopper, and names the scope', async () => {
    expect(refusalOf(await attempt(call))).toBe('401 unauthorized');
    const refused = await attempt(call, {});
    expect(refusalOf(refused)).toBe('403 forbidden');
    expect(problemOf(refused)).toMatchObject({ scope: needed });
    expect(refused.headers.get('www-authenticate')).toBe(
      `Bearer realm="holdfast", error="insufficient_scope", scope="${needed}"`,
    );
  });
});
