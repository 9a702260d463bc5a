/** Server-sent events of an order, read block by block. */

/** The texts of the blocks, each of which an empty line ends. What is cut off by the end is left out. */
export function readBlocks(body: NonNullable<Response['body']>): AsyncGenerator<string, void> {
  // Locked at once: a body that nothing reads is cancelled when its response is collected as garbage.
  return blocksOf(body.pipeThrough(new TextDecoderStream()).getReader());
}

async function* blocksOf(reader: ReadableStreamDefaultReader<string>): AsyncGenerator<string, void> {
  let unread = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (unread + value).split('\n\n');
    unread = blocks.pop() ?? '';
    yield* blocks;
  }
}

/** By their names; a comment has none. */
export function fieldsOf(block: string): Map<string, string> {
  return new Map(
    block.split('\n').map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    }),
  );
}
