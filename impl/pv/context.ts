// A vCPU of a paravirtual guest begins: with a root, and with the controls that such guests cannot change. It runs nowhere before that.
// The domain lock keeps this apart from the domain's end, as Xen's lock of all such calls does.
// A first reader may skip nothing. Source: Xen arch/x86/domain.c (arch_set_info_guest), common/domctl.c (XEN_DOMCTL_setvcpucontext).

import { DOMID_CONTROL, type DomId } from '#abi/address.ts';
import { controls, type Control } from '#abi/paging.ts';
import type { PvOp } from '#abi/pv.ts';
import { reply, type Errno, type Reply } from '#abi/reply.ts';
import { bit, or } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { awaitCalls, lockDomain, unlockDomain } from '../memory/life.ts';
import { callerIn, exists, isAlive, isParavirtual } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { letGoOfParked } from './parked.ts';
import { getRoot } from './roots.ts';

type SetContext = Extract<PvOp<'concrete'>, { kind: 'pv.setContext' }>;

const maskOf = (on: readonly Control[]): number => on.map((control) => bit(controls.indexOf(control))).reduce(or);

const always: readonly Control[] = ['paging', 'writeProtect', 'executeDisable'];
/** PCIDs and global pages exclude each other. */
const WITH_GLOBALS = maskOf([...always, 'globalPages']);
const WITH_PCIDS = maskOf([...always, 'pcids']);

function objection(m: Machine, call: Call, { target, vcpu }: SetContext): Errno | undefined {
  if (!exists(m, target)) return 'ESRCH';
  if (callerIn(call) !== DOMID_CONTROL) return 'EPERM';
  const isFit = isParavirtual(m, target) && isAlive(m, target) && vcpu < m.f.domVcpus.get(target);
  return isFit ? undefined : 'EINVAL';
}

/** Lets a vCPU begin with the root in a frame of its domain. */
export function* setContext(m: Machine, call: Call, op: SetContext): Step<Reply> {
  for (;;) {
    const errno = objection(m, call, op);
    if (errno !== undefined) return reply(errno);
    yield* awaitCalls(m, op.target);
    yield* lockDomain(m, op.target);
    const answer = m.slotOf(op.target) === 0 ? yield* begin(m, call, op) : undefined;
    yield* unlockDomain(m, op.target);
    yield* letGoOfParked(m);
    if (answer !== undefined) return answer;
  }
}

function* begin(m: Machine, call: Call, op: SetContext): Step<Reply> {
  const errno = objection(m, call, op) ?? (yield* giveRoot(m, op));
  return reply(errno ?? 'ok');
}

function* giveRoot(m: Machine, { target, vcpu, frame, by }: SetContext): Step<Errno | undefined> {
  const key = (target as DomId) * m.geometry.capacity.vcpusPerDomain + vcpu;
  const there = m.f.vcpuRoot.getWide(key);
  if (there !== 0) return there === frame ? undefined : 'EOPNOTSUPP';
  if (vcpu === 0) m.f.domWritesTables.set(target, by === 'writer' ? 1 : 0);
  const errno = yield* getRoot(m, frame, target);
  invariant(errno !== 'restart', 'this stops within no table');
  if (errno !== undefined) return errno;
  yield* m.port.point('store', 'domain');
  m.f.vcpuRoot.setWide(key, frame);
  m.f.vcpuControls.set(key, m.pvPcids ? WITH_PCIDS : WITH_GLOBALS);
  return undefined;
}
