/** The operator's commands that send money back and put units on sale again. */

import { type Command, InvalidArgumentError } from 'commander';
import { z } from 'zod';
import {
  formatMoney,
  fingerprintOfRefund,
  refundRequestSchema,
  toRefundWish,
  type RefundRequest,
} from '../money/payment.ts';
import type { RequestRefundOutcome } from '../money/refunds.sql.ts';
import { amountRulesOf } from '../providers/open.ts';
import type { Shell } from './parts.ts';
import { asAction, orderNo, readDecision, rowId, OpsError, UsageError, hang } from './terminal.ts';

// `ops refund` and `ops return-stock`: the decisions about money and units that only an operator takes.

export function addMoneyCommands(program: Command, { terminal, user, run }: Shell): void {
  asAction(program.command('refund'), user)
    .description('sends a payment back to the payer')
    .argument('<paymentId>', 'as `ops order show` names it', rowId)
    .addHelpText('after', '\nExample:\n  ops refund 12 --reason "the parcel came back unopened"')
    .action((paymentId: number, options: unknown) =>
      run(async (parts) => {
        const { actor, reason } = readDecision(options);
        const outcome = await parts.mysql().refunds.request(paymentId, actor, reason);
        if (outcome === 'unknown') throw new OpsError(`There is no payment ${paymentId}.`);
        if (outcome === 'not-refundable')
          throw new OpsError(
            `Payment ${paymentId} cannot go back now: it did already, or its order decides.`,
          );
        terminal.out(`Payment ${paymentId} goes back; its refund is due, or was before.`);
        return true;
      }),
    );

  asAction(program.command('return-stock'), user)
    .description('puts the units of a refunded order on sale again')
    .argument('<orderNo>', 'a paid order whose money went back', orderNo)
    .addHelpText(
      'after',
      '\nExample:\n  ops return-stock demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG --reason "back in store"',
    )
    .action((number: string, options: unknown) =>
      run(async (parts) => {
        const { actor, reason } = readDecision(options);
        const outcome = await parts.mysql().refunds.returnStock(number, actor, reason);
        if (outcome === 'unknown') throw new OpsError(`There is no order ${number}.`);
        if (outcome === 'not-refunded')
          throw new OpsError('Only what was paid and refunded can be sold again.');
        terminal.out(`The units of ${number} are on sale again.`);
        return true;
      }),
    );
}

// `ops refund-order`: sends back all or a part of an order's money, as the HTTP call does.

interface Line {
  sku: string;
  quantity: number;
}

/** What commander makes of the options; `as` belongs to the decision. */
const refundOptions = z.object({
  amount: z.number().optional(),
  line: z.array(z.object({ sku: z.string(), quantity: z.number() })).optional(),
  charges: z.boolean().optional(),
  restock: z.boolean().optional(),
  restoreLimit: z.boolean().optional(),
});

const NOTES = `
The same command again, with the same reason, finds the same refund.

Examples:
  ops refund-order demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG --line lamp=1 \\
    --restock --reason "came back unopened"
  ops refund-order demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG --amount 500 \\
    --reason "a scratch, ticket 4711"`;

export function addRefundOrderCommand(program: Command, { terminal, user, run }: Shell): void {
  asAction(program.command('refund-order'), user)
    .description("sends back an order's money: all that is left, an amount, or that of lines")
    .argument('<orderNo>', 'a paid order', orderNo)
    .option('--amount <n>', 'so many minor units', minorUnits)
    .option('--line <sku=quantity>', 'units of a SKU; may be repeated', addLine)
    .option('--charges', "with lines and no amount: also the order's charges")
    .option('--restock', 'the units go on sale again once the money is back')
    .option('--restore-limit', "they no longer count against the user's limit")
    .option('--no-restore-limit', 'they still count; without either the sale decides')
    .addHelpText('after', NOTES)
    .action((number: string, options: unknown) =>
      run(async (parts) => {
        const decision = readDecision(options);
        const request = readRequest(options, decision.reason);
        const fingerprint = fingerprintOfRefund(request);
        // The reason is part of it, so two refunds that are alike but for it are two.
        const key = { idempotencyKey: `ops-${fingerprint}`, fingerprint };
        const outcome = await parts
          .mysql()
          .refunds.requestByOrder(
            number,
            toRefundWish(request),
            decision,
            key,
            amountRulesOf(parts.config.PAYMENT_PROVIDER).refundFault,
          );
        terminal.out(hang('', describe(number, outcome), terminal.columns));
        return true;
      }),
    );
}

function readRequest(options: unknown, reason: string | null): RefundRequest {
  const { line: lines, ...rest } = refundOptions.parse(options);
  const request = refundRequestSchema.safeParse({ ...rest, lines, reason: reason ?? undefined });
  if (request.success) return request.data;
  const [fault] = request.error.issues;
  const option =
    fault?.path[0] === 'lines' ? 'line' : String(fault?.path[0]).replace('restoreLimit', 'restore-limit');
  throw new UsageError(`--${option}: ${fault?.message}.`);
}

/** @throws OpsError when no refund came of it */
function describe(number: string, outcome: RequestRefundOutcome): string {
  switch (outcome.kind) {
    case 'requested':
    case 'repeated': {
      const { refundId, amount, status } = outcome.refund;
      const what = `Refund ${refundId} of ${formatMoney(amount, outcome.currency)}`;
      return outcome.kind === 'requested'
        ? `${what} for ${number} is requested.`
        : `${what} for ${number} was requested before, and is ${status}. Another reason makes another refund.`;
    }
    case 'unknown':
      throw new OpsError(`There is no order ${number}.`);
    case 'not-refundable':
      throw new OpsError('No payment of this order can be refunded now.');
    case 'charges-refunded':
      throw new OpsError('The charges of this order were refunded before.');
    case 'too-many':
      throw new OpsError('The order has as many refunds as it may have.');
    case 'exceeds':
      throw new OpsError(
        `Only ${formatMoney(outcome.refundable, outcome.currency)} are left to be refunded.`,
      );
    case 'not-taken':
      throw new OpsError(`The provider cannot send this amount back: ${outcome.fault}.`);
    case 'no-units':
      throw new OpsError(`Of ${outcome.sku} the order has ${outcome.refundable} units left to be refunded.`);
    case 'key-reused':
      throw new OpsError('The key of this refund was used for another.');
    default:
      return outcome satisfies never;
  }
}

function minorUnits(text: string): number {
  if (!/^\d{1,12}$/.test(text))
    throw new InvalidArgumentError('It is a whole number of minor units, as 1250.');
  return Number(text);
}

/** A SKU may have `=` in it, so the last one counts. */
function addLine(text: string, lines: readonly Line[] = []): Line[] {
  const at = text.lastIndexOf('=');
  const [sku, quantity] = [text.slice(0, Math.max(at, 0)), text.slice(at + 1)];
  if (sku === '' || !/^[1-9]\d{0,4}$/.test(quantity)) throw new InvalidArgumentError('It looks like lamp=2.');
  return [...lines, { sku, quantity: Number(quantity) }];
}
