/**
 * Renders pages/openapi.json from what each call says of itself (`Entry`): its schemas are those by which
 * requests are read and answers are typed. zod writes them as JSON Schema, which OpenAPI 3.1 has as it is.
 */

import { z } from 'zod';
import { ADMIN_CALLS, SHOP_CALLS } from '../../src/api/calls/calls.ts';
import { EVENT_CONSUMER_PATTERN, eventReply } from '../../src/api/calls/events.ts';
import {
  codesOf,
  partsOf,
  type Entry,
  type ReplyHeader,
  type RequestHeader,
} from '../../src/api/http/entry.ts';
import { meaningOf, PROBLEMS, type ProblemCode } from '../../src/api/http/problem-codes.ts';
import { PROBLEM_TYPE, problemReply } from '../../src/api/http/problem.ts';
import { noBody } from '../../src/api/http/replies.ts';
import { SCOPES } from '../../src/api/http/scopes.ts';
import { SALE_ID_PATTERN } from '../../src/limits.ts';
import { IDEMPOTENCY_KEY_PATTERN } from '../../src/orders/content.ts';
import { ORDER_NO_PATTERN } from '../../src/orders/order.ts';

type Json = Record<string, unknown>;
type Call = Entry & { who?: 'anyone' | 'shopper' | 'provider'; scope?: string };

const CALLS: [string, Call][] = [...Object.entries(SHOP_CALLS), ...Object.entries(ADMIN_CALLS)];

export function openApiText(): string {
  return `${JSON.stringify(renderOpenApi(), undefined, 1)}\n`;
}

function renderOpenApi(): Json {
  const codes = CALLS.flatMap(([, call]) => codesOf(call));
  const schemas = writeSchemas(new Set(codes));
  const paths: Record<string, Json> = {};
  for (const [key, call] of CALLS) {
    const { method, path } = partsOf(key);
    const address = path.replaceAll(/:(\w+)/g, '{$1}');
    paths[address] = { ...paths[address], [method.toLowerCase()]: operationOf(method, path, call, schemas) };
  }
  return {
    openapi: '3.1.1',
    info: {
      title: 'Holdfast',
      version: '1',
      description:
        'Flash-sale checkout: holds stock, takes orders through payment, never loses one. `docs/api.md` says more of each call. New members may be added to answers, and new types to events: a client ignores what it does not know.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/' }],
    tags: TAGS,
    paths,
    webhooks: { event: { post: eventOperation(schemas.components) } },
    components: {
      schemas: schemas.components,
      headers: { ...REPLY_HEADERS, RetryAfterAlways: { required: true, ...REPLY_HEADERS['Retry-After'] } },
      securitySchemes: SECURITY,
    },
  };
}

const TAGS = [
  { name: 'Shoppers', description: 'Calls of shoppers, by a token of the shop or by none.' },
  { name: 'Provider', description: "What the payment provider reports, signed by the provider's secret." },
  { name: 'Back office', description: "Calls of the shop's staff and systems, by a token with scopes." },
];

