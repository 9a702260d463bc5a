/**
 * Holds processes to a share of one core, so that each of them, and not the machine, is the limit. It takes a
 * control group of Linux with a processor quota, of either version, and so the rights of root.
 */

import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Short, so that a held process is slow all the time instead of stopped most of it. */
const PERIOD_US = 10_000;
const V1 = '/sys/fs/cgroup/cpu';
const V2 = '/sys/fs/cgroup';

export interface HeldProcesses {
  /** @param share of one core */
  hold(pid: number, share: number): void;
  /** Lets all go. */
  release(): void;
}

/** @throws where there are no control groups to write to, with what it takes */
export function holdProcesses(): HeldProcesses {
  const root = existsSync(join(V1, 'cpu.cfs_quota_us')) ? V1 : V2;
  const held = new Map<number, string>();
  const moveTo = (group: string, pid: number): void =>
    writeFileSync(join(group, 'cgroup.procs'), String(pid));

  function limit(group: string, quotaUs: number): void {
    if (root === V2) {
      writeFileSync(join(V2, 'cgroup.subtree_control'), '+cpu');
      writeFileSync(join(group, 'cpu.max'), `${quotaUs} ${PERIOD_US}`);
      return;
    }
    writeFileSync(join(group, 'cpu.cfs_period_us'), String(PERIOD_US));
    writeFileSync(join(group, 'cpu.cfs_quota_us'), String(quotaUs));
  }

  function release(): void {
    for (const [pid, group] of held) {
      try {
        // What has ended cannot be moved, and leaves its group empty.
        if (existsSync(`/proc/${pid}`)) moveTo(root, pid);
        rmdirSync(group);
      } catch {
        // It is just ending: an empty group that stays holds nothing.
      }
    }
    held.clear();
  }

  // Groups outlive what made them, also where a signal ends it.
  process.once('exit', release);
  return {
    release,
    hold(pid, share) {
      const group = join(root, `holdfast-bench-${process.pid}-${pid}`);
      try {
        mkdirSync(group);
        held.set(pid, group);
        limit(group, Math.round(share * PERIOD_US));
        moveTo(group, pid);
      } catch (cause) {
        throw new Error('holding a process to a share of a core takes Linux and root: a control group', {
          cause,
        });
      }
    },
  };
}
