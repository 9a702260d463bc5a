/** The result of a part of the comparison, for tests. */

import type { PartResult } from '../../bench/compare/results.ts';

export const RATE = { key: 'rate', label: 'accepted', unit: '/s', digits: 0 };

/** Ours reaches 0.8 of the limit, and is to reach 0.75. */
export function buildPart(overrides: Partial<PartResult> = {}): PartResult {
  return {
    name: 'accept',
    title: 'Accepting orders',
    about: 'What it is.',
    columns: [RATE],
    charted: 'rate',
    targets: [{ text: 'ours of the limit', figure: 'rate', of: 'ours', against: ['limit'], atLeast: 0.75 }],
    contestants: [
      { name: 'ours', role: 'ours' },
      { name: 'limit', role: 'limit' },
    ],
    notes: ['A note.'],
    rounds: 1,
    measuredAt: '2026-11-22T10:00:00.000Z',
    commit: 'abc123',
    machine: { cpu: 'A processor', cores: 2, memoryGb: 8, os: 'An OS' },
    versions: { Node: '20.19.0' },
    measurements: [
      { round: 1, contestant: 'ours', figures: { rate: 800 }, seconds: 2 },
      { round: 1, contestant: 'limit', figures: { rate: 1_000 }, seconds: 2 },
    ],
    ...overrides,
  };
}
