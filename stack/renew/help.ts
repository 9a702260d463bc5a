/** Reads the help text of an operator's command. */

import { runOps } from '../../src/ops/program.ts';

/** @param columns of the terminal */
export async function readHelp(command: readonly string[], columns: number): Promise<string> {
  let out = '';
  const keep = (text: string): void => void (out += `${text}\n`);
  await runOps([...command, '--help'], {
    terminal: {
      out: keep,
      err: keep,
      write: async (text) => keep(text),
      progress: () => {},
      openScreen: helpNeedsNone,
      columns,
    },
    user: 'olga',
    loadConfig: helpNeedsNone,
    loadAccess: helpNeedsNone,
  });
  return out;
}

function helpNeedsNone(): never {
  throw new Error('help needs no screen and no configuration');
}
