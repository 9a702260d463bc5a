/** Processor time, of a process and of the whole machine; from /proc, so on Linux alone, and elsewhere 0. */

import { readFileSync } from 'node:fs';

/** Of the clock in /proc, which Linux fixes for programs. */
const TICKS_A_SECOND = 100;
/** Fields after the program's name, which may hold spaces itself. */
const [UTIME, STIME] = [11, 12];
/** Of the line of all processors: idle, and waiting for a disk. */
const [IDLE, IOWAIT] = [3, 4];
/** user … steal; what follows is counted in these already. */
const COUNTED_FIELDS = 8;

/** Of all threads of the process, since its start. */
export function readCpuSeconds(pid: number): number {
  if (process.platform !== 'linux') return 0;
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[UTIME]) + Number(fields[STIME])) / TICKS_A_SECOND;
}

/** Of all processes on all cores, since the machine's start. */
export function readBusySeconds(): number {
  if (process.platform !== 'linux') return 0;
  const [line = ''] = readFileSync('/proc/stat', 'latin1').split('\n');
  const ticks = line
    .trim()
    .split(/\s+/)
    .slice(1, 1 + COUNTED_FIELDS)
    .map(Number);
  const busy = ticks.filter((_, field) => field !== IDLE && field !== IOWAIT);
  return busy.reduce((sum, each) => sum + each, 0) / TICKS_A_SECOND;
}
