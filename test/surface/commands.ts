/** The operator's commands, as their own help tells them: arguments, options, exit codes, examples. */

import { runOps } from '../../src/ops/program.ts';

/** By the words of the command; a line of its help is one text. */
export async function showCommands(group: readonly string[] = []): Promise<Record<string, string[]>> {
  const lines = (await help(group)).split('\n');
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

async function help(command: readonly string[]): Promise<string> {
  let out = '';
  const keep = (text: string): void => void (out += `${text}\n`);
  await runOps([...command, '--help'], {
    terminal: { out: keep, err: keep, write: async (text) => keep(text), progress: () => {}, columns: 100 },
    user: 'olga',
    loadConfig: () => {
      throw new Error('help needs no configuration');
    },
  });
  return out;
}
