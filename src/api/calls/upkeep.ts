/** The upkeep that runs by itself, asked for by staff: a run of the reconciliation, the rebuild of a sale. */

import { z } from 'zod';
import { saleIdSchema } from '../../orders/content.ts';
import { recordAction } from '../../parked/parked.sql.ts';
import { reply } from '../http/answer.ts';
import { count, time } from '../http/replies.ts';
import { adminCall, type AdminCalls, ofSale, reasonBody } from './call.ts';

export const reconcileReply = z
  .strictObject({
    runId: z
      .string()
      .nullable()
      .meta({ description: 'The run that began last; null: none has.', examples: ['0199-4a'] }),
    startedAt: time.nullable().describe('When it began.'),
    endedAt: time.nullable().meta({ description: 'When it ended; null: it goes on.', examples: [null] }),
    steps: z
      .array(
        z.strictObject({
          step: z.string().meta({ description: 'The name of the step.', examples: ['holds'] }),
          looked: count.describe('Things that it looked at.'),
          repaired: count.describe('What it repaired.'),
          parked: count.describe('What it parked.'),
          failed: z
            .string()
            .nullable()
            .meta({ description: 'Why it failed; null: it did not.', examples: [null] }),
        }),
      )
      .nullable()
      .describe('What each step did; null: the run goes on, or was ended from outside.'),
  })
  .meta({ id: 'Reconciliation', description: 'The latest run of the reconciliation.' });

export const reconcileRequestedReply = z
  .strictObject({
    latestRunId: z
      .string()
      .nullable()
      .meta({
        description:
          'The run that had begun last; the one that was asked for begins after it. Null: there was none.',
        examples: [null],
      }),
  })
  .describe('What was the latest run.');

const rebuildReply = z
  .strictObject({
    saleId: saleIdSchema,
    epoch: z.int().min(1).describe('Its epoch before; the rebuild begins the next one.'),
  })
  .describe('The sale that is rebuilt.');

export const upkeepCalls = {
  'GET /v1/admin/reconcile': adminCall({
    id: 'getReconcile',
    does: 'The latest run of the reconciliation, and what each of its steps did',
    scope: 'status:read',
    replies: { 200: reconcileReply },
    away: 'status_unavailable',
    refuses: {},
    async answer({ engine }) {
      const run = await engine.readReconcile();
      const outcomes = run?.outcomes && Object.entries(run.outcomes);
      return reply({
        runId: run?.runId ?? null,
        startedAt: run?.startedAt.toISOString() ?? null,
        endedAt: run?.endedAt?.toISOString() ?? null,
        steps:
          outcomes?.map(([step, outcome]) => ({
            step,
            ...('failed' in outcome
              ? { looked: 0, repaired: 0, parked: 0, ...outcome }
              : { ...outcome, failed: null }),
          })) ?? null,
      });
    },
  }),
  'POST /v1/admin/reconcile': adminCall({
    id: 'requestReconcile',
    does: 'Has the reconciliation run once more, at once or after the run that is under way',
    scope: 'parked:write',
    body: { schema: reasonBody },
    replies: { 202: reconcileRequestedReply },
    away: 'decision_unavailable',
    refuses: {},
    /** The schedule runs it, in a worker. */
    async answer({ engine, pool }, { body: { reason }, actor }) {
      const latest = await engine.readReconcile();
      const action = { action: 'reconcile_requested', subject: 'reconciliation', detail: {} } as const;
      await engine.requestReconcile();
      await recordAction(pool, { actor, reason, ...action });
      return reply({ latestRunId: latest?.runId ?? null }, 202);
    },
  }),
  'POST /v1/admin/sales/:saleId/rebuild': adminCall({
    id: 'rebuildSale',
    does: "Has a worker rebuild a sale's data in Redis from MySQL; the sale pauses meanwhile",
    scope: 'sales:write',
    params: ofSale,
    body: { schema: reasonBody },
    replies: { 202: rebuildReply },
    away: 'decision_unavailable',
    refuses: { unknown: 'sale_not_found', 'not-watched': 'not_rebuildable' },
    async answer({ saleEpochs }, { params: { saleId }, body: { reason }, actor }) {
      const outcome = await saleEpochs.request(saleId, { actor, reason });
      return 'epoch' in outcome ? reply({ saleId, epoch: outcome.epoch }, 202) : outcome;
    },
  }),
} satisfies AdminCalls;
