/** What the back office has done, a line of JSON each. It survives the process, and knows each event once. */

import { appendFileSync, existsSync, fsyncSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { dataDir } from '../settings.js';

const file = join(dataDir, 'fulfilled.jsonl');
const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
const lines = text.split('\n');
// A process that died in the middle of a line had not done it: the event comes again.
const torn = lines.pop();
const known = new Set(lines.filter(isEntry).map((line) => JSON.parse(line).eventId));

const descriptor = openSync(file, 'a', 0o600);
if (torn) appendFileSync(descriptor, '\n');

/** @param {string} eventId */
export const isKnown = (eventId) => known.has(eventId);

/**
 * On the disk when it returns.
 * @param {{ eventId: string } & Record<string, unknown>} entry
 */
export function write(entry) {
  appendFileSync(descriptor, `${JSON.stringify(entry)}\n`);
  fsyncSync(descriptor);
  known.add(entry.eventId);
}

/** @param {string} line */
function isEntry(line) {
  try {
    return typeof JSON.parse(line).eventId === 'string';
  } catch {
    return false;
  }
}
