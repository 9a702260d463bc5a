/**
 * Every call of the API, found out by making it: who may call, which lane it takes, by which schemas it reads
 * what it is sent, and what it may answer.
 */

import { ROLE_SCOPES, SCOPES } from '../../src/api/http/scopes.ts';
import { findReplies } from '../support/api-contract.ts';
import { listen } from './complaints.ts';
import { openIdleApi, type IdleApi } from './idle-api.ts';
import { showInput, showReply } from './schemas.ts';

const PARAMETERS: Record<string, string> = {
  orderNo: 'demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG',
  saleId: 'demo',
  name: 'erp',
  paymentId: '7',
  refundId: '7',
};
const CART = { saleId: 'demo', items: [{ sku: 'lamp', quantity: 1 }] };
/** A member that no request has: each schema complains of it. */
const MARK = 'surface';
/** Further members of queries: the one schema that takes unknown members complains of its value. */
const WRONG = { source: MARK };

/** One call of each lane that comes as far as the stores; its body. */
const FILLING: Record<string, object | undefined> = {
  'POST /v1/orders': CART,
  'POST /v1/orders/:orderNo/payment': undefined,
  'GET /v1/sales/:saleId': undefined,
  'POST /v1/webhooks/payments': {},
  'GET /v1/admin/orders/:orderNo': undefined,
  'GET /v1/admin/events': undefined,
};
/** More than any lane has room for. */
const FLOOD = 300;
const ALL_RIGHTS = { roles: ['admin'] };

export async function showRoutes() {
  const api = await openIdleApi();
  const lanes = await findLanes();
  try {
    const routes = [];
    for (const route of api.routes) {
      const [access, inputs] = [await findAccess(api, route), await findInputs(api, route)];
      routes.push([
        route,
        { access, lane: lanes.get(route) ?? null, ...inputs, replies: showReplies(route) },
      ]);
    }
    return {
      routes: Object.fromEntries(routes),
      scopes: SCOPES,
      roles: ROLE_SCOPES,
    };
  } finally {
    api.close();
  }
}

function callOf(route: string): [method: string, path: string] {
  const [method = '', path = ''] = route.split(' ');
  return [method, path.replaceAll(/:(\w+)/g, (_, name: string) => PARAMETERS[name] ?? `no ${name}`)];
}

const hasBody = (method: string): boolean => method === 'POST' || method === 'PUT' || method === 'PATCH';

/** `public`, `shopper`, or the scope that a caller needs. */
async function findAccess(api: IdleApi, route: string): Promise<string> {
  const [method, path] = callOf(route);
  const body = hasBody(method) ? {} : undefined;
  const anonymous = await api.call(method, path, { body });
  if (anonymous.code !== 'unauthorized') return 'public';
  const shopper = await api.call(method, path, { body, claims: {} });
  if (shopper.code !== 'forbidden') return 'shopper';
  const scope = String(shopper.scope);
  const allowed = await api.call(method, path, { body, claims: { scope } });
  return allowed.code === 'forbidden' ? `more than ${scope}` : scope;
}

/** A refinement has no form in JSON Schema; what it says is among the sentences. */
async function findInputs(api: IdleApi, route: string) {
  const [method, path] = callOf(route);
  const query = new URLSearchParams({ [MARK]: 'query', ...WRONG });
  const body = hasBody(method) ? { [MARK]: 'body' } : undefined;
  const complaints = await listen(() =>
    api.call(method, `${path}?${query.toString()}`, { claims: ALL_RIGHTS, body }),
  );
  const inputs: Record<string, unknown> = {};
  for (const { schema, input, path: at } of complaints) {
    if (at === '' && isMarked(input)) inputs[String(input[MARK])] = showInput(schema);
    if (input === WRONG.source) inputs[`query.${at}`] = showInput(schema);
  }
  return inputs;
}

function isMarked(input: unknown): input is { [MARK]: unknown } {
  return typeof input === 'object' && input !== null && MARK in input;
}

function showReplies(route: string) {
  const [method, path] = callOf(route);
  const targets = [`${path}?limit=1`, `${path}?source=workflow`];
  const [replies, asWorkflowHasIt] = targets.map((target) =>
    Object.fromEntries(
      Object.entries(findReplies(method, target) ?? {}).map(([status, schema]) => [
        status,
        showReply(schema),
      ]),
    ),
  );
  const isOther = JSON.stringify(replies) !== JSON.stringify(asWorkflowHasIt);
  return isOther ? { ...replies, 'source=workflow': asWorkflowHasIt } : replies;
}

/** A lane is filled by one call, and then each call that it refuses takes it. */
async function findLanes(): Promise<Map<string, string>> {
  const lanes = new Map<string, string>();
  for (const [filling, body] of Object.entries(FILLING)) {
    const api = await openIdleApi();
    try {
      api.hang();
      await untilRefused(api, filling, body);
      api.fail();
      const name = await readFullLane(api);
      for (const route of api.routes) {
        const [method, path] = callOf(route);
        const { code } = await api.call(method, path, {
          claims: ALL_RIGHTS,
          body: hasBody(method) ? {} : undefined,
        });
        if (code === 'overloaded') lanes.set(route, name);
      }
    } finally {
      api.close();
    }
  }
  return lanes;
}

async function untilRefused(api: IdleApi, route: string, body: object | undefined): Promise<void> {
  const [method, path] = callOf(route);
  const flood = Array.from({ length: FLOOD }, async () => {
    const { code } = await api.call(method, path, { claims: ALL_RIGHTS, body });
    if (code !== 'overloaded') throw new Error(`${route} is answered: ${String(code)}`);
  });
  // Those that hang are cut off in the end.
  await Promise.any(flood);
}

async function readFullLane(api: IdleApi): Promise<string> {
  const { text } = await api.call('GET', '/metrics');
  const full = [...text.matchAll(/^holdfast_shed_total\{lane="(\w+)"\} [1-9]/gm)].map(([, lane]) => lane);
  return full.join(' and ');
}
