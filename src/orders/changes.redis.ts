/**
 * Hears which orders have changed: `lua/project.lua` says so on a channel of their sale shard. A process has
 * one connection for it, on a cluster one to each node that has such a shard.
 */

import { Cluster, Redis } from 'ioredis';
import type { Logger } from 'pino';
import { connectToListen, type RedisClient } from '../redis/connection.ts';
import { changesChannel, orderNoOf, type SaleShard } from '../redis/keys.ts';

/** How soon what could not be subscribed to is tried again, and a slot that has moved is followed. */
const LOOK_EVERY_MS = 1_000;
/** Of so many looks one asks for a sign of life: a server that vanished sends no end of the connection. */
const LOOKS_A_PING = 5;

export interface ChangeListener {
  /** Of these orders one or more have changed. */
  changed: (orderNos: readonly string[]) => void;
  /** From now on each change of the shard is heard; those before may have been missed. */
  subscribed: (shard: SaleShard) => void;
}

interface Channel {
  name: string;
  shard: SaleShard;
  /** Of a cluster; asked for once. */
  slot: number | undefined;
  /** The connection to the node that it belongs to. */
  due: Redis | undefined;
  /** The connection that it is subscribed on, or about to be. */
  on: Redis | undefined;
}

/** Connects with the first shard that is followed. Never throws: what is not heard is looked up in time. */
export function listenToChanges(redis: RedisClient, { changed, subscribed }: ChangeListener, log: Logger) {
  /** By their names. */
  const channels = new Map<string, Channel>();
  /** By the address of the node. */
  const connections = new Map<string, Redis>();
  let looks = 0;
  let timer: NodeJS.Timeout | undefined;

  /** With the prefix of the deployment, as a script has it. */
  function nameOf(shard: SaleShard): string {
    return `${redis.options.keyPrefix ?? ''}${changesChannel(shard)}`;
  }

  function connectionTo(node: Redis): Redis {
    const address = addressOf(node);
    const open = connections.get(address);
    if (open) return open;
    const connection = connectToListen(node, log);
    connections.set(address, connection);
    connection
      .on('smessage', (_: string, message: string) => changed(message.split(' ').map(orderNoOf)))
      .on('ready', settle)
      .on('close', () => {
        for (const channel of channels.values()) if (channel.on === connection) channel.on = undefined;
      });
    return connection;
  }

  async function subscribe(channel: Channel, connection: Redis): Promise<void> {
    const before = channel.on;
    channel.on = connection;
    if (before?.status === 'ready') before.sunsubscribe(channel.name).catch(() => {});
    try {
      await connection.ssubscribe(channel.name);
      if (channel.on === connection && channels.has(channel.name)) subscribed(channel.shard);
    } catch (error) {
      if (channel.on === connection) channel.on = undefined;
      log.warn({ err: error, channel: channel.name }, 'changes of orders are not heard; they are looked up');
    }
  }

  async function locate(channel: Channel, cluster: Cluster): Promise<Redis | undefined> {
    channel.slot ??= await cluster.cluster('KEYSLOT', channel.name);
    const [address] = cluster.slots[channel.slot] ?? [];
    return cluster.nodes('master').find((node) => addressOf(node) === address);
  }

  async function settleOne(channel: Channel): Promise<void> {
    const node = redis instanceof Cluster ? await locate(channel, redis).catch(() => undefined) : redis;
    if (!node || !channels.has(channel.name)) return;
    const connection = connectionTo(node);
    channel.due = connection;
    if (channel.on !== connection && connection.status === 'ready') await subscribe(channel, connection);
  }

  /** Has each channel subscribed to where it belongs now, as far as that can be reached. */
  function settle(): void {
    for (const channel of channels.values()) void settleOne(channel);
  }

  /** To a node that has gone, or that no followed shard is on. */
  function closeUnused(): void {
    const due = new Set([...channels.values()].map((channel) => channel.due));
    for (const [address, connection] of connections) {
      if (due.has(connection)) continue;
      connections.delete(address);
      connection.disconnect();
    }
  }

  function look(): void {
    settle();
    closeUnused();
    looks += 1;
    if (looks % LOOKS_A_PING > 0) return;
    // Without an answer ioredis closes the connection, and connects anew.
    for (const connection of connections.values())
      if (connection.status === 'ready') connection.ping().catch(() => {});
  }

  /**
   * The client has connected anew. Its address may lead to another server than before, while the old one
   * lives on as a replica.
   */
  function reconnect(): void {
    for (const connection of connections.values()) connection.disconnect(true);
  }
  // Of a cluster each channel is followed to the node that has it.
  if (redis instanceof Redis) redis.on('ready', reconnect);

  return {
    follow(shard: SaleShard): void {
      const name = nameOf(shard);
      if (channels.has(name)) return;
      const channel: Channel = { name, shard, slot: undefined, due: undefined, on: undefined };
      channels.set(name, channel);
      timer ??= setInterval(look, LOOK_EVERY_MS).unref();
      void settleOne(channel);
    },

    unfollow(shard: SaleShard): void {
      const name = nameOf(shard);
      const connection = channels.get(name)?.on;
      channels.delete(name);
      if (connection?.status === 'ready') connection.sunsubscribe(name).catch(() => {});
    },

    close(): void {
      clearInterval(timer);
      redis.off('ready', reconnect);
      channels.clear();
      for (const connection of connections.values()) connection.disconnect();
    },
  };
}

function addressOf({ options: { host, port } }: Redis): string {
  return `${host}:${port}`;
}
