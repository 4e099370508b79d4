// Roots of vCPUs. A vCPU holds its roots and uses them as such, so each is a tree that was looked through; loading one needs no more.
// A first reader may skip `dropRoot`. Sources: Xen arch/x86/mm.c (new_guest_cr3, MMUEXT_NEW_USER_BASEPTR), arch/x86/domain.c
// (vcpu_destroy_pagetables), arch/x86/pv/emul-priv-op.c (write_cr).

import { reply, type Reply } from '#abi/reply.ts';
import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import type { Step } from '../port.ts';
import { forgetAll } from '../tlb/flush.ts';
import { dropDescriptors, dropLdt } from './descriptor-frames.ts';
import { codeOfLevel } from './entry.ts';
import { getPage, running } from './frames.ts';
import { enterKernel } from './mode.ts';
import { keep, letGoOfOld } from './parked.ts';
import { putPageAndType, type Stopped } from './release.ts';
import { getType, type Unfit } from './types.ts';

/** A frame of `owner`'s, held and used as a root; or why not. */
export function* getRoot(m: Machine, mfn: number, owner: number): Step<Unfit | undefined> {
  if (!(yield* getPage(m, mfn, owner))) return 'EINVAL';
  const errno = yield* getType(m, mfn, codeOfLevel(m.geometry.levels));
  if (errno !== undefined && running(m).parked !== mfn) yield* putReference(m, mfn);
  return errno;
}

const ownerOfKey = (m: Machine, key: number): number => Math.floor(key / m.geometry.capacity.vcpusPerDomain);

/** The pCPU on which the vCPU at `key` runs, if it does, forgets all of its guest's. */
const forgetOf = (m: Machine, key: number): Step<void> => {
  const pcpu = m.f.vcpuOn.get(key) - 1;
  m.port.choose({ kind: 'forgotten' });
  return forgetAll(m, pcpu < 0 ? [] : [pcpu], false);
};

/** The kernel of the vCPU at `key` goes on under another root. */
export function* newRoot(m: Machine, key: number, mfn: number): Step<Unfit | undefined> {
  if (m.f.vcpuRoot.getWide(key) === mfn) {
    yield* forgetOf(m, key);
    return undefined;
  }
  const errno = yield* getRoot(m, mfn, ownerOfKey(m, key));
  if (errno !== undefined) return errno;
  yield* dropLdt(m, key);
  yield* m.port.point('store', 'domain');
  const old = m.f.vcpuRoot.getWide(key);
  m.f.vcpuRoot.setWide(key, mfn);
  yield* forgetOf(m, key);
  // What is left partial is let go of by the next call, which finds this root loaded.
  return old === 0 ? undefined : yield* putPageAndType(m, old);
}

/** Its user will go on under another root, or none (0). Processors load it when they enter user mode. */
export function* newUserRoot(m: Machine, key: number, mfn: number): Step<Unfit | undefined> {
  if (m.f.vcpuUserRoot.get(key) === mfn) return undefined;
  const errno = mfn === 0 ? undefined : yield* getRoot(m, mfn, ownerOfKey(m, key));
  if (errno !== undefined) return errno;
  yield* m.port.point('store', 'domain');
  const old = m.f.vcpuUserRoot.get(key);
  m.f.vcpuUserRoot.set(key, mfn);
  return old === 0 ? undefined : yield* putPageAndType(m, old);
}

/** MOV to CR3 by the kernel of a paravirtual guest. */
export function* emulateSetRoot(m: Machine, key: number, mfn: number): Step<Reply> {
  enterKernel(m, key);
  // Nothing stops within this. What a failure leaves partial is let go of by the next call all the same.
  yield* letGoOfOld(m, key);
  const errno = yield* newRoot(m, key, mfn);
  keep(m, key);
  return reply(errno === undefined ? 'ok' : 'generalProtection');
}

/** Lets go of the first root that a vCPU of a dying domain still has, of what a call of its has left partial, or after these of a GDT; false: there is none. */
export function* dropRoot(m: Machine, dom: number): Step<boolean | Stopped> {
  const { vcpuRoot, vcpuUserRoot } = m.f;
  const { vcpusPerDomain } = m.geometry.capacity;
  for (let key = dom * vcpusPerDomain; key < (dom + 1) * vcpusPerDomain; key += 1) {
    if (m.f.vcpuOldTable.get(key) !== 0) return (yield* letGoOfOld(m, key)) ?? true;
    const root = vcpuRoot.getWide(key);
    const mfn = root === 0 ? vcpuUserRoot.get(key) : root;
    if (mfn === 0) continue;
    if (root === 0) vcpuUserRoot.set(key, 0);
    else vcpuRoot.setWide(key, 0);
    const stopped = yield* putPageAndType(m, mfn);
    keep(m, key);
    return stopped ?? true;
  }
  return yield* dropDescriptors(m, dom);
}