const SECURITY = {
  token: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: `Signed by the shop. The back office needs scopes: ${SCOPES.map((scope) => `\`${scope}\``).join(', ')}.`,
  },
  signature: {
    type: 'apiKey',
    in: 'header',
    name: 'webhook-signature',
    description:
      'By Standard Webhooks, beside `webhook-id` and `webhook-timestamp`. Stripe sends `stripe-signature`.',
  },
};

// Schemas: all in two goes, so that each name stands once and others refer to it.

interface Schemas {
  components: Json;
  /** Of a body or a query, by the name of its call. */
  inputs: Json;
  queries: Json;
  /** By the name of its call and the status. */
  replies: Json;
}

function writeSchemas(codes: ReadonlySet<ProblemCode>): Schemas {
  const inputs = new Map<string, z.ZodType>();
  const outputs = new Map<string, z.ZodType>([['event', eventReply]]);
  for (const [, { id, body, query, replies }] of CALLS) {
    if (body) inputs.set(id, body.schema);
    if (query) {
      inputs.set(`query ${id}`, query);
      outputs.set(`query ${id}`, query);
    }
    for (const [status, schema] of Object.entries(replies)) {
      const [first] = optionsOf(schema);
      if (first) outputs.set(`${id} ${status}`, first);
    }
  }
  const problems = [...codes].map((code): [string, z.ZodType] => [problemName(code), problemReply(code)]);
  const read = write('input', inputs);
  const written = write('output', outputs);
  const queries = CALLS.filter(([, { query }]) => query).map(([, { id }]) => [
    id,
    mergeQuery(read.of[`query ${id}`], written.of[`query ${id}`]),
  ]);
  return {
    components: { ...read.named, ...written.named, ...write('output', new Map(problems)).of },
    inputs: read.of,
    queries: Object.fromEntries(queries),
    replies: written.of,
  };
}

/** An answer of several types has an option for each; one without a body has none. */
function optionsOf(schema: z.ZodType): z.ZodType[] {
  if (schema === noBody) return [];
  return schema instanceof z.ZodUnion && schema.options.some((option) => option instanceof z.ZodString)
    ? schema.options.filter((option): option is z.ZodType => option instanceof z.ZodType)
    : [schema];
}

const jsonSchema = z.looseObject({
  properties: z.record(z.string(), z.looseObject({})),
  required: z.array(z.string()).default([]),
  $defs: z.record(z.string(), z.looseObject({})).default({}),
});

function write(io: 'input' | 'output', schemas: ReadonlyMap<string, z.ZodType>) {
  const text = JSON.stringify(
    z.toJSONSchema(z.object(Object.fromEntries(schemas)), {
      io,
      unrepresentable: 'any',
      override({ zodSchema, jsonSchema: shown }) {
        // zod leaves out examples of what is transformed as it is read. Ours are of what is sent.
        const examples = z.globalRegistry.get(zodSchema)?.['examples'];
        if (io === 'input' && examples !== undefined && !('$ref' in shown))
          Object.assign(shown, { examples });
        // Answers may get new members; and no number is less exact than these bounds say.
        if (io === 'output' && shown.additionalProperties === false) delete shown.additionalProperties;
        if (shown.minimum === Number.MIN_SAFE_INTEGER) delete shown.minimum;
        if (shown.maximum === Number.MAX_SAFE_INTEGER) delete shown.maximum;
        showText(shown);
      },
    }),
  );
  const { properties, $defs } = jsonSchema.parse(
    JSON.parse(text.replaceAll('"#/$defs/', '"#/components/schemas/')),
  );
  const named = Object.entries($defs).map(([name, schema]): [string, Json] => {
    delete schema['id'];
    return [name, schema];
  });
  return { of: properties, named: Object.fromEntries(named) };
}

/** For readers in other languages: many have no look ahead, by which a pattern bounds its length. */
function showText(shown: { pattern?: string; format?: string; maxLength?: number }): void {
  const [, length, rest] = /^\^\(\?=\.\{1,(\d+)\}\$\)(.*)$/.exec(shown.pattern ?? '') ?? [];
  if (rest !== undefined) {
    shown.pattern = `^${rest}`;
    shown.maxLength = Number(length);
  }
  // Its format says it as well, and shorter than a pattern of all calendars.
  if (shown.format === 'date' || shown.format === 'date-time') delete shown.pattern;
  // A format of zod's own, for what the pattern says.
  if (shown.format === 'starts_with') delete shown.format;
}

/**
 * A query is text. A number in it is shown as the number that it is read as, and so is a list with commas;
 * all else as it is sent.
 */
function mergeQuery(sent: unknown, read: unknown): Json {
  const [from, to] = [jsonSchema.parse(sent), jsonSchema.parse(read)];
  const members = Object.entries(from.properties).map(([name, text]): [string, Json] => {
    const value = to.properties[name];
    const digits = /^\^\\d\{1,(\d+)\}\$$/.exec(String(text['pattern']))?.[1];
    if (digits !== undefined)
      return [name, { type: 'integer', minimum: 0, maximum: 10 ** Number(digits) - 1, ...pickNumber(value) }];
    return [name, value?.['type'] === 'array' ? value : text];
  });
  return { properties: Object.fromEntries(members), required: from.required };
}

/** What is said of a value as a number, or but what it means. */
function pickNumber(value: Json = {}): Json {
  if (value['type'] === 'integer') return value;
  return value['description'] === undefined ? {} : { description: value['description'] };
}

function problemName(code: ProblemCode): string {
  const words = code.split('_').map((word) => word.charAt(0).toUpperCase() + word.slice(1));
  return `${words.join('')}Problem`;
}

// Operations.

function operationOf(method: string, path: string, call: Call, schemas: Schemas): Json {
  const { id, does, body, who, scope } = call;
  const input = {
    schema: schemas.inputs[id],
    example: body && exampleOf(schemas.inputs[id], schemas.components),
  };
  const content = {
    'application/json': input,
    ...(method === 'PATCH' && { 'application/merge-patch+json': input }),
  };
  return {
    operationId: id,
    summary: does,
    tags: [scope === undefined ? (who === 'provider' ? 'Provider' : 'Shoppers') : 'Back office'],
    security: securityOf(call),
    parameters: parametersOf(path, call, schemas),
    ...(body && { requestBody: { required: body.isOptional !== true, content } }),
    responses: responsesOf(call, schemas),
  };
}

function securityOf({ who, scope }: Call): Json[] {
  if (scope !== undefined) return [{ token: [scope] }];
  if (who === 'shopper') return [{ token: [] }];
  return who === 'provider' ? [{ signature: [] }] : [];
}

/** Of a row of MySQL's. */
const ROW_ID = /^[1-9]\d{0,14}$/;

const PATH_PARAMETERS: Record<string, { description: string; pattern: RegExp }> = {
  saleId: { description: "The sale's id.", pattern: SALE_ID_PATTERN },
  orderNo: { description: "The order's number, as the purchase answered it.", pattern: ORDER_NO_PATTERN },
  paymentId: {
    description: 'The number of a payment, as `/v1/admin/orders/{orderNo}` shows it.',
    pattern: ROW_ID,
  },
  refundId: {
    description: 'The number of a refund, as `/v1/admin/orders/{orderNo}` shows it.',
    pattern: ROW_ID,
  },
  parkedId: { description: 'The number of a parked entry, as `/v1/admin/parked` shows it.', pattern: ROW_ID },
  deliveryId: { description: 'The `id` of a delivery, as the list of deliveries shows it.', pattern: ROW_ID },
  name: { description: "The shop's own name of it.", pattern: EVENT_CONSUMER_PATTERN },
};

const REQUEST_HEADERS: Record<RequestHeader, Json> = {
  'Idempotency-Key': {
    required: true,
    description: 'A fresh UUID for each intention. The same request with the same key is carried out once.',
    schema: { type: 'string', pattern: IDEMPOTENCY_KEY_PATTERN.source },
  },
  'If-None-Match': {
    description: 'An `ETag` of an earlier answer, or `*`.',
    schema: { type: 'string' },
  },
  'If-Match': {
    description: 'The version that is to be changed, as its `ETag`; or `*`: whichever there is.',
    schema: { type: 'string' },
  },
  Prefer: {
    description: '`wait=N`: so many seconds for a later answer (RFC 7240).',
    schema: { type: 'string' },
  },
  Accept: { schema: { type: 'string' } },
  'Last-Event-ID': {
    description: 'The id of the last event that was read: only what is newer follows.',
    schema: { type: 'string' },
  },
};

const REPLY_HEADERS: Record<ReplyHeader | 'X-Request-Id' | 'WWW-Authenticate', Json> = {
  ETag: { description: 'Names what the answer shows.', schema: { type: 'string' } },
  Location: { description: 'The path of what was made.', schema: { type: 'string' } },
  'Retry-After': {
    description: 'Seconds after which asking again makes sense.',
    schema: { type: 'integer', minimum: 0 },
  },
  'Cache-Control': { description: 'For how long a cache may answer so.', schema: { type: 'string' } },
  'Preference-Applied': {
    description: 'What of `Prefer` was honoured (RFC 7240).',
    schema: { type: 'string' },
  },
  RateLimit: {
    description: 'Attempts that are left by each limit (`r`), for so many seconds (`t`).',
    schema: { type: 'string' },
  },
  'RateLimit-Policy': {
    description: 'Each limit: so many attempts (`q`) within so many seconds (`w`).',
    schema: { type: 'string' },
  },
  'X-Request-Id': {
    description: 'By it a call is found in logs and traces: the caller’s own, where it is well formed.',
    schema: { type: 'string' },
  },
  'WWW-Authenticate': { description: 'What the token lacks (RFC 6750).', schema: { type: 'string' } },
};

const RETRY_AFTER_ALWAYS = { 'Retry-After': { $ref: '#/components/headers/RetryAfterAlways' } };

function parametersOf(path: string, { id, reads = [], who }: Call, schemas: Schemas): Json[] {
  const inPath = [...path.matchAll(/:(\w+)/g)].map(([, name = '']): Json => {
    const known = PATH_PARAMETERS[name];
    if (!known) throw new Error(`no parameter of a path is called ${name}`);
    const schema = { type: 'string', minLength: 1, pattern: known.pattern.source };
    showText(schema);
    return { name, in: 'path', required: true, description: known.description, schema };
  });
  const { properties, required } = jsonSchema.parse(schemas.queries[id] ?? { properties: {} });
  const inQuery = Object.entries(properties).map(([name, { description, ...schema }]): Json => ({
    name,
    in: 'query',
    required: required.includes(name),
    ...(description !== undefined && { description }),
    // A list is sent with commas between.
    ...(schema['type'] === 'array' && { style: 'form', explode: false }),
    schema,
  }));
  const inHeader = reads
    // OpenAPI takes a parameter of this name for the types of the answers, which say it already.
    .filter((name) => name !== 'Accept')
    .map((name): Json => ({ name, in: 'header', ...REQUEST_HEADERS[name] }));
  return [...inPath, ...inQuery, ...inHeader, ...(who === 'provider' ? SIGNED_HEADERS : [])];
}

const SIGNED_HEADERS: Json[] = [
  {
    name: 'webhook-id',
    in: 'header',
    description: "The notice's id, the same at each attempt.",
    schema: { type: 'string' },
  },
  {
    name: 'webhook-timestamp',
    in: 'header',
    description: 'Unix seconds of this attempt.',
    schema: { type: 'string', pattern: '^\\d+$' },
  },
];

/** OpenAPI 3.1 has no word for a stream: the schema of one is taken for that of each event. */
const ORDER_EVENT = {
  type: 'object',
  properties: {
    id: { type: 'string', description: 'The version of the order.' },
    event: { type: 'string', const: 'order', description: 'The type of the event.' },
    data: {
      type: 'string',
      description: 'The order as JSON, as its own call shows it.',
      contentMediaType: 'application/json',
      contentSchema: { $ref: '#/components/schemas/Order' },
    },
  },
  required: ['id', 'event', 'data'],
};

function responsesOf(call: Call, schemas: Schemas): Json {
  const { id, replies, isEventStream, gives = {} } = call;
  const answers = Object.entries(replies).map(([status, reply]: [string, z.ZodType]): [string, Json] => {
    const headers = headersOf(['X-Request-Id', ...(gives[Number(status)] ?? [])]);
    const description = [STATUSES[status], saidOf(reply).description].filter(Boolean).join(' ');
    const [first, csv] = optionsOf(reply);
    if (!first) return [status, { description, headers }];
    const schema = schemas.replies[`${id} ${status}`];
    const content = isEventStream
      ? { 'text/event-stream': { schema: ORDER_EVENT, example: eventExample(schemas.components) } }
      : { 'application/json': { schema, example: exampleOf(schema, schemas.components) } };
    const inCsv = csv && { 'text/csv': { schema: { type: 'string' }, example: saidOf(csv).examples?.[0] } };
    return [status, { description, headers, content: { ...content, ...inCsv } }];
  });
  return { ...Object.fromEntries(answers), ...refusalsOf(codesOf(call), gives) };
}

function refusalsOf(codes: readonly ProblemCode[], gives: NonNullable<Call['gives']>): Json {
  const statuses = [...new Set(codes.map((code) => PROBLEMS[code].status))].toSorted((a, b) => a - b);
  return Object.fromEntries(
    statuses.map((status) => {
      const own = codes.filter((code) => PROBLEMS[code].status === status);
      const refs = own.map((code) => ({ $ref: `#/components/schemas/${problemName(code)}` }));
      const description = own.map((code) => `\`${code}\`: ${plain(meaningOf(code))}`).join('; ');
      const schema = refs.length === 1 ? refs[0] : { anyOf: refs };
      const headers = {
        ...headersOf([...refusalHeaders(status), ...(gives[status] ?? [])]),
        ...(saysWhen(status) && RETRY_AFTER_ALWAYS),
      };
      return [status, { description, headers, content: { [PROBLEM_TYPE]: { schema } } }];
    }),
  );
}

