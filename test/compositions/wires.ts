/**
 * Listens to all that this process sends to Redis, to MySQL and by HTTP: to each call before any of it is
 * sent, and to its answer before the caller goes on. Below whatever the product is made of.
 */

import assert from 'node:assert/strict';
import { Redis } from 'ioredis';
import { Connection } from 'mysql2';

export type Call =
  /** `command`: where it runs a script, that one's name. `text`: its arguments, and its reply once there. */
  | { wire: 'redis'; command: string; text: string }
  /** With its values, in one line. `transaction`: the statements of the transaction, in their order. */
  | { wire: 'mysql'; statement: string; transaction: readonly string[] }
  /** As in "POST /v1/refunds". */
  | { wire: 'http'; request: string };

interface Listener {
  sending: (call: Call) => void;
  /** Not of a call that failed or was refused. */
  answered: (call: Call) => void;
}

export function listen(listener: Listener): void {
  listenToRedis(listener);
  listenToMysql(listener);
  listenToFetch(listener);
}

/**
 * Each command of a pipeline comes through here as well, before any of them is written. In a MULTI a command
 * is answered when it is queued.
 */
function listenToRedis({ sending, answered }: Listener): void {
  const { sendCommand } = Redis.prototype;
  Redis.prototype.sendCommand = function sendAndListen(this: Redis, command, stream) {
    const { name, args, promise } = command;
    const script = findScript(this, args[0]);
    const text = JSON.stringify(script === undefined ? args : args.slice(1));
    const call = { wire: 'redis', command: script ?? name, text } as const;
    sending(call);
    // The caller gets the same promise, and waits for it after this.
    promise.then(
      (reply: unknown) => answered({ ...call, text: `${text} ${JSON.stringify(reply)}` }),
      () => {},
    );
    return sendCommand.call(this, command, stream);
  };
}

/** @param source the text of a script, or its hash */
function findScript({ scriptsSet }: Redis, source: unknown): string | undefined {
  const scripts = Object.entries<{ sha: string; lua: string }>(scriptsSet);
  return scripts.find(([, { sha, lua }]) => source === sha || source === lua)?.[0];
}

/** What mysql2 makes of a statement, its values included. */
interface MysqlCommand {
  /** Undefined: it is no statement, but a handshake or the like. */
  sql?: string;
  onResult?: (error: unknown, ...results: unknown[]) => void;
}

/** Whatever sends a statement, such as `commit`, adds it as a command to its connection. */
function listenToMysql({ sending, answered }: Listener): void {
  const transactions = new WeakMap<object, string[]>();
  const add: unknown = Reflect.get(Connection.prototype, 'addCommand');
  assert(typeof add === 'function', 'mysql2 adds its commands in another way than before');
  Reflect.set(Connection.prototype, 'addCommand', function addAndListen(this: object, command: MysqlCommand) {
    const { sql, onResult } = command;
    if (sql === undefined) return Reflect.apply(add, this, [command]);
    const statement = sql.replaceAll(/\s+/g, ' ');
    const transaction = transactions.get(this) ?? [];
    if (statement.startsWith('START TRANSACTION')) transactions.set(this, []);
    else if (statement === 'COMMIT' || statement === 'ROLLBACK') transactions.delete(this);
    else transaction.push(statement);
    const call = { wire: 'mysql', statement, transaction } as const;
    sending(call);
    if (onResult) {
      command.onResult = (error, ...results) => {
        if (!error) answered(call);
        onResult(error, ...results);
      };
    }
    return Reflect.apply(add, this, [command]);
  });
}

function listenToFetch({ sending, answered }: Listener): void {
  const { fetch } = globalThis;
  globalThis.fetch = async (input, init) => {
    const asked = input instanceof Request ? input : { url: input, method: 'GET' };
    const request = `${init?.method ?? asked.method} ${new URL(asked.url).pathname}`;
    const call = { wire: 'http', request } as const;
    sending(call);
    const response = await fetch(input, init);
    if (response.ok) {
      // All of the answer has come.
      await response.clone().arrayBuffer();
      answered(call);
    }
    return response;
  };
}
