/** How the shop's programs call Holdfast: by its client, each with a token of the scopes that it needs. */

import { createAdmin, HoldfastError } from '@holdfast/client/admin';
import { signServiceToken } from './keys.js';
import { holdfastUrl } from './settings.js';

/** A program has more patience than a shopper. */
const PATIENCE_MS = 90_000;
const TRIES_MAX = 60;

/**
 * @param {string} name of the program, which Holdfast's audit log will show
 * @param {string} scope what it may do
 */
export function openHoldfast(name, scope) {
  return createAdmin({
    url: holdfastUrl,
    token: () => signServiceToken(name, scope),
    patienceMs: PATIENCE_MS,
    triesMax: TRIES_MAX,
  });
}

/**
 * Why Holdfast refused, in words for a log: the `code` is what a program goes by.
 * @param {unknown} error
 */
export function explain(error) {
  if (!(error instanceof HoldfastError)) throw error;
  const { status, code, message, problem } = error;
  const { faults } = problem;
  return `${status} ${code}: ${message} ${faults === undefined ? '' : JSON.stringify(faults)}`;
}

/**
 * @param {unknown} error
 * @param {string} code
 */
export const isRefusal = (error, code) => error instanceof HoldfastError && error.code === code;
