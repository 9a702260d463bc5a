/**
 * Histories as the Temporal CLI and the Web UI write them. The SDK's own `historyToJSON` fails wherever
 * npm gives its packages a copy of protobufjs each; here type and code come from the same copy.
 */

import { createRequire } from 'node:module';
import proto from '@temporalio/proto';
import { patchProtobufRoot } from '@temporalio/proto/lib/patch-protobuf-root.js';

type History = proto.temporal.api.history.v1.IHistory;

interface ProtoJson {
  toJson: (type: unknown, message: unknown) => unknown;
  fromJson: (type: unknown, json: unknown, options: { ignoreUnknownFields: boolean }) => History;
}

const require = createRequire(import.meta.resolve('@temporalio/proto'));
const { toJson, fromJson }: ProtoJson = require('protobufjs/ext/protojson');
// The typings know the messages, and not that they can be looked up.
const root: Record<string, unknown> & { lookupType?: (name: string) => unknown } = patchProtobufRoot({
  ...proto,
});
const historyType = root.lookupType?.('temporal.api.history.v1.History');

/** One event a line; without stack traces, which hold paths of the machine and are read by no replay. */
export function formatHistory(history: History): string {
  const message = proto.temporal.api.history.v1.History.fromObject(history);
  const { events }: { events: unknown[] } = JSON.parse(JSON.stringify(toJson(historyType, message)), scrub);
  return `{"events":[\n${events.map((event) => JSON.stringify(event)).join(',\n')}\n]}\n`;
}

export function parseHistory(text: string): History {
  return fromJson(historyType, JSON.parse(text), { ignoreUnknownFields: true });
}

function scrub(key: string, value: unknown): unknown {
  return key === 'stackTrace' ? undefined : value;
}
