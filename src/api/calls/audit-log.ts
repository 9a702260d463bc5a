/** The audit log: what staff and the system itself decided, by whom, why and when. */

import { z } from 'zod';
import type { AuditEntry } from '../../parked/audit-log.sql.ts';
import { reply } from '../http/answer.ts';
import { time, nextNumber, pageOf } from '../http/replies.ts';
import { moment, pageLimit, wholeNumber } from '../http/request.ts';
import { adminCall, type AdminCalls } from './call.ts';

/** Entries in one answer: some 100 KB. */
const MAX_ENTRIES_PAGE = 100;
/** The widths of the columns. */
const MAX_NAME_CHARS = 255;

export const auditEntryReply = z.strictObject({
  entryId: z.int().min(1).describe('The number of the entry.'),
  actor: z.string().meta({
    description: 'The subject of the token; `holdfast`: the system repaired it by itself.',
    examples: ['olga'],
  }),
  action: z.string().meta({ description: 'What was done.', examples: ['parked_resolved'] }),
  subject: z.string().meta({
    description: 'What it was done to: an orderNo, `payment 12`, `parked 7`, `sale summer`.',
    examples: ['parked 7'],
  }),
  reason: z
    .string()
    .nullable()
    .meta({ description: 'Why; null: none was given.', examples: ['mended by hand'] }),
  detail: z
    .record(z.string(), z.unknown())
    .meta({ description: 'What was before and after; differs by action.', examples: [{}] }),
  occurredAt: time.describe('When it was recorded.'),
});

export const auditLogReply = z
  .strictObject({
    entries: z.array(auditEntryReply).describe('The newest first.'),
    next: nextNumber,
  })
  .meta({ id: 'AuditLog', description: 'A page of the audit log.' });

const name = z.string().min(1).max(MAX_NAME_CHARS).optional();
const date = moment.transform((ms) => new Date(ms)).optional();

const logQuery = z.strictObject({
  subject: name.describe('What was done to this: an orderNo, `payment 12`, `parked 7`, `sale summer`.'),
  actor: name.describe('What this actor did.'),
  since: date.describe('From this time on.'),
  until: date.describe('Before this time.'),
  after: wholeNumber.optional().describe('Those after the page whose `next` this is.'),
  limit: pageLimit(MAX_ENTRIES_PAGE),
});

export const auditLogCalls = {
  'GET /v1/admin/audit-log': adminCall({
    id: 'listAuditLog',
    does: 'What staff and the system decided, by subject, actor and time, a page at a time',
    scope: 'audit:read',
    query: logQuery,
    replies: { 200: auditLogReply },
    away: 'status_unavailable',
    refuses: {},
    async answer({ auditLog }, { query: { limit, ...search } }) {
      const found = await auditLog.list(search, limit + 1);
      const { page, next } = pageOf(found, limit, ({ entryId }) => entryId);
      return reply({ entries: page.map(viewAuditEntry), next });
    },
  }),
} satisfies AdminCalls;

export function viewAuditEntry({ occurredAt, ...entry }: AuditEntry): z.infer<typeof auditEntryReply> {
  return { ...entry, occurredAt: occurredAt.toISOString() };
}
