/** What waits for an operator, and the record of what operators and their systems did. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { MAX_DECISION_CHARS } from '../limits.ts';
import { type PoolConnection, atomically, modify, selectRows, type Executor } from '../mysql/connection.ts';
import { parseOrderNo } from '../orders/order.ts';
import { recordShopEvent } from '../sales/rows.sql.ts';

/**
 * payment: the rules could not settle it. refund: its refund workflow keeps failing. Both refer to the
 * provider's payment id, and each is unparked only by the code that parks its kind. outbox_entry refers to
 * `<sale>.<shard>/<entry id>`, because an entry's id is unique in its stream alone. sale refers to
 * `<sale> <SKU>`, whose stock does not add up, or to a sale that is not compared. delivery refers to
 * `<endpoint>/<event id>`, or to an endpoint that is gone.
 */
export const PARKED_KINDS = ['payment', 'refund', 'order', 'outbox_entry', 'sale', 'delivery'] as const;
export type ParkedKind = (typeof PARKED_KINDS)[number];

/**
 * Stable codes: why work was parked, each with the sentence that the shop's consumers get. The reason and the
 * errors of an entry are for operators alone, as they may name addresses inside. docs/operations.md says what
 * to do about each.
 */
export const PARKED_CAUSES = {
  step_failing: 'a step of the order or the refund keeps failing, and is tried again',
  refund_slow: 'the provider accepted the refund and has not finished it within a day',
  refund_refused: 'the provider refused the refund, and would refuse the same again',
  refund_unclear: 'a refund has been for an hour in a state at the provider that is not known here',
  no_order_named: 'the payment names no order of any sale',
  wrong_amount: "the payment is not of the order's amount or currency",
  undecided: 'nothing could be decided about the payment for an hour, as its sale is not in Redis',
  order_damaged: 'Redis has the order, but not whole',
  order_lost: 'the order was accepted, and neither MySQL nor Redis has what is needed to go on',
  order_inconsistent: "the order's row, its events and its bookings contradict each other",
  stock_unexplained: 'counters, ledger and orders of a SKU contradict each other',
  sale_not_compared: 'the stores could not be compared for the sale, so drift in it is not seen',
  order_not_ours: 'the payment carries a signed order that is not ours',
  paid_order_refused: 'the order is paid, and MySQL refuses to store it',
  reversed: 'money went back that was not requested here; whether units may be sold again is open',
  reversed_before_applied: 'money of the payment went back before it paid for an order',
  refund_failed_later: 'a refund failed after it had succeeded',
  too_much_reversed: 'more goes back than was paid',
  workflow_stuck: "the order's workflow runs, long past its deadline, and does not end it",
  hold_lost: 'the order has ended, and the hold that was to be settled is not in Redis',
  outbox_entry_unreadable: 'Redis has no whole order of the number in the outbox',
  order_refused: 'the order lost its hold, and MySQL refuses its tombstone too',
  delivery_failing: 'no try of the schedule reached the endpoint',
  endpoint_gone: 'the endpoint answered that it is gone, and is disabled',
} as const;
export type ParkedCause = keyof typeof PARKED_CAUSES;

/** Why it was parked, and what the step was given: ids and amounts, never other data of a person. */
export interface ParkedFacts {
  cause: ParkedCause;
  inputs: Record<string, string | number | boolean | null>;
}

interface Opened {
  kind: ParkedKind;
  reference: string;
  facts: ParkedFacts;
}

/** Records the event, with the entry as it is parked now, and of its reason no more than the cause says. */
async function recordParkedOpened(
  connection: PoolConnection,
  parkedId: number,
  { kind, reference, facts: { cause, inputs } }: Opened,
): Promise<void> {
  const orderNo = kind === 'order' ? reference : asText(inputs['orderNo']);
  // A payment may name anything as its order. A number of Holdfast's names its sale.
  const parts = orderNo === undefined ? undefined : parseOrderNo(orderNo);
  await recordShopEvent(connection, {
    type: 'parked.opened',
    saleId: parts?.saleId ?? asText(inputs['saleId']) ?? null,
    subject: String(parkedId),
    data: {
      parked: {
        parkedId,
        kind,
        reference,
        cause,
        reason: PARKED_CAUSES[cause],
        inputs,
        ...(parts && { orderNo }),
      },
    },
  });
}

function asText(input: ParkedFacts['inputs'][string] | undefined): string | undefined {
  return typeof input === 'string' ? input : undefined;
}

/**
 * The end of a reason that leaves a decision to an operator: whether the units of a refunded order may be
 * sold again. Rows are found by it, so the text must stay as it is.
 */
export const STOCK_DECISION_PENDING = 'stock comes back only if you say so';

/** The width of the columns. */
const MAX_REASON_CHARS = 500;
const MAX_REFERENCE_CHARS = 255;
/** An input is an id or an amount. A longer one is cut, because it is only shown. */
const MAX_INPUT_CHARS = 255;
/** How often a failure of parked work is counted at most: often enough to see that it goes on. */
const NOTE_EVERY_SECONDS = 30;

