/**
 * Traces, by OpenTelemetry. They are off unless an address for them is set, and then nothing of it is loaded.
 * An order carries the `traceparent` of its purchase: what is done with it later, by whichever process, joins
 * that trace. An order without one, because its purchase was not sampled, has no spans.
 */

import { IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import type { Attributes, Context, Span, SpanContext } from '@opentelemetry/api';
import type { Sampler } from '@opentelemetry/sdk-trace';
import { LRUCache } from 'lru-cache';
import type { Logger } from 'pino';
import { OUTBOX_PAGE_MAX } from './limits.ts';

/** Spans of one request: the largest page of the outbox has one more than orders. */
const EXPORTED_MAX = 1_024;
/** Spans that wait to be exported: some seconds of a burst in about 16 MB. Beyond it they are dropped. */
const WAITING_MAX = 16_384;
/** A page of the outbox has one for each order. */
const LINKS_MAX = OUTBOX_PAGE_MAX;
/** Orders whose traceparent a process remembers, in about 2 MB: most steps follow each other soon. */
const REMEMBERED_MAX = 10_000;
/** Looks at MySQL for a traceparent at once; a step that comes while so many are under way has no span. */
const LOOKS_MAX = 10;
/** Spans that wait for the traceparent of their order; a process has fewer activities at work. */
const LATE_MAX = 1_000;
/** What is not exported in this time after a stop is lost: the whole process has 25 s to stop. */
const FLUSH_MAX_MS = 3_000;
/** A receiver that is away is warned of at most so often. */
const WARN_EVERY_MS = 60_000;
/** Of a warning, whose text comes from the library or the receiver. */
const REASON_CHARS = 300;

export const SAMPLERS = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
] as const;

/** OpenTelemetry's own settings. Others, such as the headers of an export, the library reads by itself. */
export interface TracingConfig {
  OTEL_EXPORTER_OTLP_ENDPOINT?: string | undefined;
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT?: string | undefined;
  OTEL_SERVICE_NAME?: string | undefined;
  OTEL_TRACES_SAMPLER?: (typeof SAMPLERS)[number] | undefined;
  OTEL_TRACES_SAMPLER_ARG?: number | undefined;
}

/** An order, as far as its trace is concerned. */
interface Followed {
  /** Absent: it is not made yet. */
  orderNo?: string | undefined;
  /** Absent: it has no trace. */
  traceparent?: string | undefined;
}

interface SpanOptions {
  /** client: it waits for another system. consumer: it works on what another process has left. */
  kind?: 'client' | 'consumer' | 'internal';
  attributes?: Attributes;
  /** When it began, by `performance.now()`; by default now. */
  startedMs?: number;
  /** What caused it and has a trace of its own: a call, or the span of a page. */
  cause?: IncomingMessage | Span;
}

/** A span in the trace of an order. */
interface Step {
  /** For another system that is to join the trace. */
  traceparent: string;
  /** @param error undefined: it succeeded @param endedMs by `performance.now()`, by default now */
  end: (error?: unknown, endedMs?: number) => void;
}

export type Tracing = Awaited<ReturnType<typeof startTracing>>;

/** @param readTraceparent undefined: the order is not stored */
export async function openTracing(
  config: TracingConfig,
  log: Logger,
  readTraceparent: (orderNo: string) => Promise<{ traceparent?: string } | undefined>,
): Promise<Tracing | undefined> {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: base, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: own } = config;
  const url = own ?? (base === undefined ? undefined : `${base.replace(/\/$/, '')}/v1/traces`);
  return url === undefined ? undefined : startTracing(url, config, log, readTraceparent);
}

