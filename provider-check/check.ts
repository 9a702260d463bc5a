/** What a case of the contract is, and how the cases are tried one after another. */

import { BrokenError, NotCheckedError, type Provider } from './calls.ts';
import type { Receiver } from './receiver.ts';

export interface Check {
  provider: Provider;
  receiver: Receiver;
  /** Of each payment, in minor units. */
  money: { amount: number; currency: string };
  /** Pays on the page of this address; false: it did not. Undefined: nothing pays. */
  pay: ((url: string) => Promise<boolean>) | undefined;
  /** How long a notice, or a payment in the book, is waited for. */
  waitMs: number;
}

export interface Case {
  name: string;
  /** What the contract promises. */
  expected: string;
  /** Whether a page must have been paid. */
  needsPay?: true;
  /**
   * @returns what the provider did, in a line
   * @throws BrokenError where that is not what is expected
   */
  run: () => Promise<string>;
}

export interface Outcome {
  name: string;
  expected: string;
  kind: 'kept' | 'broken' | 'not_checked';
  /** What the provider did, or why it was not tried. */
  got: string;
}

/** Tries each case in order, whatever became of the ones before. */
export async function* tryCases(cases: readonly Case[], canPay: boolean): AsyncGenerator<Outcome> {
  for (const { name, expected, needsPay = false, run } of cases) {
    if (needsPay && !canPay) {
      yield { name, expected, kind: 'not_checked', got: 'needs --pay' };
      continue;
    }
    try {
      yield { name, expected, kind: 'kept', got: await run() };
    } catch (error) {
      if (error instanceof BrokenError) yield { name, expected, kind: 'broken', got: error.message };
      else if (error instanceof NotCheckedError)
        yield { name, expected, kind: 'not_checked', got: error.message };
      else throw error;
    }
  }
}

/** @throws BrokenError with what was got, unless it is as expected */
export function expectThat(isKept: boolean, got: string): asserts isKept {
  if (!isKept) throw new BrokenError(got);
}

/** What several cases rest on is done by the first of them; where it failed, the others were not tried. */
export function once<T>(what: string, make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return async () => {
    if (made === undefined) return (made = make());
    return made.catch(() => {
      throw new NotCheckedError(`${what} failed`);
    });
  };
}
