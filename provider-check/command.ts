/** The check as a command: its options, a line a case, and an exit code that says whether all was tried. */

import { spawn } from 'node:child_process';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { z } from 'zod';
import { ConfigError } from '../src/config.ts';
import { messageOf } from '../src/log.ts';
import { buildCallCases } from './call-cases.ts';
import { tryCases, type Check, type Outcome } from './check.ts';
import { loadCheckConfig } from './config.ts';
import { buildMoneyCases } from './money-cases.ts';
import { NOTICE_PATH, openReceiver } from './receiver.ts';

const DESCRIPTION = `Holds a payment provider of your own to the contract (docs/provider-openapi.json). It opens
sessions, and with --pay it takes payments and refunds them: have it call a test account.`;

const HELP = `
From the environment, as Holdfast has them: PAYMENT_PROVIDER_API_KEY, WEBHOOK_SECRETS,
and PAYMENT_PROVIDER_URL where --url is not given.

The contract has no call that names the receiver of notices: have the provider send
them to the address of --listen, or of --public-url, with the path
${NOTICE_PATH}.

COMMAND is run by sh, with the address of the page as its argument, some five times. It
ends with 0 once it has paid, and otherwise where the page takes no payment.

Exit codes: 0 every case passed; 1 a case failed; 2 none failed, and not all were
checked; 3 the command or the environment is not as it must be.`;

/** Not cases: no call of the contract brings them about. */
const BEYOND = `Not among the cases, for no call brings them about: notices of failed attempts, of
disputes, and of refunds by your staff.`;

const NONE_FAILED = 0;
const FAILED = 1;
const NOT_ALL_CHECKED = 2;
const MISUSED = 3;

const optionsSchema = z.object({
  url: z.string().optional(),
  pay: z.string().optional(),
  listen: z.object({ host: z.string(), port: z.number() }),
  publicUrl: z.string().optional(),
  amount: z.number(),
  currency: z.string(),
  waitSeconds: z.number(),
  paySeconds: z.number(),
});
type Options = z.infer<typeof optionsSchema>;

/** @returns the exit code */
export async function providerCheck(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  print: (line: string) => void,
): Promise<number> {
  let exitCode = MISUSED;
  const program = createProgram(print).action(async (given: unknown) => {
    exitCode = await check(optionsSchema.parse(given), env, print);
  });
  try {
    await program.parseAsync([...args], { from: 'user' });
    return exitCode;
  } catch (error) {
    // It has printed what is wrong, or its help.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : MISUSED;
    if (!(error instanceof ConfigError)) throw error;
    print(error.message);
    return MISUSED;
  }
}

function createProgram(print: (line: string) => void): Command {
  return new Command('provider-check')
    .description(DESCRIPTION)
    .option('--url <url>', "the provider's address")
    .option('--pay <command>', 'pays on a page; without it the cases of money are not checked')
    .option('--listen <host:port>', 'where the receiver of notices listens', hostAndPort, {
      host: '127.0.0.1',
      port: 8790,
    })
    .option('--public-url <url>', 'where the provider finds it, where that is another address')
    .option('--amount <units>', 'of each payment, in minor units', wholeNumber(16, 1_000_000), 1_000)
    .option('--currency <code>', 'of each payment', currency, 'EUR')
    .option('--wait-seconds <n>', 'how long a notice is waited for', wholeNumber(1, 3_600), 60)
    .option('--pay-seconds <n>', 'how long the command of --pay may take', wholeNumber(1, 3_600), 120)
    .addHelpText('after', HELP)
    .configureOutput({
      writeOut: (text) => print(text.trimEnd()),
      writeErr: (text) => print(text.trimEnd()),
    })
    .exitOverride();
}

async function check(
  options: Options,
  env: NodeJS.ProcessEnv,
  print: (line: string) => void,
): Promise<number> {
  const config = loadCheckConfig(options.url, env);
  const { host, port } = options.listen;
  const receiver = await openReceiver(host, port, config.WEBHOOK_SECRETS).catch((error: unknown) => {
    throw new ConfigError(`--listen ${host}:${port}: ${messageOf(error)}`);
  });
  try {
    const { PAYMENT_PROVIDER_URL: url, PAYMENT_PROVIDER_API_KEY: apiKey } = config;
    const address = options.publicUrl?.replace(/\/+$/, '').concat(NOTICE_PATH) ?? receiver.url;
    print(`checking ${url}; notices are expected at ${address}`);
    const { pay, paySeconds } = options;
    const subject: Check = {
      provider: {
        url,
        apiKey,
        onPause: (seconds) => print(`  the provider asks for a pause of ${seconds} s`),
      },
      receiver,
      money: { amount: options.amount, currency: options.currency },
      pay: pay === undefined ? undefined : (page) => runCommand(pay, page, env, paySeconds * 1_000),
      waitMs: options.waitSeconds * 1_000,
    };
    const outcomes: Outcome[] = [];
    const cases = [...buildCallCases(subject), ...buildMoneyCases(subject)];
    for await (const outcome of tryCases(cases, pay !== undefined)) {
      outcomes.push(outcome);
      print(describe(outcome));
    }
    return conclude(outcomes, print);
  } finally {
    await receiver.close();
  }
}

const MARKS = { kept: 'ok         ', broken: 'FAILED     ', not_checked: 'not checked' } as const;

function describe({ name, kind, expected, got }: Outcome): string {
  return `${MARKS[kind]} ${name}: ${expected}; ${kind === 'not_checked' ? '' : 'got '}${got}`;
}

function conclude(outcomes: readonly Outcome[], print: (line: string) => void): number {
  const count = (kind: Outcome['kind']) => outcomes.filter((outcome) => outcome.kind === kind).length;
  const [kept, broken, skipped] = [count('kept'), count('broken'), count('not_checked')];
  print(`${kept} passed, ${broken} failed, ${skipped} not checked. ${BEYOND}`);
  if (broken > 0) return FAILED;
  return skipped > 0 ? NOT_ALL_CHECKED : NONE_FAILED;
}

/** The address is an argument and no part of the command: what a provider answers is not run. */
function runCommand(
  command: string,
  url: string,
  env: NodeJS.ProcessEnv,
  timeoutMs: number,
): Promise<boolean> {
  return new Promise((resolve) => {
    // A group of its own, so that what it started ends with it. What it prints is shown as it is.
    const child = spawn('sh', ['-c', `${command} "$@"`, 'pay', url], {
      stdio: ['ignore', 'inherit', 'inherit'],
      detached: true,
      env,
    });
    const timer = setTimeout(() => child.pid !== undefined && process.kill(-child.pid, 'SIGKILL'), timeoutMs);
    const end = (isPaid: boolean) => {
      clearTimeout(timer);
      resolve(isPaid);
    };
    child.once('error', () => end(false));
    child.once('exit', (code) => end(code === 0));
  });
}

function wholeNumber(least: number, most: number) {
  return (text: string): number => {
    const number = /^\d{1,7}$/.test(text) ? Number(text) : NaN;
    if (number >= least && number <= most) return number;
    throw new InvalidArgumentError(`It is a whole number from ${least} to ${most}.`);
  };
}

function currency(text: string): string {
  if (!/^[A-Z]{3}$/.test(text)) throw new InvalidArgumentError('It is a code of ISO 4217, as EUR.');
  return text;
}

function hostAndPort(text: string): Options['listen'] {
  const [, host, port] = /^(.+):(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined || Number(port) > 65_535)
    throw new InvalidArgumentError('It is like 127.0.0.1:8790.');
  return { host, port: Number(port) };
}
