/** A whole of which a test gives a part. Whatever else its subject asks for is missing, and fails. */

type Part<T> = T extends (...args: never[]) => unknown ? T : { [K in keyof T]?: Part<T[K]> };

export function partly<T>(part: Part<T>): T;
export function partly(part: unknown): unknown {
  return part;
}
