/** `ops order show`: the whole life of one order from all stores, as a story. */

import type { Command } from 'commander';
import { z } from 'zod';
import { asRead, orderNo } from './arguments.ts';
import { OpsError } from './errors.ts';
import { readOrderLife, stateOf, type OrderLife } from './order-life.ts';
import { storyOf, type Moment } from './order-story.ts';
import { judge, type Verdict } from './order-verdict.ts';
import type { Shell } from './program.ts';
import { formatFields, formatTime, hang } from './terminal.ts';

const showOptions = z.object({ json: z.boolean() });

export function addOrderCommands(program: Command, { terminal, run }: Shell): void {
  const order = program.command('order').description('one order');
  asRead(order.command('show'))
    .description('its whole life from all stores, as a story, and what comes next')
    .argument('<orderNo>', 'as the shopper has it', orderNo)
    .addHelpText('after', '\nExample:\n  ops order show demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG')
    .action((number: string, options: unknown) =>
      run(async (parts) => {
        const life = await readOrderLife(parts, number);
        if (isUnknown(life)) throw new OpsError(`No store has an order ${number}.`);
        const [story, verdict] = [storyOf(life), judge(life, Date.now())];
        terminal.out(
          showOptions.parse(options).json
            ? JSON.stringify(
                { orderNo: number, state: stateOf(life) ?? null, story, ...verdict },
                undefined,
                2,
              )
            : print(life, story, verdict, terminal.columns),
        );
        return verdict.problems.length === 0;
      }),
    );
}

/** A store that is away might have it. */
function isUnknown({ mysql, redis, temporal }: OrderLife): boolean {
  const { stored, payments, parked } = mysql;
  if (stored || payments.length + parked.length > 0) return false;
  if (redis.kind === 'away' || temporal.kind === 'away') return false;
  return !redis.life.reserved && !redis.life.isDamaged && temporal.life.length === 0;
}

function print(life: OrderLife, story: readonly Moment[], verdict: Verdict, columns: number): string {
  const order =
    life.mysql.stored?.order ??
    (life.redis.kind === 'answered' ? life.redis.life.reserved?.order : undefined);
  const lines = [hang('', `Order ${life.orderNo}${order ? ` of ${order.userId}` : ''}`, columns), ''];
  let day = '';
  for (const { at, from, text } of story) {
    const [date = '', time = ''] = formatTime(at).split(' ');
    if (date !== day) lines.push(`${date} (UTC)`);
    day = date;
    lines.push(hang(`  ${time}  ${from.padEnd(8)}  `, text, columns));
  }
  const says = verdict.says.map(({ store, text }): [string, string] => [store, text]);
  lines.push('', 'Now', formatFields(says, columns), '');
  lines.push(verdict.problems.length === 0 ? 'The stores agree.' : 'Something is not as it should be:');
  for (const text of verdict.problems) lines.push(hang('  - ', text, columns));
  for (const text of verdict.next) lines.push(hang('', text, columns));
  return lines.join('\n');
}
