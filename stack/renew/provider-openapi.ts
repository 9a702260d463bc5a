/** Renders docs/provider-openapi.json from the schemas by which Holdfast reads and writes the messages. */

import { z } from 'zod';
import { MAX_WEBHOOK_BYTES } from '../../src/api/calls/webhooks.ts';
import { IDEMPOTENCY_KEY_PATTERN } from '../../src/orders/content.ts';
import {
  moneyNoticeSchema,
  alreadyPaidReplySchema,
  paymentsQuerySchema,
  paymentsReplySchema,
  problemReplySchema,
  refundRequestSchema,
  refusalCodeSchema,
  reversalReplySchema,
  reversalsQuerySchema,
  reversalsReplySchema,
  sessionRefusalCodeSchema,
  sessionReplySchema,
  sessionRequestSchema,
  voidReplySchema,
} from '../../src/providers/remote-wire.ts';

const SCHEMAS = {
  SessionRequest: sessionRequestSchema,
  Session: sessionReplySchema,
  SessionRefused: problemReplySchema.extend({ code: sessionRefusalCodeSchema }),
  Voided: voidReplySchema,
  AlreadyPaid: alreadyPaidReplySchema,
  RefundRequest: refundRequestSchema,
  Reversal: reversalReplySchema,
  Reversals: reversalsReplySchema,
  RefundRefused: problemReplySchema.extend({ code: refusalCodeSchema }),
  Payments: paymentsReplySchema,
  Problem: problemReplySchema,
  Notice: moneyNoticeSchema,
};
type SchemaName = keyof typeof SCHEMAS;

const fields = z.object({
  properties: z.record(z.string(), z.looseObject({ description: z.string().optional() })),
  required: z.array(z.string()).optional(),
});

/** As the sender may write it: what has a default may be left out. */
function toSchema(schema: z.ZodType): Record<string, unknown> {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input' });
  return rest;
}

function body(name: SchemaName, type = 'application/json') {
  return { content: { [type]: { schema: { $ref: `#/components/schemas/${name}` } } } };
}

const reply = (description: string, name: SchemaName) => ({ description, ...body(name) });
const refusal = (description: string, name: SchemaName = 'Problem') => ({
  description,
  ...body(name, 'application/problem+json'),
});

function queryOf(schema: z.ZodType) {
  const { properties, required = [] } = fields.parse(toSchema(schema));
  return Object.entries(properties).map(([name, { description, ...shape }]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    ...(description !== undefined && { description }),
    schema: shape,
  }));
}

const IDEMPOTENCY_KEY = {
  name: 'Idempotency-Key',
  in: 'header',
  required: true,
  description:
    'The same key with the same terms returns what the first call did, and does nothing more; with other terms it is refused with `idempotency_key_reused`. To be remembered for as long as the session or payment is.',
  schema: { type: 'string', pattern: IDEMPOTENCY_KEY_PATTERN.source },
};

/** Answers that each call may have. Any other status leaves the outcome unknown: the call is repeated. */
const ANY_CALL = {
  '401': refusal('The key is missing or wrong.'),
  '429': {
    ...refusal('Too many calls. Nothing was done; `Retry-After` says for how many seconds no call comes.'),
    headers: { 'Retry-After': { schema: { type: 'integer', minimum: 1 } } },
  },
  '5XX': refusal('What was done is not known; the call is repeated, under the same key.'),
};

