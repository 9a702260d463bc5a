/** A line on the terminal that is written over, say for progress, with lines that stay above it. */

import { clearLine, cursorTo } from 'node:readline';

export interface LiveLine {
  /** False where the output is no terminal: then nothing is shown but what is printed. */
  isLive: boolean;
  show(text: string): void;
  /** A line that stays. */
  print(text: string): void;
  /** The line that is shown goes. */
  clear(): void;
}

export function createLiveLine(out: NodeJS.WriteStream): LiveLine {
  const isLive = out.isTTY;
  const clear = (): void => {
    if (!isLive) return;
    clearLine(out, 0);
    cursorTo(out, 0);
  };
  return {
    isLive,
    clear,
    show(text) {
      if (!isLive) return;
      clear();
      // A line that breaks could not be written over.
      out.write(text.slice(0, out.columns - 1));
    },
    print(text) {
      clear();
      out.write(`${text}\n`);
    },
  };
}

const BAR_WIDTH = 30;

/** As in "██████──── 60 %". */
export function bar(share: number): string {
  const full = Math.round(Math.min(1, share) * BAR_WIDTH);
  return `${'█'.repeat(full)}${'─'.repeat(BAR_WIDTH - full)} ${Math.floor(share * 100)} %`;
}
