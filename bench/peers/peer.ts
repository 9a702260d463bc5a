/** What the accepting side of another design is, so that one server and one measurement fit all of them. */

import type { Redis } from 'ioredis';

/** What a queue design hands over: all that its consumer needs to store the order. */
export interface PeerOrder {
  orderNo: string;
  saleId: string;
  userId: string;
  idempotencyKey: string;
  items: readonly { sku: string; quantity: number; unitPrice: number }[];
  /** Minor units. */
  total: number;
  currency: string;
  reservedAtMs: number;
  paymentWindowMs: number;
  ip: string;
  userAgent: string;
}

export type PeerOutcome =
  | { kind: 'accepted' }
  | { kind: 'sold-out' }
  /** Only where the design keeps idempotency, and is asked to. */
  | { kind: 'repeated'; orderNo: string };

interface PeerServers {
  redisUrl: string;
  mysqlUrl: string;
  rabbitmqUrl: string;
}

export interface Peer {
  /** Puts so many units of the SKU `unit` on sale. */
  openSale(saleId: string, units: number): Promise<void>;
  /** The steps of the design, one after the other; resolves when the caller may be answered. */
  accept(order: PeerOrder): Promise<PeerOutcome>;
  /** For the check after a measurement: units taken from the stock, and orders handed over. */
  count(saleId: string): Promise<{ taken: number; handedOver: number }>;
  /** Removes what earlier measurements have left. */
  clear(): Promise<void>;
  close(): Promise<void>;
}

interface PeerOptions {
  servers: PeerServers;
  /** Keeps the promise of an idempotency key as far as the design can. */
  isIdempotent: boolean;
}

export type OpenPeer = (options: PeerOptions) => Promise<Peer>;

const IDEMPOTENCY_SECONDS = 24 * 60 * 60;

/**
 * For designs without a place for idempotency keys of their own: one more round trip ahead of their first.
 * @returns the orderNo of the first request with this key, when this is not the first
 */
export async function claimKey(redis: Redis, order: PeerOrder): Promise<string | undefined> {
  const { saleId, userId, idempotencyKey, orderNo } = order;
  const key = `peer:${saleId}:idem:${userId}:${idempotencyKey}`;
  const isFirst = await redis.set(key, orderNo, 'EX', IDEMPOTENCY_SECONDS, 'NX');
  return isFirst === null ? ((await redis.get(key)) ?? orderNo) : undefined;
}
