/** The whole life of one order, gathered from all stores; a store that is away is named, not waited for. */

import { parseOrderNo, type OrderState } from '../domain/order.ts';
import { createWorkflowRuns, type WorkflowRun } from '../engine/workflow-runs.ts';
import { readMysqlLife, type MysqlLife } from '../stores/mysql/ops/order-life.ts';
import { formatSaleShard } from '../stores/redis/keys.ts';
import { readRedisLife, type RedisLife } from '../stores/redis/order-life.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import { UsageError } from './errors.ts';
import { messageOf, type Parts } from './parts.ts';

/** What a store has; `away`: why it did not answer. */
type Answer<T> = { kind: 'answered'; life: T } | { kind: 'away'; why: string };

export interface OrderLife {
  orderNo: string;
  mysql: MysqlLife;
  /** Undefined in it: Redis does not have the order. */
  redis: Answer<RedisLife>;
  /** Runs of the order's workflow and of its payments' refund workflows. */
  temporal: Answer<WorkflowRun[]>;
}

/** @throws when MySQL is away: it has the truth */
export async function readOrderLife(parts: Parts, orderNo: string): Promise<OrderLife> {
  const saleShard = parseOrderNo(orderNo);
  if (!saleShard) throw new UsageError(`no order number: ${orderNo}`);
  const [mysql, redis] = await Promise.all([
    readMysqlLife(parts.pool(), orderNo, formatSaleShard(saleShard)),
    ask(async () => readRedisLife(await parts.redis(), orderNo)),
  ]);
  const workflowIds = [orderNo, ...mysql.payments.map(refundWorkflowId)];
  const temporal = await ask(async () => {
    const runs = createWorkflowRuns(await parts.temporal());
    return (await Promise.all(workflowIds.map((workflowId) => runs.list(workflowId)))).flat();
  });
  return { orderNo, mysql, redis, temporal };
}

async function ask<T>(read: () => Promise<T>): Promise<Answer<T>> {
  try {
    return { kind: 'answered', life: await read() };
  } catch (error) {
    return { kind: 'away', why: messageOf(error) };
  }
}

/** Undefined: no store has the order. */
export function stateOf({ mysql, redis }: OrderLife): OrderState | undefined {
  if (mysql.stored) return mysql.stored.state;
  return redis.kind === 'answered' ? redis.life.reserved?.state : undefined;
}
