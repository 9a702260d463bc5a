/** Audits sales of a running system: looks at them again and again, and reports only what stays wrong. */

import { setTimeout as delay } from 'node:timers/promises';
import { auditSale } from './audit-sale.ts';
import { beginLook, type AuditDeps, type Subject } from './look.ts';
import { countLost } from './order-rules.ts';
import type { Finding } from './snapshot.ts';

/**
 * How long a finding may take to disappear. A step between two stores, or a notice on its way, takes seconds.
 */
const SETTLE_MS = 15_000;
const LOOK_EVERY_MS = 500;

export interface SaleAudit {
  saleId: string;
  orders: number;
  payments: number;
  /** Accepted orders that were lost with the data of Redis before they were stored. */
  lost: number;
  findings: Finding[];
}

/**
 * Audits the sale repeatedly, until it is clean or the time to settle is over.
 * @param settleMs may be shorter where the sale is known to be at rest
 */
export async function runAudit(
  deps: AuditDeps,
  saleId: string,
  accepted: readonly string[],
  settleMs = SETTLE_MS,
): Promise<SaleAudit> {
  return auditOne(deps, { kind: 'sale', saleId, accepted }, settleMs);
}

/** Audits the payments that name no sale of ours. They too must be known, and be parked or go back. */
export async function auditStrayMoney(deps: AuditDeps, settleMs = SETTLE_MS): Promise<SaleAudit> {
  return auditOne(deps, { kind: 'strays' }, settleMs);
}

async function auditOne(deps: AuditDeps, subject: Subject, settleMs: number): Promise<SaleAudit> {
  const [audit] = await auditAll(deps, [subject], settleMs);
  if (!audit) throw new Error('no audit of the subject');
  return audit;
}

/**
 * Audits all subjects side by side: each look reads what they share once, and then those that no look has
 * found clean yet. When the time to settle is over, what both of the last two looks found is a finding. What
 * one of them found alone was on its way.
 * @returns in the order of `subjects`
 */
export async function auditAll(
  deps: AuditDeps,
  subjects: readonly Subject[],
  settleMs = SETTLE_MS,
): Promise<SaleAudit[]> {
  const untilMs = Date.now() + settleMs;
  const audits = new Map<Subject, SaleAudit>();
  let before = new Map<Subject, SaleAudit>();
  for (let left = subjects; left.length > 0;) {
    const isLast = before.size > 0 && Date.now() >= untilMs;
    const latest = await lookAt(deps, left);
    for (const [subject, audit] of latest) {
      const { findings } = audit;
      if (isLast) audits.set(subject, { ...audit, findings: findBoth(before.get(subject), findings) });
      else if (findings.length === 0) audits.set(subject, audit);
    }
    left = subjects.filter((subject) => !audits.has(subject));
    before = latest;
    if (left.length > 0) await delay(LOOK_EVERY_MS);
  }
  return subjects.flatMap((subject) => audits.get(subject) ?? []);
}

/** One sale after the other, because a big one fills the memory. */
async function lookAt(deps: AuditDeps, subjects: readonly Subject[]): Promise<Map<Subject, SaleAudit>> {
  const look = await beginLook(deps);
  const audits = new Map<Subject, SaleAudit>();
  for (const subject of subjects) {
    const sale = await look(subject);
    const { saleId, mysql, collected } = sale;
    const findings = auditSale(sale);
    const [orders, payments, lost] = [mysql.orders.length, collected.length, countLost(sale)];
    audits.set(subject, { saleId, orders, payments, lost, findings });
  }
  return audits;
}

/** Of the same rule about the same subject; the detail may have changed, and the latest is shown. */
function findBoth(before: SaleAudit | undefined, latest: readonly Finding[]): Finding[] {
  const keyOf = ({ rule, subject }: Finding) => `${rule}\n${subject}`;
  const known = new Set(before?.findings.map(keyOf));
  return latest.filter((finding) => known.has(keyOf(finding)));
}
