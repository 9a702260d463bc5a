/** An append-only file of JSON lines, read again at the next start. */

import { closeSync, createReadStream, ftruncateSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

export interface Journal {
  /**
   * Returns once the operating system has the line, so it outlives this process.
   * Throws, leaving no half line, when it cannot be written.
   */
  append: (entry: object) => void;
  close: () => void;
}

/**
 * Bytes of one line. Entries hold a handful of short fields, so a longer line means that the file is not
 * ours, and reading on would only fill the memory.
 */
const MAX_LINE_BYTES = 64 * 1024;
const NEWLINE = 0x0a;

/**
 * Hands every whole line to `onEntry`, in order, then opens the file for appending. A last line without its
 * newline is what a crash left of a write that no caller saw succeed; it is cut off. A broken line anywhere
 * else stops the start.
 */
export async function openJournal(path: string, onEntry: (entry: unknown) => void): Promise<Journal> {
  mkdirSync(dirname(path), { recursive: true });
  const fd = openSync(path, 'a+');
  try {
    let size = await replay(path, onEntry);
    ftruncateSync(fd, size);
    return {
      append: (entry) => {
        const line = Buffer.from(`${JSON.stringify(entry)}\n`);
        try {
          writeWhole(fd, line);
        } catch (error) {
          ftruncateSync(fd, size);
          throw error;
        }
        size += line.length;
      },
      close: () => closeSync(fd),
    };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Returns the number of bytes up to the end of the last whole line. */
async function replay(path: string, onEntry: (entry: unknown) => void): Promise<number> {
  let rest: Buffer = Buffer.alloc(0);
  let wholeBytes = 0;
  let lineNumber = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = rest.indexOf(NEWLINE); end !== -1; end = rest.indexOf(NEWLINE, start)) {
      lineNumber += 1;
      try {
        onEntry(JSON.parse(rest.toString('utf8', start, end)));
      } catch (error) {
        throw new Error(`${path}:${lineNumber} is not a line of this book`, { cause: error });
      }
      wholeBytes += end + 1 - start;
      start = end + 1;
    }
    rest = rest.subarray(start);
    if (rest.length > MAX_LINE_BYTES) throw new Error(`${path}:${lineNumber + 1} is too long for this book`);
  }
  return wholeBytes;
}

/** `writeSync` may write a part only; every round writes at least a byte or throws, so the loop ends. */
function writeWhole(fd: number, line: Buffer): void {
  let written = 0;
  while (written < line.length) written += writeSync(fd, line, written);
}
