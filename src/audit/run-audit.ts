/** Audits sales of a running system: looks at them again and again, and reports only what stays wrong. */

import { setTimeout as delay } from 'node:timers/promises';
import {
  type Finding,
  type Rule,
  type SaleSnapshot,
  beginLook,
  type AuditDeps,
  type Subject,
} from './look.ts';
import {
  booksBalance,
  moneyWasKeptForSomething,
  refundsAreCovered,
  restockedIsReturned,
  returnedIsKnown,
  unwantedReversalsAreShown,
  collectedIsKnown,
  knownWasCollected,
  ordersShowTheirMoney,
  paidOrdersArePaidOnce,
  parkedMoneyIsShown,
  paymentsEndSomewhere,
} from './money-rules.ts';
import {
  changesAreInFeed,
  eventsKeepOrder,
  feedIsWhole,
  parkedHasEvent,
  acceptedExist,
  calledOffIsOver,
  historiesAreWhole,
  holdsMatchOrders,
  openOrdersHoldStock,
  openOrdersMove,
  ordersEndInTime,
  projectionIsTrue,
  totalsAreSums,
  unbegunOrdersEnd,
  workflowsHaveOrders,
  ledgerAddsUp,
  limitsAreTrue,
  ordersAccountForStock,
  stockAddsUp,
  listLost,
} from './order-rules.ts';

/** The rules by name, in the order in which findings are listed: stock, orders, money, limits, events. */
const RULES: Record<string, Rule> = {
  'stock adds up': stockAddsUp,
  'the ledger adds up': ledgerAddsUp,
  'orders account for the stock': ordersAccountForStock,
  'accepted orders exist': acceptedExist,
  'open orders move': openOrdersMove,
  'orders end in time': ordersEndInTime,
  'orders that never began end': unbegunOrdersEnd,
  'what is called off is over': calledOffIsOver,
  'histories are whole': historiesAreWhole,
  'totals are the sums of their lines': totalsAreSums,
  'open orders hold stock': openOrdersHoldStock,
  'holds end as their orders': holdsMatchOrders,
  'the projection is true': projectionIsTrue,
  'workflows have orders': workflowsHaveOrders,
  'collected money is known': collectedIsKnown,
  'known money was collected': knownWasCollected,
  'payments end somewhere': paymentsEndSomewhere,
  'parked money is shown': parkedMoneyIsShown,
  'paid orders are paid once': paidOrdersArePaidOnce,
  'orders show their money': ordersShowTheirMoney,
  'what went back is known': returnedIsKnown,
  'money was kept for something': moneyWasKeptForSomething,
  'reversed money of a paid order is shown': unwantedReversalsAreShown,
  'refunds are covered': refundsAreCovered,
  'restocked units are returned': restockedIsReturned,
  'the books balance': booksBalance,
  'limits are true': limitsAreTrue,
  'no change without its event': changesAreInFeed,
  'events keep the order of versions': eventsKeepOrder,
  'the feed is whole': feedIsWhole,
  'what is parked has an event': parkedHasEvent,
};

export const RULE_NAMES = Object.keys(RULES);

export function auditSale(sale: SaleSnapshot): Finding[] {
  return Object.entries(RULES).flatMap(([rule, check]) =>
    check(sale).map((finding) => ({ rule, ...finding })),
  );
}

/**
 * How long a finding may take to disappear. A step between two stores, or a notice on its way, takes seconds.
 */
const SETTLE_MS = 15_000;
const LOOK_EVERY_MS = 500;

export interface SaleAudit {
  saleId: string;
  orders: number;
  payments: number;
  /** Orders that were paid before a workflow of them began: they need none. */
  paidWithoutWorkflow: number;
  /** Accepted orders that were lost with the data of Redis, or of both stores. */
  lost: string[];
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
    const [orders, payments, lost] = [mysql.orders.length, collected.length, listLost(sale)];
    const paidWithoutWorkflow = mysql.orders.filter(
      ({ status, isUnbegun }) => status === 'paid' && isUnbegun,
    ).length;
    audits.set(subject, { saleId, orders, payments, paidWithoutWorkflow, lost, findings });
  }
  return audits;
}

/** Of the same rule about the same subject; the detail may have changed, and the latest is shown. */
function findBoth(before: SaleAudit | undefined, latest: readonly Finding[]): Finding[] {
  const keyOf = ({ rule, subject }: Finding) => `${rule}\n${subject}`;
  const known = new Set(before?.findings.map(keyOf));
  return latest.filter((finding) => known.has(keyOf(finding)));
}
