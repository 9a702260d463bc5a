/** The operator's commands, as their own help tells them: arguments, options, exit codes, examples. */

import { readHelp } from '../help.ts';

/** By the words of the command; a line of its help is one text. */
export async function showCommands(group: readonly string[] = []): Promise<Record<string, string[]>> {
  const lines = (await readHelp(group, 100)).split('\n');
  const shown = { [['ops', ...group].join(' ')]: lines };
  const begin = lines.indexOf('Commands:');
  if (begin === -1) return shown;
  const end = lines.indexOf('', begin);
  const names = lines
    .slice(begin + 1, end === -1 ? undefined : end)
    .flatMap((line) => /^ {2}(\S+)/.exec(line)?.[1] ?? [])
    .filter((name) => name !== 'help');
  const below = await Promise.all(names.map((name) => showCommands([...group, name])));
  return Object.assign(shown, ...below);
}
