/** GET /openapi.json: whole, consistent in itself, and of the calls that there are. */

import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { ADMIN_CALLS, SHOP_CALLS } from '../../../src/api/calls/calls.ts';
import { eventsReply } from '../../../src/api/calls/events.ts';
import { signToken } from '../../../src/api/http/auth.ts';
import type { Entry } from '../../../src/api/http/entry.ts';
import { noBody, orderReply } from '../../../src/api/http/replies.ts';
import { SALE_ID_PATTERN } from '../../../src/limits.ts';
import { openApiText } from '../../../stack/renew/open-api.ts';
import { acceptOrder } from '../../support/accept-order.ts';
import { dispatchEvents } from '../../support/events.ts';
import { buildSale } from '../../support/factories.ts';
import { pay } from '../../support/payment-notices.ts';
import { JWT_SECRET, send } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';

const content = z.record(z.string(), z.object({ example: z.unknown().optional() })).default({});
const operation = z.looseObject({
  operationId: z.string(),
  summary: z.string(),
  parameters: z.array(z.looseObject({ name: z.string(), in: z.string() })),
  requestBody: z.looseObject({ content }).optional(),
  responses: z.record(z.string(), z.looseObject({ content })),
});
const document = z.looseObject({
  openapi: z.literal('3.1.1'),
  paths: z.record(z.string(), z.record(z.string(), operation)),
  components: z.looseObject({ schemas: z.record(z.string(), z.looseObject({})) }),
});

let api: TestApi;
let text: string;
let read: z.infer<typeof document>;
beforeAll(async () => {
  api = await openApi();
  const response = await fetch(`${api.url}/openapi.json`);
  text = await response.text();
  read = document.parse(JSON.parse(text));
});

const operations = () => Object.values(read.paths).flatMap((methods) => Object.values(methods));
const ENTRIES: [string, Entry][] = [...Object.entries(SHOP_CALLS), ...Object.entries(ADMIN_CALLS)];

test('the document is what the calls say of themselves: `npm run renew` has written it', () => {
  expect(text).toBe(openApiText());
});

test('each call is in it, under a name of its own', () => {
  const named = Object.entries(read.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const calls = [...Object.keys(SHOP_CALLS), ...Object.keys(ADMIN_CALLS)];
  expect(named.toSorted()).toEqual(calls.map((call) => call.replaceAll(/:(\w+)/g, '{$1}')).toSorted());
  const ids = operations().map(({ operationId }) => operationId);
  expect(new Set(ids).size).toBe(ids.length);
});

test('each property, each parameter and each answer has a description', () => {
  const parts = findParts(read);
  expect(parts.length).toBeGreaterThan(900);
  expect(parts.filter(({ part }) => !isDescribed(part)).map(({ at }) => at)).toEqual([]);
});

/** The properties of schemas, the parameters and the answers, each with where it stands. */
function findParts(value: object, at = ''): { at: string; part: unknown }[] {
  return Object.entries(value).flatMap(([name, inside]: [string, unknown]) => {
    if (typeof inside !== 'object' || inside === null || /^examples?$/.test(name)) return [];
    const path = `${at}/${name}`;
    const hasParts = ['properties', 'responses'].includes(name);
    const own =
      hasParts || (name === 'parameters' && Array.isArray(inside))
        ? Object.entries(inside).map(([key, part]: [string, unknown]) => ({ at: `${path}/${key}`, part }))
        : [];
    return [...own, ...findParts(inside, path)];
  });
}

const describable = z.looseObject({ description: z.string().optional(), $ref: z.string().optional() });

function isDescribed(part: unknown): boolean {
  const { description = '', $ref } = describable.parse(part);
  return description !== '' || ($ref !== undefined && isDescribed(resolve($ref)));
}

function resolve(ref: string): unknown {
  const steps = ref.split('/').slice(1);
  return steps.reduce<unknown>((part, name) => Object(part)[name], read);
}

test.each(ENTRIES)(
  '%s has an example of its body and of each answer, which their schemas take',
  (call, entry) => {
    const [method = '', path = ''] = call.replaceAll(/:(\w+)/g, '{$1}').split(' ');
    const { requestBody, responses } = operation.parse(read.paths[path]?.[method.toLowerCase()]);
    const faultOf = (schema: z.ZodType, example: unknown) => schema.safeParse(example).error?.message;

    if (entry.body)
      expect(faultOf(entry.body.schema, requestBody?.content['application/json']?.example)).toBeUndefined();
    for (const [status, schema] of Object.entries(entry.replies)) {
      const examples = Object.entries(responses[status]?.content ?? {});
      expect(examples.length === 0, status).toBe(schema === noBody);
      for (const [type, { example }] of examples) {
        const isStream = type === 'text/event-stream';
        const body: unknown = isStream
          ? JSON.parse(z.object({ data: z.string() }).parse(example).data)
          : example;
        expect(faultOf(isStream ? orderReply : schema, body), `${status} ${type}`).toBeUndefined();
      }
    }
  },
);

test('each answer of a call is in it, and the parameters of its path in their order', () => {
  for (const [path, methods] of Object.entries(read.paths)) {
    const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    for (const { parameters, responses } of Object.values(methods)) {
      expect(parameters.filter((each) => each.in === 'path').map(({ name }) => name)).toEqual(inPath);
      expect(Object.keys(responses)).toEqual(expect.arrayContaining(['400', '500', '503']));
    }
  }
});

test('each reference leads somewhere, and each schema is one', () => {
  for (const [, at = ''] of text.matchAll(/"\$ref": "#([^"]+)"/g)) {
    expect(resolve(at), at).toBeDefined();
  }
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema(read, 'document');
  for (const name of Object.keys(read.components.schemas))
    expect(ajv.getSchema(`document#/components/schemas/${name}`), name).toBeTypeOf('function');
});

