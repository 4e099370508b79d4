// Changing entries of tables, by frame (mmu_update) or by the linear frame that an entry is about (update_va_mapping); words of frames
// that are no tables are just written. The processors' own accesses never come here.
// A first reader may skip nothing. Sources: Xen arch/x86/mm.c (do_mmu_update, __do_update_va_mapping).

import type { DomId, Gfn, Mfn, Word } from '#abi/address.ts';
import { field, pow2 } from '#lib/bits.ts';
import { match } from 'ts-pattern';
import type { Cut } from '../cut.ts';
import { contextOf, isCanonicalPage } from '../paging/context.ts';
import { end, type OpOf, type Task, type Turn } from '../progress.ts';
import { isParavirtual, type State } from '../state.ts';
import {
  beginBatch,
  beginWithOld,
  lifeIn,
  inOne,
  isOwner,
  mayChange,
  nextInBatch,
  ownerOf,
  paravirtualCaller,
  type Element,
} from './batch.ts';
import { release } from './contents.ts';
import { isHypervisors } from './entries.ts';
import { isStill } from '../life.ts';
import { indexAt } from './flush.ts';
import { attempt, fail, type Todo } from './work.ts';

type Update = OpOf<'pv.mmuUpdate'>;

/** The low 52 bits of a word, as a gfn. */
const gfnIn = ({ lo, hi }: Word): Gfn => (lo + field(hi, 0, 20) * pow2(32)) as Gfn;

/** A frame is called something by its guest. */
function naming(state: State, task: Task<Update>, { frame, value }: Update['elements'][number]): Todo {
  const owner = ownerOf(task);
  if (owner !== task.caller) return [fail('EPERM')];
  if (!isParavirtual(state, owner)) return [fail('EINVAL')];
  return [
    attempt({ do: 'getPage', mfn: frame, owner }, 'EINVAL'),
    { do: 'name', mfn: frame, gfn: gfnIn(value) },
    { do: 'putPage', mfn: frame },
  ];
}

/** A word of a frame is written: as an entry if the frame is a table just now. */
function writing(state: State, task: Task<Update>, element: Update['elements'][number]): Todo {
  const owner = ownerOf(task);
  const life = lifeIn(state, task);
  const { frame: mfn, index, value: word, command } = element;
  // Who has gone since was a paravirtual guest: for others the first element ends the batch.
  if (isStill(state, owner, life) && !isParavirtual(state, owner)) return [fail('EOPNOTSUPP')];
  if (!mayChange(task, owner)) return [fail('EPERM')];
  const at = { mfn, index: index % state.geometry.wordsPerFrame, word, author: task.caller };
  const change = {
    mfn,
    index: at.index,
    word,
    author: at.author,
    owner,
    keepsFlags: command === 'preserveAd',
    after: release(mfn),
  };
  const untabled: Todo = [
    attempt({ do: 'getType', mfn, type: 'writable' }, 'EINVAL', { do: 'putPage', mfn }),
    { do: 'write', ...at, keepsFlags: false },
    { do: 'putType', mfn },
    { do: 'putPage', mfn },
  ];
  return [
    attempt({ do: 'getPage', mfn, owner, life }, 'EINVAL'),
    { do: 'lock', mfn, then: [{ do: 'update', lowest: false, change }], otherwise: untabled },
  ];
}

/** What one element of an update comes to. */
const elementOf =
  (task: Task<Update>): Element =>
  (state, index) => {
    const element = task.op.elements[index];
    if (element === undefined) return [];
    return match(element.command)
      .with('unknown', () => [fail('ENOSYS')])
      .with('machphys', () => naming(state, task, element))
      .with('normal', 'preserveAd', 'noTranslate', () => writing(state, task, element))
      .exhaustive();
  };

/** Whether the caller has such calls at all: paravirtual guests, and the control domain for them. */
const hasUpdates = (state: State, caller: DomId): boolean => caller === 0 || isParavirtual(state, caller);

/** One micro-step of mmu_update. */
export function mmuUpdate(cut: Cut, task: Task<Update>): Turn {
  const old = beginWithOld(cut, task);
  if (old !== undefined) return old;
  if (task.work.at !== 'begin') return nextInBatch(cut, task, elementOf(task));
  if (!hasUpdates(cut.state, task.caller)) return end(cut, 'ENOSYS');
  return isOwner(cut.state, task) ? beginBatch(cut, task, elementOf(task)) : end(cut, 'ESRCH');
}

type VaMapping = OpOf<'pv.updateVaMapping'>;

/** Who forgets what after the change. */
function flushing(task: Task<VaMapping>, domain: DomId, vcpu: number): Todo {
  const { flush, on, page, vcpus } = task.op;
  if (flush === 'nothing') return [];
  const some = match(on)
    .with('local', () => pow2(vcpu))
    .with('all', () => undefined)
    .with('some', () => vcpus)
    .exhaustive();
  return [{ do: 'forget', domain, vcpus: some, page: flush === 'page' ? page : undefined }];
}

/** Whether the guest has an entry about a linear frame at all. */
export const isGuests = ({ geometry }: State, page: Gfn): boolean =>
  isCanonicalPage(geometry, page) &&
  !isHypervisors(geometry, geometry.levels, indexAt(geometry, page, geometry.levels));

/** One micro-step of update_va_mapping. */
export function updateVaMapping(cut: Cut, task: Task<VaMapping>): Turn {
  const { op, work } = task;
  const vcpu = paravirtualCaller(cut, task);
  if (vcpu === undefined) return end(cut, 'ENOSYS');
  if (work.at !== 'begin') return inOne(cut, task, () => []);
  const { state } = cut;
  const owner = ownerOf(task);
  if (!isOwner(state, task)) return end(cut, 'ESRCH');
  if (!mayChange(task, owner)) return end(cut, 'EPERM');
  if (!isGuests(state, op.page)) return end(cut, 'EINVAL');
  const { root } = contextOf(state, vcpu);
  const { levels } = state.geometry;
  return inOne(cut, task, () => [
    { do: 'descend', mfn: root as number as Mfn, level: levels, page: op.page, word: op.value, owner },
    ...flushing(task, owner, vcpu.vcpu),
  ]);
}
