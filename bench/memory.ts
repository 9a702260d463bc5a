/** The resident memory of a process, as Linux counts it. */

import { readFileSync } from 'node:fs';

/** In MB: now, and the most since the process started. */
export function readMemory(pid: number): { nowMb: number; peakMb: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const mb = (field: string): number =>
    Math.round(Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1]) / 1024);
  return { nowMb: mb('VmRSS'), peakMb: mb('VmHWM') };
}
