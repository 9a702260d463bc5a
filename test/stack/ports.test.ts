/** How free ports are picked, and what happens when another process takes one first. */

import { once } from 'node:events';
import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { canConnect, findFreePort, isPortFree, withFreePort } from '../../stack/processes/ports.ts';

async function withListener<T>(use: (port: number, close: () => Promise<void>) => Promise<T>): Promise<T> {
  const server = createServer().listen(await findFreePort(), '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const close = async (): Promise<void> => {
    if (!server.listening) return;
    server.close();
    await once(server, 'close');
  };
  try {
    return await use(address.port, close);
  } finally {
    await close();
  }
}

test('a preferred port is given when it is free', async () => {
  const free = await withListener(async (port) => port);
  expect(await findFreePort(free)).toBe(free);
});

test('another port is given when the preferred one is taken', async () => {
  await withListener(async (taken) => {
    const port = await findFreePort(taken);
    expect(port).not.toBe(taken);
    expect(await isPortFree(port)).toBe(true);
    expect(await canConnect('127.0.0.1', taken)).toBe(true);
  });
});

test('a start that loses its port to a faster process is made again on another one', async () => {
  const preferred = await findFreePort();
  const thief = createServer();
  try {
    const tried: number[] = [];
    const port = await withFreePort(preferred, async (offered) => {
      tried.push(offered);
      if (tried.length > 1) return offered;
      thief.listen(offered, '127.0.0.1');
      await once(thief, 'listening');
      throw new Error('address in use');
    });
    expect(tried).toEqual([preferred, port]);
  } finally {
    thief.close();
  }
});

test('a start that may have lost a port of its own choice is made again, three times at most', async () => {
  let attempts = 0;
  const start = async (): Promise<never> => {
    attempts++;
    throw new Error('panic: no port');
  };
  await expect(withFreePort(undefined, start, () => true)).rejects.toThrow('panic: no port');
  expect(attempts).toBe(3);
});

test('a start that fails for another reason is not repeated', async () => {
  let attempts = 0;
  const start = async (): Promise<never> => {
    attempts++;
    throw new Error('no disk');
  };
  await expect(withFreePort(undefined, start)).rejects.toThrow('no disk');
  expect(attempts).toBe(1);
});
