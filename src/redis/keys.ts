/**
 * Redis keys. All keys of one shard of a sale share a hash tag, so that one script can touch them on a
 * cluster, and an orderNo alone is enough to derive them.
 */

import assert from 'node:assert/strict';
import { parseOrderNo } from '../orders/order.ts';

export interface SaleShard {
  saleId: string;
  shard: number;
}

/** The sales that Redis holds, whose outboxes a relay reads. Members are `saleId.shard`. */
export const SALES_KEY = 'holdfast:sales';
/** Whose data these are. */
export const DEPLOYMENT_KEY = 'holdfast:deployment';
/** Orders and signals that the engine is working on, scored by the end of their lease. */
export const ENGINE_KEY = 'holdfast:engine';
/** How far the events of each history of MySQL were numbered, scored by the last sequence. */
export const FEED_MARKS_KEY = 'holdfast:feed_marks';
/** The workers that live, each with when it was last seen. */
export const WORKERS_KEY = 'holdfast:workers';
/** What the APIs noted, by minute. */
export const API_NOTES_KEY = 'holdfast:api_notes';
/** The drift that the last run of the reconciliation found. */
export const DRIFT_KEY = 'holdfast:drift';

/**
 * A function of the user, so that idempotency and limits stay in one shard. There is one shard until hot SKUs
 * are split.
 */
export function shardOf(_userId: string): number {
  return 0;
}

/** All of a sale, until hot SKUs are split. */
export function wholeSale(saleId: string): SaleShard {
  return { saleId, shard: 0 };
}

export function formatSaleShard({ saleId, shard }: SaleShard): string {
  return `${saleId}.${shard}`;
}

/** @returns undefined when `text` names no shard of a sale */
export function parseSaleShard(text: string): SaleShard | undefined {
  const [, saleId, shard] = /^([a-z0-9-]+)\.(\d+)$/.exec(text) ?? [];
  return saleId === undefined ? undefined : { saleId, shard: Number(shard) };
}

export function saleKeys(saleShard: SaleShard) {
  const tag = `holdfast:{${formatSaleShard(saleShard)}}`;
  return {
    sale: `${tag}:sale`,
    stock: `${tag}:stock`,
    limits: `${tag}:limits`,
    outbox: `${tag}:outbox`,
    deadlines: `${tag}:deadlines`,
    /** Orders that were reserved again in this epoch; kept until the next. */
    restored: `${tag}:restored`,
    /** What of refunded orders has gone back, by `returnMark`; kept for good. */
    returns: `${tag}:returns`,
    /** Orders whose holds a rebuild has made void, until their hashes have an end. */
    void: `${tag}:void`,
    /**
     * What a rebuild found damaged, until an operator can see it: names of keys, and orders that are lost.
     */
    damaged: `${tag}:damaged`,
    /**
     * Orders whose holds have ended, or with a plus begun again, since the stores began to be compared; only
     * while they are.
     */
    moves: `${tag}:moves`,
    /**
     * The open orders of each user, by user: numbers with a space between, the newest last, 20 at most.
     * Where others went, `+` and when the last one did (Unix ms) stand first.
     */
    open: `${tag}:open`,
    /** How many holds of each user ended without payment, by time-out or at their own wish; by user. */
    unpaid: `${tag}:unpaid`,
    /** Free orders of the last day, by when they were sold (Unix ms). MySQL may lose them unnoticed. */
    free: `${tag}:free`,
    /** Refused purchases by second, minute or hour, of the hour that begins then (Unix seconds); `sums`. */
    refused: (step: string, hourS: number) => `${tag}:refused:${step}:${hourS}`,
    idem: (userId: string, idempotencyKey: string) => `${tag}:idem:${escape(userId)}:${idempotencyKey}`,
    /** The order that spent a ticket of single use, until the ticket has expired; `''`: of no ticket. */
    ticket: (ticketId: string) => `${tag}:ticket:${ticketId}`,
    order: (orderNo: string) => `${tag}:order:${orderNo}`,
  };
}

/** No key: the channel that says which orders have changed. See `lua/project.lua`. */
export function changesChannel(saleShard: SaleShard): string {
  return `holdfast:{${formatSaleShard(saleShard)}}:changes`;
}

/**
 * The field of `limits` that counts what a user holds or owns of a SKU. The scripts make it in the same way.
 */
export function limitField(sku: string, userId: string): string {
  return `${escape(sku)}:${userId}`;
}

export function parseLimitField(field: string): { sku: string; userId: string } {
  const colon = field.indexOf(':');
  return { sku: unescape(field.slice(0, colon)), userId: field.slice(colon + 1) };
}

/**
 * Takes the colons out of the part before a colon, so that no two pairs make the same text. What has neither
 * a colon nor a percent sign stays as it is.
 */
function escape(part: string): string {
  return part.replaceAll('%', '%25').replaceAll(':', '%3A');
}

function unescape(part: string): string {
  return part.replaceAll('%3A', ':').replaceAll('%25', '%');
}

/**
 * The member of `returns` for what an order has given back.
 * @param part as in `GiveBack`
 */
export function returnMark(orderNo: string, what: 'stock' | 'limit', part: string): string {
  return part === '' ? `${orderNo}:${what}` : `${orderNo}:${what}:${part}`;
}

/** The keys of the sale an order belongs to, and its own. `orderNo` must be valid: parse it at the edge. */
export function orderKeys(orderNo: string) {
  const keys = saleKeys(partsOf(orderNo));
  return { ...keys, order: keys.order(orderNo) };
}

/** The number in the key of an order. */
export function orderNoOf(orderKey: string): string {
  return orderKey.slice(orderKey.lastIndexOf(':') + 1);
}

/** That of the sale shard an order belongs to. `orderNo` must be valid. */
export function changesChannelOf(orderNo: string): string {
  return changesChannel(partsOf(orderNo));
}

/** The epoch that the orderNo was made in. `orderNo` must be valid. */
export function epochOf(orderNo: string): number {
  return partsOf(orderNo).epoch;
}

function partsOf(orderNo: string) {
  const parts = parseOrderNo(orderNo);
  assert(parts, `not an order number: ${orderNo}`);
  return parts;
}
