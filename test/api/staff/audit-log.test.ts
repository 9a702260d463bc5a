/** The audit log over HTTP: by subject, by actor and by time, the newest first. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { auditLogReply } from '../../../src/api/calls/audit-log.ts';
import { modify } from '../../../src/mysql/connection.ts';
import { recordAction } from '../../../src/parked/parked.sql.ts';
import { refusalOf } from '../../support/shopper.ts';
import { openMysqlAway } from '../open-api.ts';
import { openStaffWorld, type StaffWorld } from './staff-world.ts';

let world: StaffWorld;
beforeAll(async () => {
  world = await openStaffWorld();
  const { pool } = world.stores;
  // Three entries a day, of which the first two are of one moment.
  for (const day of [1, 2, 3])
    for (const [actor, subject, hour] of [
      ['ada', 'sale summer', 10],
      ['olga', 'sale summer', 10],
      ['olga', 'parked 7', 11],
    ] as const) {
      const detail = { before: day, after: day + 1 };
      await recordAction(pool, { actor, subject, action: 'sale_changed', reason: `${day}`, detail });
      await modify(pool, 'UPDATE audit_log SET occurred_at = ? ORDER BY entry_id DESC LIMIT 1', [
        new Date(Date.UTC(2026, 0, day, hour)),
      ]);
    }
});

const read = async (query: string) => auditLogReply.parse((await world.get(`audit-log?${query}`)).body);
const shown = async (query: string) =>
  (await read(query)).entries.map(({ actor, subject, reason }) => `${reason} ${actor} ${subject}`);

test('an entry shows who did what to which subject, why, when, and what was before and after', async () => {
  const { entries } = await read('subject=parked%207&limit=1');
  expect(entries).toEqual([
    {
      entryId: expect.any(Number),
      actor: 'olga',
      action: 'sale_changed',
      subject: 'parked 7',
      reason: '3',
      detail: { before: 3, after: 4 },
      occurredAt: '2026-01-03T11:00:00.000Z',
    },
  ]);
});

test.each<[string, string[]]>([
  ['subject=parked%207', ['3 olga parked 7', '2 olga parked 7', '1 olga parked 7']],
  ['actor=ada', ['3 ada sale summer', '2 ada sale summer', '1 ada sale summer']],
  ['actor=ada&subject=parked%207', []],
  ['actor=olga&since=2026-01-03T11:00:00Z', ['3 olga parked 7']],
  ['since=2026-01-02T11:00:00Z&until=2026-01-03T10:00:00Z', ['2 olga parked 7']],
  ['subject=sale%20summer&until=2026-01-02T00:00:00%2B01:00', ['1 olga sale summer', '1 ada sale summer']],
])('staff find what %s names, the newest first', async (query, found) => {
  expect(await shown(query)).toEqual(found);
});

test('a page ends between entries of one moment, and the next one goes on there', async () => {
  const pages: string[] = [];
  for (let after = ''; ;) {
    const query = `since=2026-01-01T00:00:00Z&until=2026-01-04T00:00:00Z&limit=2${after}`;
    const { entries, next } = await read(query);
    pages.push(entries.map(({ reason, actor, subject }) => `${reason} ${actor} ${subject}`).join(', '));
    if (next === null) break;
    after = `&after=${next}`;
  }
  expect(pages).toEqual([
    '3 olga parked 7, 3 olga sale summer',
    '3 ada sale summer, 2 olga parked 7',
    '2 olga sale summer, 2 ada sale summer',
    '1 olga parked 7, 1 olga sale summer',
    '1 ada sale summer',
  ]);
});

test.each(['since=yesterday', 'limit=101', 'after=x', 'subject=', 'colour=red'])(
  'a query that is not as it must be, %s, is refused',
  async (query) => {
    expect(refusalOf(await world.get(`audit-log?${query}`))).toBe('400 invalid_request');
  },
);

test('while MySQL is away the log is not readable', async () => {
  const { pool, ...parts } = await openMysqlAway();
  onTestFinished(() => pool.end());
  const { url } = await world.api.withParts(parts);
  expect(refusalOf(await world.callsAt(url).get('audit-log'))).toBe('503 status_unavailable');
});
