/** A wire to a server that a test or a trial can cut, mend and lead elsewhere. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { Transform } from 'node:stream';

export interface TcpProxy {
  address: string;
  /** Connections break, and new ones do too. */
  cut(): void;
  /** Nothing comes through any more, and neither side is notified. New connections work. */
  freeze(): void;
  /** As `freeze`, and new connections get no answer either. */
  silence(): void;
  /** On new connections each part of an answer comes so much later. */
  slow(ms: number): void;
  /** New connections work again. */
  mend(): void;
  /** Connections break, and new ones reach another server. */
  redirect(target: string): void;
  /** New connections reach another server, and those that there are stay. */
  turn(target: string): void;
  close(): Promise<void>;
}

export async function openTcpProxy(target: string): Promise<TcpProxy> {
  let { hostname, port } = new URL(`tcp://${target}`);
  const sockets = new Set<Socket>();
  let isCut = false;
  let isSilent = false;
  let lateMs = 0;
  const server = createServer((near) => {
    if (isCut) {
      near.destroy();
      return;
    }
    if (isSilent) {
      sockets.add(near);
      near.on('error', () => near.destroy()).on('close', () => sockets.delete(near));
      return;
    }
    const far = connect(Number(port), hostname);
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    near.pipe(far);
    const late = lateMs;
    const answers = new Transform({
      transform: (chunk, _, done) => void setTimeout(() => done(null, chunk), late),
    });
    if (late === 0) far.pipe(near);
    else far.pipe(answers).pipe(near);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const bound = server.address();
  assert(bound !== null && typeof bound === 'object', 'a listening TCP server has an address');
  const destroyAll = () => {
    for (const socket of sockets) socket.destroy();
  };
  const freeze = () => {
    for (const socket of sockets) {
      socket.unpipe();
      socket.pause();
    }
  };
  const turn = (other: string) => {
    ({ hostname, port } = new URL(`tcp://${other}`));
  };
  return {
    address: `127.0.0.1:${bound.port}`,
    cut() {
      isCut = true;
      destroyAll();
    },
    freeze,
    slow(ms) {
      lateMs = ms;
    },
    silence() {
      isSilent = true;
      freeze();
    },
    mend() {
      isCut = false;
      isSilent = false;
    },
    redirect(other) {
      turn(other);
      destroyAll();
    },
    turn,
    async close() {
      const closed = once(server, 'close');
      server.close();
      destroyAll();
      await closed;
    },
  };
}
