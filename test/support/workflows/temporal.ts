/** A namespace of the real Temporal server for a test file: no other file's workflows or workers in it. */

import { Connection } from '@temporalio/client';
import { google, temporal } from '@temporalio/proto';
import Long from 'long';
import { ulid } from 'ulidx';
import { inject } from 'vitest';
import { waitFor } from '../wait.ts';

/** A day: the shortest that the server takes. */
const RETENTION_HOURS = 24;
const KEYWORD = temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD;

interface NamespaceOptions {
  retentionHours?: number;
  /** false: without those that orders need. */
  withAttributes?: boolean;
}

export async function createNamespace({
  retentionHours = RETENTION_HOURS,
  withAttributes = true,
}: NamespaceOptions = {}): Promise<string> {
  const connection = await Connection.connect({ address: inject('temporalAddress') });
  const namespace = `test-${ulid().toLowerCase()}`;
  try {
    await connection.workflowService.registerNamespace({
      namespace,
      workflowExecutionRetentionPeriod: google.protobuf.Duration.create({
        seconds: Long.fromNumber(retentionHours * 3_600),
      }),
    });
    // The registry is refreshed now and then: until then the namespace is not found.
    await waitFor('the namespace', async () => {
      try {
        const attributes = { OrderStatus: KEYWORD, UserId: KEYWORD, SaleId: KEYWORD };
        if (withAttributes)
          await connection.operatorService.addSearchAttributes({ namespace, searchAttributes: attributes });
        else await connection.operatorService.listSearchAttributes({ namespace });
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
