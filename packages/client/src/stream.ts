/** Server-sent events over fetch, which can send a token where EventSource cannot. */

/** Characters of an event that has not ended: an order has at most some 20 KB. */
const MAX_EVENT_CHARS = 1_000_000;

export interface StreamEvent {
  type: string;
  data: string;
}

/** Parses a body as it comes (HTML, 9.2.6). An event that the end cuts off is dropped. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<StreamEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  // Of a \r at the end of a chunk it is not known yet whether a \n follows.
  let held = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      const text = held + decoder.decode(value, { stream: !done });
      held = !done && text.endsWith('\r') ? '\r' : '';
      rest += text.slice(0, text.length - held.length).replaceAll(/\r\n?/g, '\n');
      const blocks = rest.split('\n\n');
      rest = blocks.pop() ?? '';
      if (rest.length > MAX_EVENT_CHARS) throw new Error('an event of the stream does not end');
      for (const block of blocks) yield parseBlock(block);
      if (done) return;
    }
  } finally {
    // Whoever stops reading ends the connection.
    await reader.cancel().catch(() => {});
  }
}

function parseBlock(block: string): StreamEvent {
  const event: StreamEvent = { type: 'message', data: '' };
  const data: string[] = [];
  for (const line of block.split('\n')) {
    const [, field = '', value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
    if (field === 'data') data.push(value);
    else if (field === 'event') event.type = value;
  }
  event.data = data.join('\n');
  return event;
}
