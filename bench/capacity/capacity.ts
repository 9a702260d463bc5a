/**
 * `npm run bench -- capacity [hand-off|bytes|actions|life|scale|binlog] …`: measures what docs/capacity.md
 * reckons with, each section on servers of its own, and writes the figures into docs/benchmarks/capacity.json
 * and that page.
 */

import { measureParts } from '../compare/compare.ts';
import type { Part } from '../compare/part.ts';
import { actionsPart } from './actions.ts';
import { binlogPart } from './binlog.ts';
import { bytesPart } from './bytes.ts';
import { handOffPart } from './hand-off.ts';
import { lifePart } from './life.ts';
import { capacityFile, writeCapacityPage } from './page.ts';
import { SCALE_PARTS } from './scale.ts';

const SECTIONS: Record<string, readonly Part[]> = {
  'hand-off': [handOffPart],
  bytes: [bytesPart],
  actions: [actionsPart],
  life: [lifePart],
  scale: SCALE_PARTS,
  binlog: [binlogPart],
};
const PARTS = Object.values(SECTIONS).flat();
/** The others are measured once: what they count is the same each time, or a round takes a minute. */
const IN_ROUNDS = ['hand-off', 'accept-held', 'accept-far', 'binlog'];
const ROUNDS = 3;

/** @param wanted sections or parts of them by their names; none: all @returns the exit code */
export async function capacity(wanted: readonly string[]): Promise<number> {
  const names = PARTS.map(({ name }) => name);
  const unknown = wanted.find((each) => !(each in SECTIONS) && !names.includes(each));
  if (unknown !== undefined) {
    console.error(
      `There is no section "${unknown}". There are ${[...new Set([...Object.keys(SECTIONS), ...names])].join(', ')}.`,
    );
    return 1;
  }
  const isWanted = (part: Part): boolean =>
    wanted.length === 0 ||
    wanted.some((each) => each === part.name || SECTIONS[each]?.includes(part) === true);
  const parts = PARTS.filter(isWanted).map((part) => ({
    part,
    rounds: IN_ROUNDS.includes(part.name) ? ROUNDS : 1,
  }));
  const exitCode = await measureParts(parts, { file: capacityFile, names, writePage: writeCapacityPage });
  console.log('docs/capacity.md, its charts and capacity.json are up to date');
  return exitCode;
}
