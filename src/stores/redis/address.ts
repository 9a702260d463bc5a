/** The addresses of Redis as they are configured, and what of them may be shown: never the password. */

import assert from 'node:assert/strict';

export interface RedisAddress {
  /** With user and password. */
  url: string;
  /** Host and port, for messages and logs. */
  endpoint: string;
  /** The password, as it is sent and as the URL spells it. */
  secrets: string[];
}

const DEFAULT_PORT = 6379;

/** @throws when `url` is none; the error does not repeat it */
export function parseAddress(url: string): RedisAddress {
  assert(URL.canParse(url), 'a Redis address is not a URL');
  const { hostname, port, password, searchParams } = new URL(url);
  // ioredis also takes the password from the query.
  const inQuery = searchParams.get('password') ?? '';
  const spellings = [password, decodeURIComponent(password), inQuery, encodeURIComponent(inQuery)];
  return {
    url,
    endpoint: `${hostname}:${port === '' ? DEFAULT_PORT : port}`,
    // The longest first: one spelling may begin with another.
    secrets: [...new Set(spellings)].filter((text) => text !== '').toSorted((a, b) => b.length - a.length),
  };
}

/** For the nodes that a cluster names of itself: they come without user, password or TLS. */
export function credentialsOf({ url }: RedisAddress) {
  const { protocol, username, password } = new URL(url);
  return {
    ...(username === '' ? {} : { username: decodeURIComponent(username) }),
    ...(password === '' ? {} : { password: decodeURIComponent(password) }),
    ...(protocol === 'rediss:' ? { tls: {} } : {}),
  };
}

/**
 * Takes the password out of a connection's error, out of its causes and of the errors of single nodes. A
 * failed AUTH or HELLO carries it among the command's arguments, and a server without these commands repeats
 * it in the message. In place: ioredis rejects the commands under way with the same error, and their callers
 * log it too.
 */
export function hideSecrets(error: unknown, secrets: readonly string[]): void {
  if (!(error instanceof Error)) return;
  for (const secret of secrets) {
    error.message = error.message.replaceAll(secret, '***');
    if (error.stack !== undefined) error.stack = error.stack.replaceAll(secret, '***');
  }
  Reflect.deleteProperty(error, 'command');
  hideSecrets(error.cause, secrets);
  // The error of a cluster carries that of the node that was tried last.
  hideSecrets(Reflect.get(error, 'lastNodeError'), secrets);
}
