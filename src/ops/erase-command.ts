/** `ops erase`: erases a person on request; the books still add up. */

import type { Command } from 'commander';
import { userIdSchema } from '../domain/ids.ts';
import { erasePerson, type EraseOutcome } from '../reconcile/erase-person.ts';
import { asAction, readDecision } from './arguments.ts';
import { OpsError, UsageError } from './errors.ts';
import type { Shell } from './program.ts';
import { withProgress } from './progress.ts';
import { hang } from './terminal.ts';

export function addEraseCommand(program: Command, { terminal, user, run }: Shell): void {
  asAction(program.command('erase'), user)
    .description('erases a person: their orders stay in the books under a random name')
    .argument('<userId>', 'as the subject of the shopper token')
    .addHelpText('after', '\nExample:\n  ops erase shopper-17 --reason "asked for it, ticket 4711"')
    .action((userId: string, options: unknown) =>
      run(async (parts) => {
        if (!userIdSchema.safeParse(userId).success) throw new UsageError(`${userId} is no user id.`);
        const stores = await parts.stores();
        const outcome = await withProgress(terminal, 'erasing', () =>
          erasePerson(stores, userId, readDecision(options)),
        );
        terminal.out(hang('', describeErased(outcome), terminal.columns));
        return true;
      }),
    );
}

/** @throws OpsError when the person was not erased */
function describeErased(outcome: EraseOutcome): string {
  switch (outcome.kind) {
    case 'erased':
      return `Erased. What stays in the books (orders: ${outcome.orders}) is under ${outcome.token}.`;
    case 'busy':
      throw new OpsError(
        `An order of that person has not ended yet; erase them when it has: ${outcome.orderNos.join(', ') || 'accepted, not stored'}.`,
      );
    case 'unknown':
      throw new OpsError('No store has anything of that person.');
    default:
      return outcome satisfies never;
  }
}