const IS_OPEN = 'resolved_at IS NULL';
/** An operator has settled it for the very facts for which the rules would park it. */
const IS_SETTLED = `(settled_by = 'operator' AND resolved_at IS NOT NULL AND cause = VALUES(cause)
  AND inputs <=> VALUES(inputs))`;

/**
 * Parks something for an operator. While it is parked, its first reason and facts stay, and the newest error
 * is kept beside them. Parked again later, it gets new ones; unless an operator has resolved it for the same
 * facts, and then it stays resolved.
 */
export async function park(
  executor: Executor,
  kind: ParkedKind,
  reference: string,
  reason: string,
  facts: ParkedFacts,
): Promise<void> {
  await write(executor, { kind, reference, reason, facts, isKept: `${IS_OPEN} OR ${IS_SETTLED}` });
}

/** As `park`, but with the new reason and facts also when it is parked already. */
export async function parkAnew(
  executor: Executor,
  kind: ParkedKind,
  reference: string,
  reason: string,
  facts: ParkedFacts,
): Promise<void> {
  await write(executor, { kind, reference, reason, facts, isKept: IS_SETTLED });
}

interface Entry {
  kind: ParkedKind;
  reference: string;
  reason: string;
  facts: ParkedFacts;
  /** A condition in SQL: the entry keeps its reason, facts and first time. */
  isKept: string;
}

/** Writes the entry, and an event where it becomes parked: it is new, or was settled before. */
async function write(executor: Executor, written: Entry): Promise<void> {
  const entry = cutEntry(written);
  await atomically(executor, async (connection) => {
    const before = await lockEntry(connection, entry);
    await upsert(connection, entry);
    const after = await readEntry(connection, entry);
    if (!before.isOpen && after.isOpen) await recordParkedOpened(connection, after.parkedId, entry);
  });
}

/** Locks the entry's row. Where there is none it makes one, settled, so that rivals wait for this caller. */
async function lockEntry(connection: PoolConnection, entry: Entry): Promise<OpenOrNot> {
  await modify(
    connection,
    `INSERT INTO parked (kind, reference, reason, resolved_at) VALUES (?, ?, '', NOW(3))
     ON DUPLICATE KEY UPDATE parked_id = parked_id`,
    [entry.kind, entry.reference],
  );
  return readEntry(connection, entry);
}

const openRow = z
  .object({ parked_id: z.int(), is_open: z.int() })
  .transform((row) => ({ parkedId: row.parked_id, isOpen: row.is_open === 1 }));
type OpenOrNot = z.infer<typeof openRow>;

async function readEntry(connection: PoolConnection, { kind, reference }: Entry): Promise<OpenOrNot> {
  const [row] = await selectRows(
    connection,
    openRow,
    `SELECT parked_id, ${IS_OPEN} AS is_open FROM parked WHERE kind = ? AND reference = ?`,
    [kind, reference],
  );
  assert(row, `parked ${kind} ${reference} is gone although its row is locked`);
  return row;
}

/**
 * Each assignment sees those before it. The columns that the condition reads come last, `settled_by` first
 * of them: without it the condition is false for the others as well.
 */
async function upsert(
  connection: PoolConnection,
  { kind, reference, reason, facts, isKept }: Entry,
): Promise<void> {
  await modify(
    connection,
    `INSERT INTO parked (kind, reference, reason, cause, inputs, last_error, last_seen_at)
     VALUES (?, ?, ?, ?, ?, ?, NOW(3)) ON DUPLICATE KEY UPDATE
       reason = IF(${isKept}, reason, VALUES(reason)),
       parked_at = IF(${isKept}, parked_at, NOW(3)),
       times = IF(${isKept}, times + 1, 1),
       last_error = VALUES(last_error),
       last_seen_at = NOW(3),
       settled_by = IF(${isKept}, settled_by, NULL),
       cause = IF(${isKept}, cause, VALUES(cause)),
       inputs = IF(${isKept}, inputs, VALUES(inputs)),
       resolved_at = IF(${IS_SETTLED}, resolved_at, NULL)`,
    [kind, reference, reason, facts.cause, JSON.stringify(facts.inputs), reason],
  );
}

/** Ends the parking: the rules have settled the matter. */
export function unpark(executor: Executor, kind: ParkedKind, reference: string): Promise<void> {
  return unparkAll(executor, kind, [reference]);
}

/** As `unpark`, for at least one. */
export async function unparkAll(
  executor: Executor,
  kind: ParkedKind,
  references: readonly string[],
): Promise<void> {
  await modify(
    executor,
    `UPDATE parked SET resolved_at = COALESCE(resolved_at, NOW(3)), settled_by = 'rules'
     WHERE kind = ? AND reference IN (?)`,
    [kind, references.map((reference) => cutText(reference, MAX_REFERENCE_CHARS))],
  );
}