async function startTracing(
  url: string,
  config: TracingConfig,
  log: Logger,
  readTraceparent: (orderNo: string) => Promise<{ traceparent?: string } | undefined>,
) {
  const [api, { parseTraceParent }, { OTLPTraceExporter }, resources, sdk] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/core'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/sdk-trace'),
  ]);
  const kinds = {
    client: api.SpanKind.CLIENT,
    consumer: api.SpanKind.CONSUMER,
    internal: api.SpanKind.INTERNAL,
  };
  api.diag.setLogger(createDiagnosis(log), {
    logLevel: api.DiagLogLevel.WARN,
    suppressOverrideMessage: true,
  });
  const provider = new sdk.TracerProvider({
    resource: resources
      .defaultResource()
      .merge(resources.detectResources({ detectors: [resources.envDetector] }))
      .merge(resources.resourceFromAttributes({ 'service.name': config.OTEL_SERVICE_NAME ?? 'holdfast' })),
    sampler: withLinked(samplerOf(config)),
    spanLimits: { linkCountLimit: LINKS_MAX },
    spanProcessors: [
      new sdk.BatchSpanProcessor({
        exporter: new OTLPTraceExporter({ url }),
        maxExportBatchSize: EXPORTED_MAX,
        maxQueueSize: WAITING_MAX,
      }),
    ],
  });
  const tracer = provider.getTracer('holdfast');
  const calls = new WeakMap<IncomingMessage, Span>();
  const remembered = new LRUCache<string, string>({ max: REMEMBERED_MAX });
  /** Looks for the traceparent of an order, by its orderNo. */
  const looks = new Map<string, Promise<string>>();
  /** Spans that are written as soon as it is known whose they are. */
  const late = new Set<Promise<void>>();

  /**
   * Decides once, when a call comes. A caller may only say that its call is not sampled. All spans of an
   * order follow the `traceparent` that the order carries.
   */
  function samplerOf({
    OTEL_TRACES_SAMPLER: name = 'parentbased_always_on',
    ...others
  }: TracingConfig): Sampler {
    const root: Sampler = name.endsWith('always_on')
      ? new sdk.AlwaysOnSampler()
      : name.endsWith('always_off')
        ? new sdk.AlwaysOffSampler()
        : new sdk.TraceIdRatioBasedSampler(others.OTEL_TRACES_SAMPLER_ARG ?? 1);
    // A caller chooses its trace id, and a ratio decides by the id. So another one is drawn to decide by.
    const ids = new sdk.RandomIdGenerator();
    const drawn: Sampler = {
      shouldSample: (context, _, ...rest) => root.shouldSample(context, ids.generateTraceId(), ...rest),
      toString: () => root.toString(),
    };
    return new sdk.ParentBasedSampler({
      root,
      remoteParentSampled: drawn,
      ...(name.startsWith('parentbased') ? {} : { remoteParentNotSampled: drawn }),
    });
  }

  /** What is linked to a sampled order is sampled with it. */
  function withLinked(sampler: Sampler): Sampler {
    return {
      shouldSample: (context, traceId, name, kind, attributes, links) =>
        links.length > 0
          ? { decision: sdk.SamplingDecision.RECORD_AND_SAMPLED }
          : sampler.shouldSample(context, traceId, name, kind, attributes, links),
      toString: () => sampler.toString(),
    };
  }

  /** @param isRemote it comes from a caller; else an order carries it, and this deployment made it */
  function readContext(traceparent: unknown, isRemote = false): SpanContext | undefined {
    const read = typeof traceparent === 'string' ? parseTraceParent(traceparent) : null;
    return read && api.isSpanContextValid(read) ? { ...read, isRemote } : undefined;
  }

  function under(parent: SpanContext): Context {
    return api.trace.setSpanContext(api.ROOT_CONTEXT, parent);
  }

  function isSampled({ traceFlags }: SpanContext): boolean {
    return (traceFlags & api.TraceFlags.SAMPLED) !== 0;
  }

  function formatTraceparent({ traceId, spanId, traceFlags }: SpanContext): string {
    return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
  }

  function end(span: Span, error?: unknown, endedMs = performance.now()): void {
    if (error !== undefined) {
      // Its name alone: a message may quote an order's data.
      const name = error instanceof Error ? error.name : 'Error';
      span.setAttribute('error.type', name).setStatus({ code: api.SpanStatusCode.ERROR });
    }
    span.end(endedMs);
  }

  /** Begins a span in the order's trace; undefined: it has none. */
  function begin(
    name: string,
    { orderNo, traceparent }: Followed,
    { kind = 'internal', attributes = {}, startedMs = performance.now(), cause }: SpanOptions = {},
  ): Step | undefined {
    const parent = readContext(traceparent);
    if (!parent || traceparent === undefined) return undefined;
    if (orderNo !== undefined) remembered.set(orderNo, traceparent);
    const call = cause instanceof IncomingMessage ? calls.get(cause) : undefined;
    const causing = call ?? (cause instanceof IncomingMessage ? undefined : cause);
    const span = tracer.startSpan(
      name,
      {
        kind: kinds[kind],
        attributes: { ...attributes, 'holdfast.order_no': orderNo },
        startTime: startedMs,
        links: causing && isSampled(causing.spanContext()) ? [{ context: causing.spanContext() }] : [],
      },
      under(parent),
    );
    // The call's own trace leads to the order's as well.
    call?.addLinks([{ context: parent }]);
    return {
      traceparent: formatTraceparent(span.spanContext()),
      end: (error, endedMs) => end(span, error, endedMs),
    };
  }

  /** @returns empty: it has none */
  async function look(orderNo: string): Promise<string> {
    try {
      const order = await readTraceparent(orderNo);
      if (order) remembered.set(orderNo, order.traceparent ?? '');
      return order?.traceparent ?? '';
    } catch {
      // MySQL is away, and a span is not worth a second try.
      return '';
    } finally {
      looks.delete(orderNo);
    }
  }

  /** For an order of which only the number is known. @returns undefined: it has none, or too many ask */
  async function find(orderNo: string): Promise<string | undefined> {
    const known = remembered.get(orderNo) ?? looks.get(orderNo);
    if (known === undefined && looks.size >= LOOKS_MAX) return undefined;
    if (known !== undefined) return (await known) || undefined;
    const looking = look(orderNo);
    looks.set(orderNo, looking);
    return (await looking) || undefined;
  }

  return {
    begin,
    find,

    /** Begins the span of a call, which ends with its answer. @param route undefined: no call is like it */
    serve(
      request: IncomingMessage,
      response: ServerResponse,
      route: string | undefined,
      requestId: string,
    ): void {
      const parent = readContext(request.headers['traceparent'], true);
      const attributes = {
        'http.request.method': request.method,
        'http.route': route,
        'url.path': request.url?.split('?')[0],
        'holdfast.request_id': requestId,
      };
      const span = tracer.startSpan(
        route === undefined ? `${request.method}` : `${request.method} ${route}`,
        // The clock by which the spans under it begin: the wall clock, in whole ms, may be ahead of theirs.
        { kind: api.SpanKind.SERVER, attributes, startTime: performance.now() },
        parent ? under(parent) : api.ROOT_CONTEXT,
      );
      calls.set(request, span);
      response.once('close', () => {
        span.setAttribute('http.response.status_code', response.statusCode);
        if (response.statusCode >= 500) span.setStatus({ code: api.SpanStatusCode.ERROR });
        span.end(performance.now());
      });
    },

    /** The call has placed this order. */
    accepted(request: IncomingMessage, orderNo: string): void {
      calls.get(request)?.setAttribute('holdfast.order_no', orderNo);
    },

    /** What an order that this call places is to carry; undefined: the call is not sampled. */
    traceparentOf(request: IncomingMessage): string | undefined {
      const context = calls.get(request)?.spanContext();
      return context && isSampled(context) ? formatTraceparent(context) : undefined;
    },

    /** Writes the span of a step that ends now, as soon as it is known whose it is; nothing waits for it. */
    writeLater(
      name: string,
      options: SpanOptions,
      error: unknown,
      of: () => Promise<Followed | undefined>,
    ): void {
      if (late.size >= LATE_MAX) return;
      const endedMs = performance.now();
      const written = of()
        .then((order) => order && begin(name, order, options)?.end(error, endedMs))
        // A store is away: this span is lost.
        .catch(() => {})
        .finally(() => late.delete(written));
      late.add(written);
    },

    /** One span for the page, with a link to each order, and one for each order in its own trace. */
    async storePage<T>(orders: readonly Followed[], work: () => Promise<T>): Promise<T> {
      const traced = orders.flatMap((order) => {
        const context = readContext(order.traceparent);
        return context ? [{ order, context }] : [];
      });
      if (traced.length === 0) return work();
      const startedMs = performance.now();
      const page = tracer.startSpan(
        'store page',
        {
          kind: api.SpanKind.CONSUMER,
          attributes: { 'holdfast.orders': orders.length },
          links: traced.map(({ context }) => ({ context })),
          startTime: startedMs,
        },
        api.ROOT_CONTEXT,
      );
      const endAll = (error?: unknown): void => {
        const endedMs = performance.now();
        for (const { order } of traced)
          begin('store', order, { startedMs, cause: page, kind: 'consumer' })?.end(error, endedMs);
        end(page, error, endedMs);
      };
      try {
        const result = await work();
        endAll();
        return result;
      } catch (error) {
        endAll(error);
        throw error;
      }
    },

    /** Exports what waits, within a bound. */
    async close(): Promise<void> {
      const flushed = Promise.all(late).then(() => provider.shutdown());
      const failed = (error: unknown) => log.warn({ err: error }, 'the last spans were not exported');
      const bound = new AbortController();
      const outOfTime = delay(FLUSH_MAX_MS, undefined, { signal: bound.signal }).catch(() => {});
      await Promise.race([flushed.catch(failed), outOfTime]);
      bound.abort();
    },
  };
}

/** What the library has to say of an export that fails or spans that it drops, in a warning now and then. */
function createDiagnosis(log: Logger) {
  let quietUntilMs = 0;
  function warn(reason: string): void {
    if (performance.now() < quietUntilMs) return;
    quietUntilMs = performance.now() + WARN_EVERY_MS;
    log.warn({ reason: reason.slice(0, REASON_CHARS) }, 'spans were not exported');
  }
  return { error: warn, warn, info: warn, debug: warn, verbose: warn };
}

/**
 * Does a step of an order, with a span in the order's trace and a line at debug. The line stands for a step
 * that succeeded: failures are warned of where they are handled.
 */
export async function takeStep<T>(
  { tracing, log }: { tracing: Tracing | undefined; log: Logger },
  step: string,
  order: Followed,
  work: () => Promise<T>,
  options?: SpanOptions,
): Promise<T> {
  const span = tracing?.begin(step, order, options);
  try {
    const result = await work();
    span?.end();
    if (log.isLevelEnabled('debug')) log.debug({ orderNo: order.orderNo, step }, 'order');
    return result;
  } catch (error) {
    span?.end(error);
    throw error;
  }
}
