/**
 * The wires between the parts. Each runs through Toxiproxy,
 * where it can be cut, slowed, half-opened and reset.
 */

const CALL_TIMEOUT_MS = 15_000;
/** Added to every answer: far beyond any healthy server, within what a call may take. */
const SLOW_BY_MS = 300;
const SLOW_JITTER_MS = 200;
const SLOW_KILOBYTES_PER_SECOND = 64;

export const LINK_FAULTS = ['cut', 'slow', 'half-open', 'reset'] as const;
type LinkFault = (typeof LINK_FAULTS)[number];

export interface Link {
  /** The caller and the called, as in `api-1` and `redis`. */
  from: string;
  to: string;
  /** `host:port`, for the caller. */
  address: string;
  strike(fault: LinkFault): Promise<void>;
  /** Each answer comes so much later. */
  delay(latencyMs: number): Promise<void>;
  mend(): Promise<void>;
}

export interface Links {
  open(from: string, to: string, port: number, target: string): Promise<Link>;
}

/** @param controlUrl of Toxiproxy */
export function createLinks(controlUrl: string): Links {
  async function control(method: string, path: string, body?: unknown): Promise<void> {
    const response = await fetch(new URL(path, controlUrl), {
      method,
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`Toxiproxy: ${method} ${path}: ${text}`);
  }

  return {
    async open(from, to, port, target): Promise<Link> {
      const name = `${from}_${to}`;
      const address = `127.0.0.1:${port}`;
      const lay = () =>
        control('POST', '/proxies', { name, listen: address, upstream: target, enabled: true });
      await lay();

      async function add(type: string, attributes: object, streams = ['upstream', 'downstream']) {
        for (const stream of streams) {
          await control('POST', `/proxies/${name}/toxics`, { type, stream, attributes });
        }
      }

      return {
        from,
        to,
        address,
        async strike(fault) {
          switch (fault) {
            case 'cut':
              return control('POST', `/proxies/${name}`, { enabled: false });
            case 'slow':
              await add('latency', { latency: SLOW_BY_MS, jitter: SLOW_JITTER_MS }, ['downstream']);
              return add('bandwidth', { rate: SLOW_KILOBYTES_PER_SECOND }, ['downstream']);
            case 'half-open':
              return add('timeout', { timeout: 0 });
            case 'reset':
              return add('reset_peer', { timeout: 0 });
          }
        },
        delay: (latency) => add('latency', { latency, jitter: 0 }, ['downstream']),
        async mend() {
          // A new wire, so that all connections of the old one end:
          // what it has swallowed must not leave a gap in a stream.
          await control('DELETE', `/proxies/${name}`);
          await lay();
        },
      };
    },
  };
}