/** Whether a payment is parked for this cause now. */
export async function isParkedFor(
  executor: Executor,
  reference: string,
  cause: ParkedFacts['cause'],
): Promise<boolean> {
  const rows = await selectRows(
    executor,
    z.object({ parked_id: z.int() }),
    `SELECT parked_id FROM parked WHERE kind = 'payment' AND reference = ? AND ${IS_OPEN} AND cause = ?`,
    [cutText(reference, MAX_REFERENCE_CHARS), cause],
  );
  return rows.length > 0;
}

/**
 * Unparks a payment whose stock decision was made. A payment that is parked for another reason stays parked.
 */
export async function resolveStockDecision(executor: Executor, reference: string): Promise<void> {
  await modify(
    executor,
    `UPDATE parked SET resolved_at = NOW(3), settled_by = 'rules'
     WHERE kind = 'payment' AND reference = ? AND ${IS_OPEN} AND RIGHT(reason, CHAR_LENGTH(?)) = ?`,
    [reference, STOCK_DECISION_PENDING, STOCK_DECISION_PENDING],
  );
}

/**
 * Notes that parked work has failed once more. Work that is not parked is left alone, and a failure that
 * comes soon after the one before is not counted.
 */
export async function noteFailure(
  executor: Executor,
  kind: ParkedKind,
  reference: string,
  error: string,
): Promise<void> {
  await modify(
    executor,
    `UPDATE parked SET last_error = ?, last_seen_at = NOW(3), times = times + 1
     WHERE kind = ? AND reference = ? AND ${IS_OPEN} AND last_seen_at < NOW(3) - INTERVAL ? SECOND`,
    [cutText(error, MAX_REASON_CHARS), kind, cutText(reference, MAX_REFERENCE_CHARS), NOTE_EVERY_SECONDS],
  );
}

function cutEntry({ kind, reference, reason, facts, isKept }: Entry): Entry {
  const inputs = Object.entries(facts.inputs).map(([name, value]) => [
    name,
    typeof value === 'string' ? cutText(value, MAX_INPUT_CHARS) : value,
  ]);
  return {
    kind,
    reference: cutText(reference, MAX_REFERENCE_CHARS),
    reason: cutText(reason, MAX_REASON_CHARS),
    facts: { cause: facts.cause, inputs: Object.fromEntries(inputs) },
    isKept,
  };
}

/** JavaScript counts a character outside the basic plane as two, MySQL as one: so it always fits. */
function cutText(text: string, chars: number): string {
  return text.slice(0, chars);
}

/** Who decided something, and why. */
export interface Decision {
  /**
   * The operator, by the subject of their token, or the name that was given with `ops erase`; `holdfast` for
   * what the system repaired by itself.
   */
  actor: string;
  /** Null: none was given. */
  reason: string | null;
}

/** What the system repairs by itself. */
export type RepairAction =
  | 'hold_settled'
  | 'hold_restored'
  | 'order_requeued'
  | 'order_abandoned'
  | 'deadline_dropped'
  | 'stock_corrected'
  | 'limit_corrected'
  | 'counters_corrected'
  | 'workflow_lost';

/** What is done to an endpoint of push. */
export type EndpointAction =
  | 'endpoint_created'
  | 'endpoint_changed'
  | 'endpoint_removed'
  | 'endpoint_enabled'
  | 'endpoint_disabled'
  | 'secret_rotated'
  | 'secret_retired'
  | 'events_replayed';

interface Action extends Decision {
  action:
    | 'cancel_requested'
    | 'deadline_extended'
    | 'refund_requested'
    | 'refund_withdrawn'
    | 'stock_returned'
    | 'parked_retried'
    | 'parked_resolved'
    | 'sale_rebuilt'
    | 'commits_lost'
    | 'numbers_left_out'
    | 'reconcile_requested'
    | 'rebuild_requested'
    | 'person_erased'
    | 'sale_created'
    | 'sale_changed'
    | 'sale_change_refused'
    | 'sale_taken_over'
    | 'sale_archived'
    | 'called_off'
    | 'call_off_ended'
    | RepairAction
    | EndpointAction;
  /**
   * An orderNo, `payment <paymentId>`, `parked <parkedId>`, `sale <saleId>`, `sale <saleId> <SKU>`,
   * `reconciliation`, `mysql`, or `endpoint <name>`.
   */
  subject: string;
  /** With what was before and after. */
  detail: Record<string, unknown>;
}

/** The widths of the columns. */
const MAX_ACTOR_CHARS = 255;
const MAX_SUBJECT_CHARS = 255;

/** Writes the entry in the transaction of the change itself, so that neither exists without the other. */
export async function recordAction(connection: Executor, action: Action): Promise<void> {
  await modify(
    connection,
    'INSERT INTO audit_log (actor, action, subject, reason, detail) VALUES (?, ?, ?, ?, ?)',
    [
      action.actor.slice(0, MAX_ACTOR_CHARS),
      action.action,
      action.subject.slice(0, MAX_SUBJECT_CHARS),
      action.reason?.slice(0, MAX_DECISION_CHARS) ?? null,
      JSON.stringify(action.detail),
    ],
  );
}
