/**
 * The surface of Holdfast as one document: the names by which other versions, operators and a shop's systems
 * go on. A change of the inside leaves it as it is.
 */

import { RULE_NAMES } from '../../../src/audit/run-audit.ts';
import { showCommands } from './commands.ts';
import { showEngine } from './engine.ts';
import { showEvents } from './events.ts';
import { showMetrics } from './metrics.ts';
import { showStoredForms } from './stored-forms.ts';

/** JSON on one line; the formatter breaks it. */
export async function renderSurface(): Promise<string> {
  const document = {
    audit: RULE_NAMES,
    commands: await showCommands(),
    engine: await showEngine(),
    events: await showEvents(),
    metrics: await showMetrics(),
    redis: showStoredForms(),
  };
  return `${JSON.stringify(sortKeys(JSON.parse(JSON.stringify(document))))}\n`;
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, member]) => [key, sortKeys(member)]));
}
