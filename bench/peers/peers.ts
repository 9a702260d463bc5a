/** The designs that are compared with Holdfast, by name. */

import { openBullmq } from './bullmq.ts';
import { openLuaList } from './lua-list.ts';
import type { OpenPeer } from './peer.ts';
import { openRabbitmq } from './rabbitmq.ts';
import { openShopifyRows } from './shopify-rows.ts';
import { openStoredFirst } from './stored-first.ts';

export type PeerName = 'lua-list' | 'rabbitmq' | 'bullmq' | 'stored-first' | 'shopify-rows';

export const PEERS: Readonly<Record<PeerName, OpenPeer>> = {
  'lua-list': openLuaList,
  rabbitmq: openRabbitmq,
  bullmq: openBullmq,
  'stored-first': openStoredFirst,
  'shopify-rows': openShopifyRows,
};

export function isPeerName(name: string): name is PeerName {
  return Object.hasOwn(PEERS, name);
}
