/** The operator's command line: its commands, their help, and what its exit codes mean. */

import { userInfo } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { Command, CommanderError } from 'commander';
import { ConfigError } from '../config.ts';
import { redactCredentials } from '../log.ts';
import { describeFailure, runTool } from '../tool.ts';
import { createApi } from './api.ts';
import { addDoctorCommand } from './doctor-command.ts';
import { addMoneyCommands, addOrderCommands, addSettlementCommand } from './order-commands.ts';
import { addLogCommand, addParkedCommands } from './parked-commands.ts';
import { createParts, type OpsContext, type Shell } from './parts.ts';
import { addStatusCommand } from './status-command.ts';
import { OpsError, openTerminal, UsageError } from './terminal.ts';
import { addEraseCommand, addTokenCommand, addUpkeepCommands } from './upkeep-commands.ts';

const CLOSE_WITHIN_MS = 500;
const EXIT_WITHIN_MS = 100;

const HELP = `
Every action needs --reason, which the audit log keeps with the subject of
HOLDFAST_TOKEN. Commands that decide or read orders, parked work and money call
the API at HOLDFAST_URL.

Exit codes: 0 done, or nothing is wrong; 1 refused, not found, not reachable, or
something is wrong; 2 the command or the environment is not as it must be.

Examples:
  ops parked list
  ops parked retry 7 --reason "the provider's account is topped up"
  ops order show demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG`;

/**
 * Runs one command.
 * @returns the exit code
 */
export async function runOps(args: readonly string[], context: OpsContext): Promise<number> {
  const { terminal } = context;
  let isWell = true;
  const shell: Shell = {
    ...context,
    async run(work) {
      const parts = createParts(context.loadConfig());
      try {
        isWell = await work(parts);
      } finally {
        // What is still being connected to is not waited for: the answer is there.
        await Promise.race([parts.close(), delay(CLOSE_WITHIN_MS, undefined, { ref: false })]);
      }
    },
    async call(work) {
      isWell = await work(createApi(await context.loadAccess()));
    },
  };
  try {
    await createProgram(shell).parseAsync([...args], { from: 'user' });
    return isWell ? 0 : 1;
  } catch (error) {
    // It has printed what is wrong, or its help.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    terminal.err(redactCredentials(describe(error)));
    return error instanceof UsageError || error instanceof ConfigError ? 2 : 1;
  }
}

/** Runs the command of this process, on its terminal and as its user, and ends the process. */
export async function runOpsProcess(load: Pick<OpsContext, 'loadConfig' | 'loadAccess'>): Promise<void> {
  const context = { terminal: openTerminal(), user: userInfo().username, ...load };
  await runTool(() => runOps(process.argv.slice(2), context));
  // All is printed: what is still being connected to, and does not answer, must not keep the process.
  setTimeout(() => process.exit(), EXIT_WITHIN_MS).unref();
}

function createProgram(shell: Shell): Command {
  const { terminal } = shell;
  const program = new Command('ops')
    .description('Operates Holdfast: parked work, money, orders, and the upkeep of the stores.')
    .addHelpText('after', HELP)
    .configureOutput({
      writeOut: (text) => terminal.out(text.trimEnd()),
      writeErr: (text) => terminal.err(text.trimEnd()),
      getOutHelpWidth: () => terminal.columns,
      getErrHelpWidth: () => terminal.columns,
    })
    .showHelpAfterError('(add --help for the command with its examples)')
    .exitOverride();
  addStatusCommand(program, shell);
  addDoctorCommand(program, shell);
  addParkedCommands(program, shell);
  addOrderCommands(program, shell);
  addLogCommand(program, shell);
  addMoneyCommands(program, shell);
  addSettlementCommand(program, shell);
  addUpkeepCommands(program, shell);
  addEraseCommand(program, shell);
  addTokenCommand(program, shell);
  return program;
}

function describe(error: unknown): string {
  if (error instanceof OpsError || error instanceof UsageError || error instanceof ConfigError)
    return error.message;
  return describeFailure(error);
}
