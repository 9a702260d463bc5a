/** `ops doctor`: whether the set-up keeps the promise, a line for each thing that it rests on. */

import type { Command } from 'commander';
import { z } from 'zod';
import { WrongDeploymentError } from '../deployment.ts';
import {
  apiPatient,
  diagnose,
  endpointPatient,
  processPatient,
  providerPatient,
  storePatients,
  type Diagnosis,
  type Patient,
} from '../doctor/doctor.ts';
import type { Line } from '../doctor/line.ts';
import { examineTemporal } from '../doctor/temporal.ts';
import { messageOf } from '../log.ts';
import { redisStores } from '../stores/bound.ts';
import type { Parts, Shell } from './parts.ts';
import { asRead, hang, OpsError } from './terminal.ts';

const doctorOptions = z.object({ json: z.boolean() });

export function addDoctorCommand(program: Command, { terminal, run }: Shell): void {
  asRead(program.command('doctor'))
    .description(
      'whether the set-up keeps the promise: stores, Temporal, provider, clocks; exit code 1 when it does not',
    )
    .addHelpText('after', '\nExample:\n  ops doctor')
    .action((options: unknown) =>
      run(async (parts) => {
        const { json } = doctorOptions.parse(options);
        const diagnosis = await diagnose(patientsOf(parts));
        terminal.out(
          json ? JSON.stringify(diagnosis, undefined, 2) : describeDiagnosis(diagnosis, terminal.columns),
        );
        return diagnosis.lines.every(({ level }) => level !== 'bad');
      }),
    );
}

function patientsOf(parts: Parts): Patient[] {
  const { config } = parts;
  const place = {
    namespace: config.temporal.namespace ?? 'default',
    taskQueue: config.TEMPORAL_TASK_QUEUE,
    withQueues: true,
  };
  return [
    ...storePatients(() => parts.redisAsItIs().then(redisStores), parts.mysql()),
    { what: 'deployment', means: '', examine: async () => ({ lines: [await examineDeployment(parts)] }) },
    {
      what: 'Temporal',
      means: 'While it is away orders are stored and can be paid, and no payment reaches its order.',
      examine: async () => examineTemporal((await parts.temporal()).connection, place),
    },
    providerPatient(config),
    endpointPatient(parts.mysql()),
    apiPatient(() => parts.redisAsItIs().then(redisStores)),
    processPatient('ops'),
  ];
}

/** Whether Redis and MySQL belong together. */
async function examineDeployment(parts: Parts): Promise<Line> {
  const what = 'deployment';
  try {
    await parts.redis();
    return { level: 'ok', what, found: `Redis and MySQL are both those of ${parts.config.DEPLOYMENT_NAME}` };
  } catch (error) {
    const isWrong = error instanceof OpsError && error.cause instanceof WrongDeploymentError;
    return {
      level: isWrong ? 'bad' : 'unknown',
      what,
      found: messageOf(isWrong ? error.cause : error),
      means: isWrong
        ? 'API and worker refuse to start.'
        : 'Whether Redis and MySQL belong together is not known.',
      remedy: isWrong ? 'As it says.' : 'Mend the store that is away, and ask again.',
    };
  }
}

function describeDiagnosis({ promise, lines }: Diagnosis, columns: number): string {
  const counts = (['bad', 'unknown', 'warn', 'ok'] as const)
    .map((level) => `${lines.filter((line) => line.level === level).length} ${level}`)
    .join(', ');
  return [
    ...(promise.length === 0
      ? []
      : [`What a 202 means here\n${promise.map((text) => hang('  ', text, columns)).join('\n')}\n`]),
    ...lines.map((line) => describeLine(line, columns)),
    `\n${counts}`,
  ].join('\n');
}

const LEVEL_WIDTH = 'unknown  '.length;

function describeLine({ level, what, found, means, remedy }: Line, columns: number): string {
  const rest = ' '.repeat(LEVEL_WIDTH);
  return [
    hang(level.padEnd(LEVEL_WIDTH), `${what}: ${found}`, columns),
    ...(means === undefined ? [] : [hang(rest, means, columns)]),
    ...(remedy === undefined ? [] : [hang(`${rest}→ `, remedy, columns)]),
  ].join('\n');
}
