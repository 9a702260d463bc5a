/** `ops order show`, and what is decided about an order's money and units. */

import { hash } from 'node:crypto';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { z } from 'zod';
import { orderStoryReply, type OrderStoryReply } from '../api/calls/order-story.ts';
import { orderRefundReply } from '../api/calls/refunds.ts';
import { formatTime } from '../clock.ts';
import { formatMoney } from '../money/payment.ts';
import { SETTLEMENT_FORMATS } from '../money/settlement.ts';
import type { Shell } from './parts.ts';
import { asAction, asRead, formatFields, hang, orderNo, readReason, rowId, toJson } from './terminal.ts';

const showOptions = z.object({ json: z.boolean() });

export function addOrderCommands(program: Command, { terminal, call }: Shell): void {
  const order = program.command('order').description('one order');
  asRead(order.command('show'))
    .description('its whole life from all stores, as a story, and what comes next')
    .argument('<orderNo>', 'as the shopper has it', orderNo)
    .addHelpText('after', '\nExample:\n  ops order show demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG')
    .action((number: string, options: unknown) =>
      call(async (api) => {
        const { body } = await api.call(orderStoryReply, `orders/${number}/story`);
        terminal.out(showOptions.parse(options).json ? toJson(body) : describeStory(body, terminal.columns));
        return body.problems.length === 0;
      }),
    );
}

function describeStory({ orderNo: number, userId, story, ...verdict }: OrderStoryReply, columns: number) {
  const lines = [hang('', `Order ${number}${userId === null ? '' : ` of ${userId}`}`, columns), ''];
  let day = '';
  for (const { at, from, text } of story) {
    const [date = '', time = ''] = formatTime(new Date(at)).split(' ');
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

interface Line {
  sku: string;
  quantity: number;
}

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

export function addMoneyCommands(program: Command, { terminal, call }: Shell): void {
  asAction(program.command('refund'))
    .description('sends a payment back to the payer')
    .argument('<paymentId>', 'as `ops order show` names it', rowId)
    .addHelpText('after', '\nExample:\n  ops refund 12 --reason "the parcel came back unopened"')
    .action((paymentId: number, options: unknown) =>
      call(async (api) => {
        await api.send(`payments/${paymentId}/refund`, { body: readReason(options) });
        terminal.out(`Payment ${paymentId} goes back; its refund is due, or was before.`);
        return true;
      }),
    );

  asAction(program.command('return-stock'))
    .description('puts the units of a refunded order on sale again')
    .argument('<orderNo>', 'a paid order whose money went back', orderNo)
    .addHelpText(
      'after',
      '\nExample:\n  ops return-stock demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG --reason "back in store"',
    )
    .action((number: string, options: unknown) =>
      call(async (api) => {
        await api.send(`orders/${number}/return-stock`, { body: readReason(options) });
        terminal.out(`The units of ${number} are on sale again.`);
        return true;
      }),
    );

  asAction(program.command('refund-order'))
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
      call(async (api) => {
        const { line: lines, ...rest } = refundOptions.parse(options);
        const body = { ...rest, lines, ...readReason(options) };
        // The reason is part of it, so two refunds that are alike but for it are two.
        const headers = { 'idempotency-key': `ops-${hash('sha256', JSON.stringify(body), 'base64url')}` };
        const reply = await api.call(orderRefundReply, `orders/${number}/refunds`, { body, headers });
        const { refundId, amount, currency, status } = reply.body;
        const what = `Refund ${refundId} of ${formatMoney(amount, currency)} for ${number}`;
        const text =
          reply.status === 202
            ? `${what} is requested.`
            : `${what} was requested before, and is ${status}. Another reason makes another refund.`;
        terminal.out(hang('', text, terminal.columns));
        return true;
      }),
    );
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

/** As long as the API gives a reader. */
const SETTLEMENT_WITHIN_MS = 5 * 60_000;
const settlementOptions = z.object({ format: z.enum(SETTLEMENT_FORMATS) });

export function addSettlementCommand(program: Command, { terminal, call }: Shell): void {
  program
    .command('settlement')
    .description("a sale's orders, payments, refunds and disputes, a line each, with totals")
    .argument('<saleId>', 'of any sale')
    .addOption(new Option('--format <format>', 'how').choices(SETTLEMENT_FORMATS).default('csv'))
    .addHelpText('after', '\nExample:\n  ops settlement summer --format json > summer.json')
    .action((saleId: string, options: unknown) =>
      call(async (api) => {
        const { format } = settlementOptions.parse(options);
        const path = `sales/${encodeURIComponent(saleId)}/settlement?format=${format}`;
        const { body } = await api.send(path, { withinMs: SETTLEMENT_WITHIN_MS });
        if (body)
          for await (const text of body.pipeThrough(new TextDecoderStream())) await terminal.write(text);
        return true;
      }),
    );
}
