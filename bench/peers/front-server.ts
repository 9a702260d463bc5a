/**
 * A process that serves another design behind Holdfast's own front: the same routes, bounds, lanes, token
 * check, validation and answers. Only `reservations.reserve` is replaced: a difference is the design's.
 */

import assert from 'node:assert/strict';
import { monotonicFactory } from 'ulidx';
import { startApi } from '../../src/api/service.ts';
import { loadApiConfig } from '../../src/config.ts';
import { formatOrderNo } from '../../src/orders/order.ts';
import type { ReserveOutcome, ReserveRequest } from '../../src/orders/reserve.redis.ts';
import { runProcess } from '../../src/process.ts';
import { openProvider } from '../../src/providers/open.ts';
import { openStores } from '../../src/stores/open.ts';
import type { Peer, PeerOrder } from './peer.ts';
import { isPeerName, PEERS } from './peers.ts';
import { PRICE } from './price.ts';

const name = process.env['PEER'] ?? '';
assert(isPeerName(name), 'PEER names a design');
const openPeer = PEERS[name];

await runProcess('front', loadApiConfig, async (config, log) => {
  const stores = await openStores(config, log);
  const servers = {
    redisUrl: config.REDIS_URL[0] ?? '',
    mysqlUrl: config.MYSQL_URL,
    rabbitmqUrl: process.env['RABBITMQ_URL'] ?? '',
  };
  const peer = await openPeer({ servers, isIdempotent: true });
  const reservations = { ...stores.reservations, reserve: createReserve(peer) };
  const provider = openProvider(config, stores.deployment);
  return startApi(config, { stores: { ...stores, reservations }, provider, log });
});

function createReserve(peer: Peer) {
  const nextUlid = monotonicFactory();
  return async (request: ReserveRequest): Promise<ReserveOutcome> => {
    const order = toOrder(request, nextUlid());
    const outcome = await peer.accept(order);
    switch (outcome.kind) {
      case 'accepted':
        return { kind: 'reserved', ...order, items: [...order.items] };
      case 'sold-out':
        return { kind: 'sold-out', sku: order.items[0]?.sku ?? '', available: 0, held: 0, openOrders: [] };
      case 'repeated':
        return outcome;
    }
  };
}

/** None of the designs says where prices come from: here a constant, which costs nothing. */
function toOrder(request: ReserveRequest, ulid: string): PeerOrder {
  const { saleId, userId, idempotencyKey, ip, userAgent } = request;
  const items = request.items.map((item) => ({ ...item, unitPrice: PRICE.unitPrice }));
  return {
    orderNo: formatOrderNo({ saleId, shard: 0, epoch: 1, ulid }),
    saleId,
    userId,
    idempotencyKey,
    items,
    total: items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0),
    currency: PRICE.currency,
    reservedAtMs: Date.now(),
    paymentWindowMs: PRICE.paymentWindowMs,
    ip,
    userAgent,
  };
}
