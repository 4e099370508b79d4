// Pins, roots, flushes, and pages cleared and copied (mmuext_op). A pin keeps a frame a table while nobody uses it as one.
// A first reader may skip `flushing`. Source: Xen arch/x86/mm.c (do_mmuext_op).

import type { DomId } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { tableType, type MmuextCommand } from '#abi/pv.ts';
import { bit } from '#lib/bits.ts';
import { match } from 'ts-pattern';
import type { Cut } from '../cut.ts';
import type { Life } from '../life.ts';
import { contextOf } from '../paging/context.ts';
import { end, type OpOf, type Task, type Turn } from '../progress.ts';
import { isParavirtual, type State } from '../state.ts';
import {
  beginBatch,
  beginWithOld,
  lifeIn,
  isOwner,
  mayChange,
  nextInBatch,
  ownerOf,
  paravirtualCaller,
  type Element,
} from './batch.ts';
import { forgetLdt } from './descriptor-frames.ts';
import { isInvalidated } from './flush.ts';
import { attempt, fail, halting, putUnparked, type Item, type Todo } from './work.ts';

type Extended = OpOf<'pv.mmuext'>;
type Asked = Extended['elements'][number];

/** Who asks for whose memory, and (of a paravirtual guest) on which vCPU. */
interface Asker {
  readonly caller: DomId;
  readonly owner: DomId;
  readonly life: Life;
  readonly vcpu: VcpuAgent | undefined;
}

const put = (mfn: Asked['frame']): Item => ({ do: 'putPage', mfn });
const putType = (mfn: Asked['frame']): Item => ({ do: 'putType', mfn });

function pinning({ geometry }: State, by: Asker, { frame: mfn }: Asked, level: number): Todo {
  if (level > geometry.levels) return [];
  return [
    attempt({ do: 'getPage', mfn, owner: by.owner, life: by.life }, 'EINVAL'),
    attempt({ do: 'getType', mfn, type: tableType(level) }, undefined, putUnparked(mfn)),
    attempt({ do: 'pin', mfn, caller: by.caller }, 'EINVAL', halting(putType(mfn), [fail('EINVAL', mfn)]), put(mfn)),
  ];
}

/** Lets go of what the pin held, and of what the call held. */
const unpinning = (by: Asker, { frame: mfn }: Asked): Todo => [
  attempt({ do: 'getPage', mfn, owner: by.owner, life: by.life }, 'EINVAL'),
  attempt({ do: 'unpin', mfn }, 'EINVAL', put(mfn)),
  halting(putType(mfn), [put(mfn), fail('onwards', mfn)]),
  put(mfn),
  put(mfn),
];

/** Another root, for the kernel or the user of a vCPU; or what comes of the one that it has. */
export function newRoot(
  state: State,
  vcpu: VcpuAgent,
  { frame: mfn, which }: Pick<Asked, 'frame'> & { which: 'kernel' | 'user' },
): Todo {
  const { root, userRoot } = contextOf(state, vcpu);
  const set: Item = { do: 'setRoot', vcpu, which, mfn };
  if (which === 'user' && userRoot === (mfn as number)) return [];
  if (which === 'kernel' && root === (mfn as number))
    return [{ do: 'forget', domain: vcpu.domain, vcpus: bit(vcpu.vcpu), page: undefined }];
  if (which === 'user' && mfn === 0) return [set];
  return [
    attempt({ do: 'getPage', mfn, owner: vcpu.domain }, 'EINVAL'),
    attempt({ do: 'getType', mfn, type: tableType(state.geometry.levels) }, undefined, putUnparked(mfn)),
    ...(which === 'kernel' ? forgetLdt(state, vcpu) : []),
    set,
  ];
}

const isForPage = (command: MmuextCommand): boolean =>
  command === 'invlpgLocal' || command === 'invlpgMulti' || command === 'invlpgAll';

