/** Crash tests are aimed at what the product sends: a reworded statement or a renamed script is noticed. */

import { expect, test } from 'vitest';
import { CUES, type Cue } from '../compositions/cues.ts';
import { findMissing } from '../crash/aims.ts';

test.each(Object.entries<Cue>(CUES))('the product sends that at which %s is aimed', (_, cue) => {
  expect(findMissing(cue)).toEqual([]);
});

test.each<[string, Cue]>([
  ['reserve-twice', { command: 'reserve-twice', moment: 'after' }],
  ['hgetdel', { command: 'hgetdel', moment: 'before' }],
  ['UPDATE orders SET nothing =', { statement: 'UPDATE orders SET nothing =', moment: 'before' }],
  ['INSERT INTO nothing', { commitOf: ['INSERT INTO orders (', 'INSERT INTO nothing'], moment: 'after' }],
  ['GET /v1/refunds', { request: 'GET /v1/refunds', moment: 'after' }],
  ['POST /v1/nothing', { request: 'POST /v1/nothing', moment: 'after' }],
  ['no-time', { command: 'reserve', once: { command: 'no-time' }, moment: 'after' }],
])('a cue is refused that is aimed at %s, which nothing sends', (aim, cue) => {
  expect(findMissing(cue)).toEqual([aim]);
});