function refusalHeaders(status: number): (keyof typeof REPLY_HEADERS)[] {
  if (status === 401 || status === 403) return ['X-Request-Id', 'WWW-Authenticate', 'Retry-After'];
  return [409, 500].includes(status) ? ['X-Request-Id', 'Retry-After'] : ['X-Request-Id'];
}

/** What is over by itself: each such answer says when to come back. */
function saysWhen(status: number): boolean {
  return status === 429 || status === 503;
}

/** The links of the table lead into docs/api.md. */
function plain(text: string): string {
  return text.replaceAll(/\[([^\]]+)\]\([^)]+\)/g, '$1');
}

function headersOf(headers: readonly (keyof typeof REPLY_HEADERS)[]): Json {
  return Object.fromEntries(headers.map((name) => [name, { $ref: `#/components/headers/${name}` }]));
}

/** What a status says by itself; the schema of the answer says the rest. */
const STATUSES: Record<string, string> = {
  201: 'Made.',
  202: 'Accepted; the rest follows.',
  204: 'Done. There is no body.',
  304: 'What the caller has is current. There is no body.',
};

const said = z.looseObject({ description: z.string().optional(), examples: z.array(z.unknown()).optional() });

/** What is said of a schema where it stands. */
function saidOf(schema: z.ZodType): z.infer<typeof said> {
  return said.parse(z.globalRegistry.get(schema) ?? {});
}