/** Who forgets what. */
function flushing(state: State, vcpu: VcpuAgent, { command, vcpus, page }: Asked): Todo {
  const isLocal = command === 'tlbFlushLocal' || command === 'invlpgLocal';
  const isSome = command === 'tlbFlushMulti' || command === 'invlpgMulti';
  if (isForPage(command) && !isInvalidated(state, page, isLocal)) return [];
  const those = isLocal ? bit(vcpu.vcpu) : isSome ? vcpus : undefined;
  return [{ do: 'forget', domain: vcpu.domain, vcpus: those, page: isForPage(command) ? page : undefined }];
}

const clearing = (by: Asker, { frame: mfn }: Asked): Todo => [
  attempt({ do: 'getPage', mfn, owner: by.owner }, 'EINVAL'),
  attempt({ do: 'getType', mfn, type: 'writable' }, 'EINVAL', put(mfn)),
  { do: 'clear', mfn },
  putType(mfn),
  put(mfn),
];

const copying = (by: Asker, { frame: mfn, source }: Asked): Todo => [
  attempt({ do: 'getPage', mfn: source, owner: by.owner }, 'EINVAL'),
  attempt({ do: 'getPage', mfn, owner: by.owner }, 'EINVAL', put(source)),
  attempt({ do: 'getType', mfn, type: 'writable' }, 'EINVAL', put(mfn), put(source)),
  { do: 'copy', mfn, source, author: by.caller },
  putType(mfn),
  put(mfn),
  put(source),
];

/** Caches themselves, for who may have devices alone. */
const cleaning = (state: State, { owner }: Asker): Todo =>
  (state.domains.get(owner)?.iomem.size ?? 0) > 0 ? [] : [fail('EACCES')];

/** What is for processors of the owner alone. */
function asProcessor(state: State, by: Asker, asked: Asked): Todo {
  const { vcpu } = by;
  if (vcpu === undefined) return [fail('EOPNOTSUPP')];
  const own = (todo: () => Todo): Todo => (by.owner === by.caller ? todo() : [fail('EPERM')]);
  return match(asked.command)
    .with('newBaseptr', () => own(() => newRoot(state, vcpu, { frame: asked.frame, which: 'kernel' })))
    .with('newUserBaseptr', () => own(() => newRoot(state, vcpu, { frame: asked.frame, which: 'user' })))
    .with('tlbFlushLocal', 'invlpgLocal', 'tlbFlushMulti', 'invlpgMulti', 'tlbFlushAll', 'invlpgAll', () =>
      own(() => flushing(state, vcpu, asked)),
    )
    .with('flushCache', 'flushCacheGlobal', () => own(() => cleaning(state, by)))
    .with('clearPage', () => clearing(by, asked))
    .with('copyPage', () => copying(by, asked))
    .with('markSuper', 'unmarkSuper', () => [fail('EOPNOTSUPP')])
    .with('unknown', () => [fail('ENOSYS')])
    .with('pinL1', 'pinL2', 'pinL3', 'pinL4', 'unpin', () => [])
    .exhaustive();
}

const pinLevels: Readonly<Partial<Record<MmuextCommand, number>>> = { pinL1: 1, pinL2: 2, pinL3: 3, pinL4: 4 };

/** What one element comes to. */
const elementOf =
  (task: Task<Extended>, vcpu: VcpuAgent | undefined): Element =>
  (state, index) => {
    const asked = task.op.elements[index];
    if (asked === undefined) return [];
    const by = { caller: task.caller, owner: ownerOf(task), life: lifeIn(state, task), vcpu };
    const level = pinLevels[asked.command];
    if (level !== undefined) return pinning(state, by, asked, level);
    return asked.command === 'unpin' ? unpinning(by, asked) : asProcessor(state, by, asked);
  };

/** One micro-step of mmuext_op. */
export function mmuext(cut: Cut, task: Task<Extended>): Turn {
  const { state } = cut;
  const old = beginWithOld(cut, task);
  if (old !== undefined) return old;
  const element = elementOf(task, paravirtualCaller(cut, task));
  if (task.work.at !== 'begin') return nextInBatch(cut, task, element);
  const owner = ownerOf(task);
  if (!isOwner(state, task)) return end(cut, 'ESRCH');
  if (!isParavirtual(state, owner)) return end(cut, 'EINVAL');
  return mayChange(task, owner) ? beginBatch(cut, task, element) : end(cut, 'EPERM');
}
