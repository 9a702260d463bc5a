/** Connections to Temporal for tests: a client of a namespace, and an engine whose Temporal is away. */

import { Client, Connection } from '@temporalio/client';
import { NativeConnection } from '@temporalio/worker';
import { inject } from 'vitest';
import { createOrderEngine, type OrderEngine } from '../../../src/engine/order-engine.ts';
import { installQuietRuntime } from './native-runtime.ts';

export interface TestEngine {
  engine: OrderEngine;
  client: Client;
  close(): Promise<void>;
}

/** As the API has it: over a connection of its own. */
export async function openEngine(
  namespace: string,
  address = inject('temporalAddress'),
): Promise<TestEngine> {
  return engineAt(address, namespace);
}

/** No server listens at its address. */
export async function openEngineAway(): Promise<TestEngine> {
  return engineAt('127.0.0.1:1', 'default');
}

/** As the relay has it: over a native connection, on which starts are eager. */
export async function openRelayEngine(
  namespace: string,
  address = inject('temporalAddress'),
): Promise<TestEngine> {
  installQuietRuntime();
  const connection = await NativeConnection.connect({ address });
  const client = new Client({ connection, namespace });
  return { engine: createOrderEngine(client), client, close: () => connection.close() };
}

function engineAt(address: string, namespace: string): TestEngine {
  const connection = Connection.lazy({ address });
  const client = new Client({ connection, namespace });
  return { engine: createOrderEngine(client), client, close: () => connection.close() };
}