const paths = {
  '/v1/payment_sessions': {
    post: {
      operationId: 'openSession',
      summary: 'Opens a page on which the shopper pays for one order.',
      parameters: [IDEMPOTENCY_KEY],
      requestBody: { required: true, ...body('SessionRequest') },
      responses: {
        '201': reply('It was opened.', 'Session'),
        '200': reply('It was opened before, under this key.', 'Session'),
        '4XX': refusal('With one of these codes nothing was opened for certain.', 'SessionRefused'),
        ...ANY_CALL,
      },
    },
  },
  '/v1/payment_sessions/{id}/void': {
    post: {
      operationId: 'voidSession',
      summary: 'Closes a session for good: it takes no payment any more. A repeat has the same answer.',
      parameters: [{ name: 'id', in: 'path', required: true, schema: { type: 'string' } }],
      responses: {
        '200': reply('It is closed, now or before, or has expired.', 'Voided'),
        '409': {
          description:
            '`already_paid`: it was paid before, and the payment counts. Any other code, as `payment_processing`: it is not decided yet, and the call is repeated.',
          content: {
            'application/problem+json': {
              schema: {
                anyOf: [
                  { $ref: '#/components/schemas/AlreadyPaid' },
                  { $ref: '#/components/schemas/Problem' },
                ],
              },
            },
          },
        },
        ...ANY_CALL,
      },
    },
  },
  '/v1/refunds': {
    post: {
      operationId: 'refund',
      summary: 'Sends money of a payment back to the payer.',
      parameters: [IDEMPOTENCY_KEY],
      requestBody: { required: true, ...body('RefundRequest') },
      responses: {
        '201': reply('It was made, or is under way (`pending`).', 'Reversal'),
        '200': reply('It was made before, under this key.', 'Reversal'),
        '4XX': refusal('With one of these codes nothing was refunded for certain.', 'RefundRefused'),
        ...ANY_CALL,
      },
    },
  },
  '/v1/reversals': {
    get: {
      operationId: 'listReversals',
      summary: 'All refunds of a payment, those of your staff too, and all disputes about it.',
      parameters: queryOf(reversalsQuerySchema),
      responses: { '200': reply('All of them.', 'Reversals'), ...ANY_CALL },
    },
  },
  '/v1/payments': {
    get: {
      operationId: 'listPayments',
      summary: 'The payments that were collected, oldest first, page by page.',
      description:
        'A payment that is collected while the pages are read may come in a later page, but none may be left out and none may change its place.',
      parameters: queryOf(paymentsQuerySchema),
      responses: { '200': reply('A page.', 'Payments'), ...ANY_CALL },
    },
  },
};

const webhooks = {
  notice: {
    post: {
      operationId: 'notice',
      summary: 'What the provider reports, to `POST /v1/webhooks/payments` of Holdfast.',
      description: `Signed as Standard Webhooks are, over the bytes of the body, of which there are at most ${MAX_WEBHOOK_BYTES}. To be repeated, under the same id and with a fresh timestamp, until it is answered with 2xx: for a day at least. The order of notices does not matter. A notice of another type is recorded and ignored.`,
      parameters: [
        {
          name: 'webhook-id',
          in: 'header',
          required: true,
          description: 'The id of the notice, the same in each repeat.',
          schema: { type: 'string', minLength: 1, maxLength: 128 },
        },
        {
          name: 'webhook-timestamp',
          in: 'header',
          required: true,
          description: 'Unix time in seconds of this attempt; five minutes from ours at most.',
          schema: { type: 'string', pattern: '^\\d+$' },
        },
        {
          name: 'webhook-signature',
          in: 'header',
          required: true,
          description:
            '`v1,` and the base64 of HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`, with the bytes that the secret has in base64 after `whsec_`; several signatures are separated by spaces.',
          schema: { type: 'string' },
        },
      ],
      requestBody: { required: true, ...body('Notice') },
      responses: {
        '204': { description: 'It is recorded for good.' },
        '400': { description: 'It is signed, and of an unknown shape: a repeat has the same answer.' },
        '401': { description: 'It is not signed with one of `WEBHOOK_SECRETS`, or its timestamp is old.' },
        '503': { description: 'Not now: repeat it after `Retry-After`.' },
      },
    },
  },
};

export function renderProviderApi() {
  return {
    openapi: '3.1.0',
    info: {
      title: 'A payment provider for Holdfast',
      version: '1',
      description:
        'What a server has to offer that Holdfast calls with `PAYMENT_PROVIDER=remote`. docs/payments.md says how to build one. Members that are not named here are ignored.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    security: [{ key: [] }],
    paths,
    webhooks,
    components: {
      securitySchemes: {
        key: { type: 'http', scheme: 'bearer', description: '`PAYMENT_PROVIDER_API_KEY` of Holdfast.' },
      },
      schemas: Object.fromEntries(Object.entries(SCHEMAS).map(([name, schema]) => [name, toSchema(schema)])),
    },
  };
}
