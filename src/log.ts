/** Logs as JSON lines. A line about an order carries its `orderNo`. No line carries a token or a password. */

import { pino, stdSerializers, type DestinationStream, type Logger } from 'pino';

/** @param destination by default the process' standard output */
export function createLog(name: string, level: string, destination?: DestinationStream): Logger {
  const options = {
    name,
    level,
    redact: ['headers.authorization'],
    timestamp: pino.stdTimeFunctions.isoTime,
    serializers: { err: serializeError },
    // Over the whole line, so that no message, cause or member of an error escapes it.
    hooks: { streamWrite: redactCredentials },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/** Users may be named, passwords never: `redis://user:secret@host` becomes `redis://user:***@host`. */
export function redactCredentials(text: string): string {
  return text.replaceAll(/(\/\/[^\s/?#"@:]*):[^\s/?#"]*@/g, '$1:***@');
}

/** With the messages of the causes, which name the address. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // A host with two addresses fails with an error without a message.
  const own = error.message === '' && 'code' in error ? String(error.code) : error.message;
  return error.cause instanceof Error ? `${own}: ${messageOf(error.cause)}` : own;
}

/** ioredis adds its command to an error: the arguments of AUTH are the password, of others a user's data. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const serialized = withoutArguments(stdSerializers.err(error));
  return error.cause instanceof Error ? { ...serialized, cause: membersOf(error.cause) } : serialized;
}

/** Such as its code. Pino has its message and its stack behind those of the error that it caused. */
function membersOf(cause: Error): object {
  const members = Object.entries(Object(serializeError(cause)));
  return Object.fromEntries(members.filter(([name]) => name !== 'message' && name !== 'stack'));
}

/** @param serialized an error as pino writes it, maybe with others inside */
function withoutArguments(serialized: object): object {
  return Object.fromEntries(
    Object.entries(serialized).map(([name, member]: [string, unknown]) => {
      if (name === 'command') return [name, nameOf(member)];
      if (Array.isArray(member)) return [name, member.map(serializeMember)];
      return [name, serializeMember(member)];
    }),
  );
}

/** What pino has not serialized yet, such as an error in a list, and what it has. */
function serializeMember(member: unknown): unknown {
  if (member instanceof Error) return serializeError(member);
  return isError(member) ? withoutArguments(member) : member;
}

function isError(value: unknown): value is object {
  return typeof value === 'object' && value !== null && 'stack' in value && 'message' in value;
}

function nameOf(command: unknown): unknown {
  return typeof command === 'object' && command !== null && 'name' in command ? command.name : undefined;
}
