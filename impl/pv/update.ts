// mmu_update: words of frames are written, one by one, the way that the frame's type asks for: an entry of a table is checked, a word of
// writable memory is just written. Or the hypervisor is told which frame of the guest's a machine frame is.
// A first reader may skip `name`. Source: Xen arch/x86/mm.c (do_mmu_update).

import type { DomId } from '#abi/address.ts';
import { pow2 } from '#lib/bits.ts';
import { unreachable } from '#lib/invariant.ts';
import type { PvOp } from '#abi/pv.ts';
import { reply, type Errno, type Reply } from '#abi/reply.ts';
import { domKinds } from '../layout.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import { callerIn, isParavirtual } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { flushNative, pcpusOf } from '../tlb/flush.ts';
import { changeEntry, type Replaced } from './change.ts';
import { DESCRIPTORS, levelOfCode, WRITABLE } from './entry.ts';
import { getPage, lockPage, unlockPage } from './frames.ts';
import { mayChange, ownerIn } from './owner.ts';
import { begin, conclude, type Outcome } from './parked.ts';
import { putPageAndType, putType } from './release.ts';
import { getType, type Unfit } from './types.ts';

type Update = Extract<PvOp<'concrete'>, { kind: 'pv.mmuUpdate' }>;
type Element = Update['elements'][number];

/** One element in hand: by whom, of whose memory. */
interface Updating extends Element {
  readonly caller: DomId;
  readonly owner: DomId;
  readonly life: number;
}

const HVM = domKinds.indexOf('hvm');

/** The whole batch, up to its end, a failure or a preemption. */
export function* mmuUpdate(m: Machine, call: Call, op: Update): Step<Reply> {
  if (m.f.domKind.get(callerIn(call)) === HVM) return reply('ENOSYS');
  if ((yield* begin(m, call)) !== undefined) return reply('preempted', { done: op.start });
  const owner = ownerIn(m, call, op.owner);
  if (owner === 'ESRCH') return reply(owner);
  const life = m.f.domLife.get(owner);
  for (let index = op.start; index < op.elements.length; index += 1) {
    if (index > op.start && m.port.preempts(index)) return reply('preempted', { done: index });
    const outcome = yield* update(m, call, {
      ...(op.elements[index] as Element),
      caller: callerIn(call),
      owner,
      life,
    });
    const answer = yield* conclude(m, call, { outcome, index });
    if (answer !== undefined) return answer;
  }
  return reply('ok', { done: Math.max(op.start, op.elements.length) });
}

function* update(m: Machine, call: Call, one: Updating): Step<Outcome> {
  const { command, owner, caller } = one;
  switch (command) {
    case 'unknown':
      return 'ENOSYS';
    case 'machphys':
      if (owner !== caller) return 'EPERM';
      return isParavirtual(m, owner) ? yield* name(m, one) : 'EINVAL';
    case 'normal':
    case 'preserveAd':
    case 'noTranslate':
      // Who has gone since the call began was one: else its first element had ended it.
      if (m.f.domLife.get(owner) === one.life && !isParavirtual(m, owner)) return 'EOPNOTSUPP';
      return mayChange(call, owner) ? yield* writeWord(m, one) : 'EPERM';
    default:
      return unreachable(command);
  }
}

/** Says which frame of its owner's a frame is; decides nothing. */
function* name(m: Machine, { frame, owner, value }: Updating): Step<Errno | undefined> {
  if (!(yield* getPage(m, frame, owner))) return 'EINVAL';
  yield* m.port.point('store', 'frame');
  m.f.m2p.setWide(frame, value.lo + (value.hi % pow2(20)) * pow2(32) + 1);
  yield* putReference(m, frame);
  return undefined;
}

function* writeWord(m: Machine, one: Updating): Step<Outcome> {
  const { frame, owner, life } = one;
  if (!(yield* getPage(m, frame, owner, life))) return 'EINVAL';
  const isLocked = yield* lockPage(m, frame);
  const level = isLocked ? levelOfCode(m.f.frameType.get(frame)) : 0;
  const changed = isLocked ? yield* writeLocked(m, one) : yield* writeUnlocked(m, one);
  if (isLocked) yield* unlockPage(m, frame);
  yield* putReference(m, frame);
  if (typeof changed === 'string') return changed;
  if (level > 1) yield* flushNative(m, () => pcpusOf(m, owner), true);
  if (changed === undefined) return undefined;
  return (yield* putPageAndType(m, changed.below, changed.isLinear)) === undefined ? undefined : 'onwards';
}

/** A frame whose type is sure to stay: an entry of a table, or a word of what is writable. */
function* writeLocked(m: Machine, one: Updating): Step<Unfit | Replaced | undefined> {
  const { frame, owner, command, value } = one;
  const type = m.f.frameType.get(frame);
  if (type === WRITABLE) {
    yield* storeWord(m, one);
    return undefined;
  }
  if (type === DESCRIPTORS) return 'EINVAL';
  const change = { ...value, index: indexOf(m, one), keepsFlags: command === 'preserveAd' };
  return yield* changeEntry(m, { mfn: frame, level: levelOfCode(type), owner }, change);
}

/** A frame that is used by no type: it is writable for as long as this takes. */
function* writeUnlocked(m: Machine, one: Updating): Step<Errno | undefined> {
  if ((yield* getType(m, one.frame, WRITABLE)) !== undefined) return 'EINVAL';
  yield* storeWord(m, one);
  yield* putType(m, one.frame);
  return undefined;
}

const indexOf = (m: Machine, { index }: Element): number => index % m.geometry.wordsPerFrame;

const storeWord = (m: Machine, one: Updating): Step<void> =>
  m.port.store({ domain: one.caller, purpose: 'guest' }, 'guest', {
    mfn: one.frame,
    index: indexOf(m, one),
    lo: one.value.lo,
    hi: one.value.hi,
  });
