/** `ops refund` and `ops return-stock`: the decisions about money and units that only an operator takes. */

import type { Command } from 'commander';
import { asAction, orderNo, readDecision, rowId } from './arguments.ts';
import { OpsError } from './errors.ts';
import type { Shell } from './program.ts';

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
