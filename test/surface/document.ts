/**
 * The whole surface of Holdfast as one document: what callers, operators, a shop's systems and other versions
 * of it rely on. A change of the inside leaves it as it is.
 */

import { showRules } from './audit.ts';
import { showCommands } from './commands.ts';
import { showEngine } from './engine.ts';
import { showEvents } from './events.ts';
import { showMetrics } from './metrics.ts';
import { showProblems } from './problems.ts';
import { showRoutes } from './routes.ts';
import { showScripts } from './scripts.ts';
import { showSettings } from './settings.ts';
import { showStoredForms } from './stored-forms.ts';
import { readTexts } from './texts.ts';

/** A value that fits takes one line. */
const WIDTH = 110;
/** A schema that is longer and repeated, such as that of an order, stands once. */
const LONGEST_REPEATED_CHARS = 300;

export async function renderSurface(): Promise<string> {
  const texts = readTexts();
  const document = {
    api: await showRoutes(),
    audit: showRules(),
    commands: await showCommands(),
    engine: await showEngine(),
    events: await showEvents(),
    logs: [...texts.logs].toSorted(),
    metrics: await showMetrics(),
    problems: showProblems(texts),
    redis: showStoredForms(),
    scripts: showScripts(),
    sentences: [...texts.sentences].toSorted(),
    settings: showSettings(),
  };
  return `${format(nameRepeats(sortKeys(JSON.parse(JSON.stringify(document)))))}\n`;
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, member]) => [key, sortKeys(member)]));
}

/** @param seen where each long schema stands, by its JSON */
function nameRepeats(value: unknown, path = '', seen = new Map<string, string>()): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const json = JSON.stringify(value);
  const first = seen.get(json);
  if (first !== undefined) return { 'the same as': first };
  if (json.length > LONGEST_REPEATED_CHARS && 'type' in value) seen.set(json, path);
  if (Array.isArray(value)) return value.map((item, i) => nameRepeats(item, `${path}[${i}]`, seen));
  const members = Object.entries(value).map(([key, member]) => [
    key,
    nameRepeats(member, path === '' ? key : `${path} / ${key}`, seen),
  ]);
  return Object.fromEntries(members);
}

function format(value: unknown, indent = '', room = WIDTH): string {
  const line = JSON.stringify(value);
  if (typeof value !== 'object' || value === null || line.length <= room) return line;
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    const items = value.map((item) => inner + format(item, inner, WIDTH - inner.length - 1));
    return `[\n${items.join(',\n')}\n${indent}]`;
  }
  const members = Object.entries(value).map(([key, member]) => {
    const head = `${inner}${JSON.stringify(key)}: `;
    return head + format(member, inner, WIDTH - head.length - 1);
  });
  return `{\n${members.join(',\n')}\n${indent}}`;
}
