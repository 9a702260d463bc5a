/** Rows of `reversals`, written as the provider reports them, in any order and any number of times. */

import { z } from 'zod';
import { modify, selectRows, type Pool, type PoolConnection } from '../mysql/connection.ts';
import { REVERSAL_STATUSES, type Reversal } from './payment.ts';
import type { Payment } from './rows.sql.ts';

/**
 * Whether the values of an insert are newer than the row. A later statement of the provider is. Of one time,
 * or of no time as those about refunds, only a greater status is.
 */
const IS_NEWER = `IF(as_of <> VALUES(as_of), VALUES(as_of) > as_of, FIELD(VALUES(status), ?) > FIELD(status, ?))`;

const IS_THIS = 'provider = ? AND provider_payment_id = ? AND kind = ? AND provider_reversal_id = ?';

/** @returns those that changed a row, and whether a pending refund came into an unknown state or left it */
export async function upsertReversals(
  connection: PoolConnection,
  provider: string,
  reversals: readonly Reversal[],
): Promise<{ changed: Reversal[]; hasNewState: boolean }> {
  const changed: Reversal[] = [];
  let hasNewState = false;
  for (const reversal of reversals) {
    const { kind, providerReversalId, providerPaymentId, asOfMs, fee } = reversal;
    const asOf = asOfMs === undefined ? null : new Date(asOfMs);
    // The amount is set first, because the status from before decides about it.
    const affected = await modify(
      connection,
      `INSERT INTO reversals (provider, provider_reversal_id, kind, provider_payment_id, amount, currency, status, as_of)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE
         amount = IF(${IS_NEWER}, VALUES(amount), amount), status = IF(${IS_NEWER}, VALUES(status), status)`,
      [
        provider,
        providerReversalId,
        kind,
        providerPaymentId,
        reversal.amount,
        reversal.currency,
        reversal.status,
        asOf,
        ...Array.from({ length: 4 }, () => REVERSAL_STATUSES),
      ],
    );
    if (affected > 0) changed.push(reversal);
    const which = [provider, providerPaymentId, kind, providerReversalId];
    // A time alone, or a fee, is no news of the money.
    if (asOf)
      await modify(
        connection,
        `UPDATE reversals SET updated_at = updated_at, as_of = ? WHERE ${IS_THIS} AND (as_of IS NULL OR as_of < ?)`,
        [asOf, ...which, asOf],
      );
    if (kind === 'refund' && reversal.status === 'pending') {
      const isNew = await recordState(connection, which, reversal.unknownState ?? null);
      hasNewState = hasNewState || isNew;
    }
    if (fee !== undefined)
      await modify(connection, `UPDATE reversals SET fee = ? WHERE ${IS_THIS}`, [fee, ...which]);
  }
  return { changed, hasNewState };
}

/** @returns whether it was another one before */
async function recordState(
  connection: PoolConnection,
  which: readonly string[],
  unknownState: string | null,
): Promise<boolean> {
  const affected = await modify(
    connection,
    `UPDATE reversals SET updated_at = updated_at, unknown_state = ?,
       unknown_since = IF(? IS NULL, NULL, COALESCE(unknown_since, NOW(3)))
     WHERE ${IS_THIS} AND status = 'pending' AND NOT (unknown_state <=> ?)`,
    [unknownState, unknownState, ...which, unknownState],
  );
  return affected > 0;
}

const unclearRow = z.object({ id: z.string(), amount: z.int(), currency: z.string(), state: z.string() });

/** A refund that has been for long in a state at the provider that is not known. Amount in minor units. */
export type UnclearRefund = z.infer<typeof unclearRow>;

/**
 * After so long in a state that is not known a refund is shown to an operator. Stripe may give a refund that
 * it is still making no state, which takes moments; a word that was added does not become known by waiting.
 */
const UNCLEAR_AFTER_SECONDS = 60 * 60;

/** Empty while something else of the payment is pending: that may end, and is looked at again. */
export async function listUnclear(
  pool: Pool,
  { provider, providerPaymentId }: Pick<Payment, 'provider' | 'providerPaymentId'>,
): Promise<UnclearRefund[]> {
  const pending = await selectRows(
    pool,
    unclearRow.extend({ state: z.string().nullable() }),
    `SELECT provider_reversal_id AS id, amount, currency,
       IF(kind = 'refund' AND unknown_since <= NOW(3) - INTERVAL ? SECOND, unknown_state, NULL) AS state
     FROM reversals FORCE INDEX (reversals_of_payment)
     WHERE provider = ? AND provider_payment_id = ? AND status = 'pending'`,
    [UNCLEAR_AFTER_SECONDS, provider, providerPaymentId],
  );
  const unclear = pending.flatMap(({ state, ...refund }) => (state === null ? [] : [{ ...refund, state }]));
  return unclear.length < pending.length ? [] : unclear;
}
