/** A namespace of the real Temporal server for a test file: no other file's workflows or workers in it. */

import { Connection } from '@temporalio/client';
import { google, temporal } from '@temporalio/proto';
import Long from 'long';
import { ulid } from 'ulidx';
import { inject } from 'vitest';
import { waitFor } from '../wait.ts';

/** A day: the shortest that the server takes. */
const RETENTION_SECONDS = Long.fromNumber(24 * 60 * 60);
const KEYWORD = temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD;

export async function createNamespace(): Promise<string> {
  const connection = await Connection.connect({ address: inject('temporalAddress') });
  const namespace = `test-${ulid().toLowerCase()}`;
  try {
    await connection.workflowService.registerNamespace({
      namespace,
      workflowExecutionRetentionPeriod: google.protobuf.Duration.create({ seconds: RETENTION_SECONDS }),
    });
    // The registry is refreshed now and then: until then the namespace is not found.
    await waitFor('the namespace', async () => {
      try {
        await connection.operatorService.addSearchAttributes({
          namespace,
          searchAttributes: { OrderStatus: KEYWORD, UserId: KEYWORD, SaleId: KEYWORD },
        });
        return true;
      } catch {
        return false;
      }
    });
    return namespace;
  } finally {
    await connection.close();
  }
}