// Examples.

const jsonValue = z.looseObject({
  $ref: z.string().optional(),
  examples: z.array(z.unknown()).optional(),
  enum: z.array(z.unknown()).optional(),
  anyOf: z.array(z.unknown()).optional(),
  properties: z.record(z.string(), z.unknown()).default({}),
  required: z.array(z.string()).default([]),
  minimum: z.number().default(0),
});

/** The schema's own, or one that is made of those of its required members: each text has one. */
function exampleOf(schema: unknown, components: Json): unknown {
  const {
    $ref,
    examples,
    enum: values,
    anyOf,
    properties,
    required,
    minimum,
    ...rest
  } = jsonValue.parse(schema);
  if (examples) return examples[0];
  if ($ref !== undefined) return exampleOf(components[$ref.replace(/^.*\//, '')], components);
  if ('const' in rest) return rest['const'];
  if (values) return values[0];
  if (anyOf) return exampleOf(anyOf[0], components);
  switch (rest['type']) {
    case 'object':
      return Object.fromEntries(required.map((name) => [name, exampleOf(properties[name], components)]));
    case 'array':
      return [exampleOf(rest['items'], components)];
    case 'integer':
      return minimum;
    case 'boolean':
      return false;
    default:
      throw new Error(`there is no example of ${JSON.stringify(schema)}`);
  }
}

function eventExample(components: Json): Json {
  return { id: '1', event: 'order', data: JSON.stringify(exampleOf(components['Order'], components)) };
}

/** As the feed has it, and its time once more under the name that Standard Webhooks recommends. */
const PUSHED_EVENT = {
  allOf: [
    { $ref: '#/components/schemas/Event' },
    {
      type: 'object',
      properties: {
        timestamp: { type: 'string', format: 'date-time', description: 'The same as `occurredAt`.' },
      },
      required: ['timestamp'],
    },
  ],
};

/** What an endpoint of the shop's is sent. */
function eventOperation(components: Json): Json {
  const text = { type: 'string' };
  const example = eventReply.options[0].parse(exampleOf(components['Event'], components));
  return {
    operationId: 'receiveEvent',
    summary: "An event, pushed to the shop's endpoint and signed as Standard Webhooks are",
    tags: ['Back office'],
    security: [],
    parameters: [
      {
        name: 'webhook-id',
        in: 'header',
        required: true,
        description: "The event's id, the same at each attempt.",
        schema: text,
      },
      {
        name: 'webhook-timestamp',
        in: 'header',
        required: true,
        description: 'Unix seconds of this attempt.',
        schema: text,
      },
      {
        name: 'webhook-signature',
        in: 'header',
        required: true,
        description: '`v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64.',
        schema: text,
      },
    ],
    requestBody: {
      required: true,
      content: {
        'application/json': {
          schema: PUSHED_EVENT,
          example: { ...example, timestamp: example.occurredAt },
        },
      },
    },
    responses: {
      '2XX': { description: 'It is safe, and is not sent again.' },
      '410': { description: 'The endpoint is gone, and is disabled.' },
    },
  };
}
