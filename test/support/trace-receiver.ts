/** A receiver of OTLP over HTTP, and the traces that it got. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { z } from 'zod';

const attributes = z
  .array(z.object({ key: z.string(), value: z.record(z.string(), z.unknown()) }))
  .default([])
  .transform((all) => Object.fromEntries(all.map(({ key, value }) => [key, Object.values(value)[0]])));
const context = z.object({ traceId: z.string(), spanId: z.string() });
const span = context.extend({
  parentSpanId: z.string().optional(),
  name: z.string(),
  attributes,
  links: z.array(context).default([]),
  status: z.object({ code: z.int().optional() }).optional(),
  startTimeUnixNano: z.string().transform(BigInt),
  endTimeUnixNano: z.string().transform(BigInt),
});
const request = z.object({
  resourceSpans: z.array(
    z.object({ resource: z.object({ attributes }), scopeSpans: z.array(z.object({ spans: z.array(span) })) }),
  ),
});

export type ReceivedSpan = z.infer<typeof span> & { service: unknown };

export async function openTraceReceiver() {
  const spans: ReceivedSpan[] = [];
  async function receive(message: IncomingMessage): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of message) chunks.push(Buffer.from(chunk));
    const { resourceSpans } = request.parse(JSON.parse(Buffer.concat(chunks).toString()));
    for (const { resource, scopeSpans } of resourceSpans)
      for (const one of scopeSpans.flatMap((scope) => scope.spans))
        spans.push({ ...one, service: resource.attributes['service.name'] });
  }
  const server = createServer((message, response) => {
    void receive(message).then(
      () => response.writeHead(200, { 'content-type': 'application/json' }).end('{}'),
      () => response.writeHead(400).end(),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert(typeof address === 'object' && address, 'it listens on a port');
  return {
    url: `http://127.0.0.1:${address.port}`,
    spans,
    /** Those of this trace, the first to begin first. */
    trace: (traceId: string): ReceivedSpan[] =>
      spans
        .filter((one) => one.traceId === traceId)
        .toSorted((a, b) => Number(a.startTimeUnixNano - b.startTimeUnixNano)),
    async close(): Promise<void> {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** As docs/operations.md shows a trace: a line a span, with when it began, how long it took, its links. */
export function drawTrace(spans: readonly ReceivedSpan[], all: readonly ReceivedSpan[]): string {
  const startedAt = spans[0]?.startTimeUnixNano ?? 0n;
  const inMs = (nanos: bigint) => (Number(nanos) / 1e6).toFixed(1);
  const ids = new Set(spans.map(({ spanId }) => spanId));
  const childrenOf = (parent: string | undefined) =>
    spans.filter(({ parentSpanId = '' }) => (ids.has(parentSpanId) ? parentSpanId : undefined) === parent);
  const draw = (parent: string | undefined, indent: string): string[] =>
    childrenOf(parent).flatMap((one) => {
      const { name, spanId, startTimeUnixNano: start, endTimeUnixNano: end } = one;
      const links = one.links.map(
        (link) => all.find((other) => other.spanId === link.spanId)?.name ?? link.traceId,
      );
      const linked = links.length === 0 ? '' : `  → ${links.join(', ')}`;
      const line = `${`${indent}${name}`.padEnd(44)} +${inMs(start - startedAt)} ms, ${inMs(end - start)} ms${linked}`;
      return [line, ...draw(spanId, `${indent}  `)];
    });
  return draw(undefined, '').join('\n');
}