test('each answer of 429 and 503 has to say when to come back', () => {
  const headersOf = (status: string) => operations().map(({ responses }) => responses[status]?.['headers']);
  const always = { 'Retry-After': { $ref: '#/components/headers/RetryAfterAlways' } };
  for (const headers of [...headersOf('429').filter(Boolean), ...headersOf('503')])
    expect(headers).toMatchObject(always);
  expect(read.components).toMatchObject({ headers: { RetryAfterAlways: { required: true } } });
});

test('no pattern looks ahead, which readers in other languages cannot', () => {
  expect(text).not.toContain('(?=');
  expect(read.components.schemas).toMatchObject({
    Purchase: {
      properties: { saleId: { pattern: SALE_ID_PATTERN.source.replace('(?=.{1,32}$)', ''), maxLength: 32 } },
    },
  });
});

test("docs/api.md's order is an Order of the document", () => {
  const page = readFileSync(new URL('../../../docs/api.md', import.meta.url), 'utf8');
  const example = [...page.matchAll(/```json\n([\s\S]*?)```/g)]
    .map(([, json]): unknown => JSON.parse(String(json)))
    .find((json) => Object.hasOwn(Object(json), 'pollAfterMs'));
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema(read, 'document');
  const validate = ajv.getSchema('document#/components/schemas/Order');
  expect(validate?.(example)).toBe(true);
  expect(validate?.({ ...Object(example), status: 'lost' })).toBe(false);
});

test('events of a flow are Events of the document, in the feed and as they are pushed', async () => {
  const { saleId } = await api.stores.openSale(buildSale());
  const [paid, cancelled] = [await acceptOrder(api.stores, saleId), await acceptOrder(api.stores, saleId)];
  for (const { orderNo } of [paid, cancelled]) await api.store(orderNo);
  await pay(api.stores, paid);
  await api.stores.orders.cancel(cancelled.orderNo, 'payment_timeout', { force: true });
  const admin = {
    authorization: `Bearer ${await signToken(JWT_SECRET, 'grace', '1h', { roles: ['admin'] })}`,
  };
  await send(`${api.url}/v1/admin/sales/${saleId}/close`, 'POST', { headers: admin });
  await dispatchEvents(api.stores);

  const { body } = await send(`${api.url}/v1/admin/events?saleId=${saleId}`, 'GET', { headers: admin });
  const { events } = eventsReply.parse(body);
  expect(events.map(({ type }) => type)).toEqual(
    expect.arrayContaining(['order.awaiting_payment', 'order.paid', 'order.cancelled', 'sale.changed']),
  );
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema(read, 'document');
  const isEvent = ajv.getSchema('document#/components/schemas/Event');
  const isPushed = ajv.compile({
    $ref: 'document#/webhooks/event/post/requestBody/content/application~1json/schema',
  });
  for (const event of events) {
    expect(isEvent?.(event), event.type).toBe(true);
    expect(isPushed({ ...event, timestamp: event.occurredAt }), event.type).toBe(true);
    expect(isPushed(event), event.type).toBe(false);
    expect(isEvent?.({ ...event, data: null }), event.type).toBe(false);
  }
});

test('it is not sent to who has it', async () => {
  const first = await send(`${api.url}/openapi.json`, 'GET');
  const tag = String(first.headers.get('etag'));
  const again = await send(`${api.url}/openapi.json`, 'GET', { headers: { 'if-none-match': tag } });
  expect([first.status, again.status]).toEqual([200, 304]);
});
