/** `ops settlement`: prints the settlement of a sale, as the HTTP call exports it. */

import { Option, type Command } from 'commander';
import { z } from 'zod';
import { SETTLEMENT_FORMATS, writeSettlement } from '../settlement/write-settlement.ts';
import { readSettlement } from '../stores/mysql/ops/settlement.ts';
import { OpsError } from './errors.ts';
import type { Shell } from './program.ts';

const settlementOptions = z.object({ format: z.enum(SETTLEMENT_FORMATS) });

export function addSettlementCommand(program: Command, { terminal, run }: Shell): void {
  program
    .command('settlement')
    .description("a sale's orders, payments, refunds and disputes, a line each, with totals")
    .argument('<saleId>', 'of any sale')
    .addOption(new Option('--format <format>', 'how').choices(SETTLEMENT_FORMATS).default('csv'))
    .addHelpText('after', '\nExample:\n  ops settlement summer --format json > summer.json')
    .action((saleId: string, options: unknown) =>
      run(async (parts) => {
        const { format } = settlementOptions.parse(options);
        if (!(await parts.mysql().sales.read(saleId))) throw new OpsError(`There is no sale ${saleId}.`);
        for await (const text of writeSettlement(saleId, readSettlement(parts.pool(), saleId), format))
          await terminal.write(text);
        return true;
      }),
    );
}
