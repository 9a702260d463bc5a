/**
 * The replay gate: recorded histories of orders, refunds and runs of the reconciliation must replay under the
 * present workflow code.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { bundleWorkflowCode, DefaultLogger, type WorkflowBundleWithSourceMap } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { beforeAll, expect, test } from 'vitest';
import type { Activities } from '../../src/activities/index.ts';
import type { ReconcileActivities } from '../../src/activities/reconcile.ts';
import { builtWorkflows } from '../support/workflows/built-workflows.ts';
import { installQuietRuntime } from '../support/workflows/native-runtime.ts';
import { replayHistory } from '../support/workflows/replay.ts';
import { branches } from './branches.ts';
import { callOffBranches } from './call-off-branches.ts';
import { parseHistory } from './history-json.ts';
import { reconcileBranches } from './reconcile-branches.ts';
import { historyFile, recordMissing } from './record.ts';
import { refundBranches } from './refund-branches.ts';

const names = Object.keys({ ...branches, ...refundBranches, ...reconcileBranches, ...callOffBranches });
const folder = new URL('histories/', import.meta.url);

beforeAll(async () => {
  installQuietRuntime();
  if (process.env['RECORD_HISTORIES']) await recordMissing(builtWorkflows);
});

const readText = (name: string): string => readFileSync(historyFile(name), 'utf8');

/** With payloads in the clear. */
const readDecoded = (name: string): string =>
  readText(name).replaceAll(/"data":"([^"]+)"/g, (_, data: string) => atob(data));

async function bundleVariant(file: string): Promise<WorkflowBundleWithSourceMap> {
  const { pathname } = new URL(file, import.meta.url);
  return bundleWorkflowCode({ workflowsPath: pathname, logger: new DefaultLogger('ERROR') });
}

test('every branch has its history, and every history its branch', () => {
  expect(readdirSync(folder).toSorted()).toEqual(names.map((name) => `${name}.json`).toSorted());
});

test.each(names)('what went the way "%s" replays under the present code', async (name) => {
  await replayHistory(builtWorkflows, parseHistory(readText(name)));
});

test.each(names)(
  'the history "%s" is whole, and holds nothing about the machine that recorded it',
  (name) => {
    const decoded = readDecoded(name);
    expect(decoded).toMatch(/EVENT_TYPE_WORKFLOW_EXECUTION_(?:COMPLETED|CONTINUED_AS_NEW)/);
    // Absolute paths would come with stack traces, host names with identities.
    expect(decoded).not.toMatch(/node_modules|file:|stackTrace|\/(?:home|root|tmp|work|Users)\//);
    const identities = [...decoded.matchAll(/"identity":"([^"]*)"/g)].map(([, identity]) => identity);
    expect(
      identities.filter((identity) => identity !== 'recorder' && identity !== 'history-service'),
    ).toEqual([]);
  },
);

test('a run that continued as new has handed on what the run after it began with', () => {
  const [first, next] = [readDecoded('refund-continues-as-new'), readDecoded('refund-continued')];
  const end = first.slice(first.indexOf('EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW'));
  expect(end).toContain('"pending":{"sinceMs":');
  expect(next).toContain('"continuedExecutionRunId":');
  expect(next).toContain('"pending":{"sinceMs":');
});

test('a calling-off that continued as new goes on in the middle of its pass, with what that has found', () => {
  const [first, next] = [readDecoded('call-off-continues-as-new'), readDecoded('call-off-continued')];
  const end = first.slice(first.indexOf('EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW'));
  const handedOn = '"cursor":{"phase":"paid","after":"order-99"},"left":50';
  expect(end).toContain(handedOn);
  expect(next).toContain(handedOn);
  expect(next).not.toContain('refuseCalledOff');
});

test.each(['begun-again-and-paid', 'begun-again-and-timed-out', 'begun-again-with-money'])(
  'the history "%s" is of a run that was given what was left of its window',
  (name) => {
    expect(readDecoded(name)).toContain('"endsAtMs":');
  },
);

test.each([
  'persistOrder',
  'abandonOrder',
  'markPaid',
  'cancelOrder',
  'confirmStock',
  'releaseStock',
  'voidPaymentSessions',
  'parkOrder',
  'unparkOrder',
  'refundPayment',
  'giveBack',
  'parkRefund',
  'unparkRefund',
  'listReconcileSteps',
  'runReconcileStep',
] satisfies (keyof Activities | keyof ReconcileActivities)[])(
  'the step %s occurs in some history',
  (step) => {
    expect(names.map(readDecoded).join('')).toContain(step);
  },
);

test('a workflow that takes the same steps replays a paid order, so the next test is about their order alone', async () => {
  const same = await bundleVariant('same-steps.ts');
  await replayHistory(same, parseHistory(readText('paid')));
});

test('a workflow with two steps swapped is refused: this gate is shut', async () => {
  const swapped = await bundleVariant('swapped-steps.ts');
  await expect(replayHistory(swapped, parseHistory(readText('paid')))).rejects.toBeInstanceOf(
    DeterminismViolationError,
  );
});
