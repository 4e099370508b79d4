// What differs between machines in making processors forget: when a change of tables is noted, what an interruption brings,
// what a VM entry does. ept.ts and asid.ts are the two sets of rules, `m.flushing` is the machine's; flush.ts is built on them.
// The design is docs/decisions/0007.

import type { Machine } from '../machine.ts';

/** How processors of one kind are made to forget. */
export interface FlushRules {
  /** A new machine. */
  readonly init: (m: Machine) => void;
  /** The tables of `dom` have changed, in the same act. Nobody is interrupted. */
  readonly mark: (m: Machine, dom: number) => void;
  /** `pcpu` has left its guest to forget: what it entered with before must not serve any more when it enters again. */
  readonly interrupted: (m: Machine, pcpu: number) => void;
  /** `pcpu` is about to run another vCPU, that at `key`. */
  readonly switched: (m: Machine, pcpu: number, key: number) => void;
  /** VM entry: `pcpu` is about to go on with its vCPU, which is of `dom`. */
  readonly enter: (m: Machine, pcpu: number, dom: number) => void;
  /** VM entry after an exit of the guest's own making, a call or a violation: nobody asked `pcpu` to forget anything. */
  readonly resumed: (m: Machine, pcpu: number, dom: number) => void;
  /** A pCPU that runs `dom` and has not yet forgotten what was marked; -1: none. */
  readonly pendingOn: (m: Machine, dom: number) => number;
  /** `pcpu` forgets what it has under `root`, as was marked for `dom`. */
  readonly execute: (m: Machine, pcpu: number, of: { readonly dom: number; readonly root: number }) => void;
}

/** The domain whose vCPU runs on `pcpu`; -1: none. */
export function domainOn(m: Machine, pcpu: number): number {
  const vcpu = m.f.pcpuVcpu.get(pcpu);
  return vcpu === 0 ? -1 : Math.floor((vcpu - 1) / m.geometry.capacity.vcpusPerDomain);
}
