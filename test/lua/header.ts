/** Reads the header of a Lua script: what it says of keys, arguments and replies. */

interface Text {
  header: string;
  /** Without comments. */
  code: string;
}

export function splitScript(lua: string): Text {
  const end = lua.indexOf(']]');
  return { header: lua.slice(0, end), code: lua.slice(end + 2).replaceAll(/--.*$/gm, '') };
}

/** The lines of a section: from its name to an empty line. */
export function section(header: string, name: string): string[] {
  const lines = header.split('\n');
  const from = lines.indexOf(name) + 1;
  return from === 0 ? [] : lines.slice(from, lines.indexOf('', from));
}

/** Their names. */
export function documentedReplies(header: string): string[] {
  return [...section(`${header}\n`, 'Replies'), ...section(`${header}\n`, 'Replies, one an order')]
    .flatMap((line) => /^ {2}([a-z-]+)/.exec(line)?.[1] ?? [])
    .toSorted();
}
