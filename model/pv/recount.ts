// Uses of a paravirtual guest's frames, counted from scratch: by tables, pins and roots of vCPUs. And what no table may hold, looked
// at anew: its counts could be right and the entries wrong. Only while no operation is in flight.
// Audits use it; a first reader may skip it. Source: what Xen says of counts in arch/x86/mm.c (at its top).

import type { DomId, Mfn, VcpuId, Word } from '#abi/address.ts';
import { levelOfType, tableType } from '#abi/pv.ts';
import { tableEntries } from '#abi/geometry.ts';
import { lentTo } from '../grants/lent.ts';
import { contextOf, vcpuAgent } from '../paging/context.ts';
import { frameOf, isParavirtual, type Domain, type Frame, type State } from '../state.ts';
import { wordAt } from '../words.ts';
import { isTypedFor } from './granted.ts';
import { isHypervisors, isPresent, isWritable, mfnIn, nextPresent } from './entries.ts';

/** Counts by frame. */
export interface Uses {
  readonly references: Map<number, number>;
  readonly types: Map<number, number>;
  /** Linear entries that tables have, less those that lead to them. */
  readonly linear: Map<number, number>;
}

const increase = (counts: Map<number, number>, mfn: number, by = 1): void =>
  void counts.set(mfn, (counts.get(mfn) ?? 0) + by);

function use({ references, types }: Uses, mfn: number, isTyped: boolean): void {
  increase(references, mfn);
  if (isTyped) increase(types, mfn);
}

/** Whether an entry leads to a table of its own level. */
const isLinear = (state: State, level: number, word: Word): boolean =>
  level > 1 && !isWritable(word) && frameOf(state, mfnIn(word)).type === tableType(level);

/** Calls `visit` for every present entry of a table. */
function forEntries(state: State, table: { mfn: Mfn; level: number }, visit: (index: number) => void): void {
  for (let index = nextPresent(state, { ...table, index: 0 }); index !== undefined;) {
    visit(index);
    index = nextPresent(state, { ...table, index: index + 1 });
  }
}

const levelIn = ({ validated, partial, type }: Frame): number =>
  validated || partial !== undefined ? levelOfType(type) : 0;

/** How an entry holds what it names: the one at which a partial table has stopped may hold the frame alone. */
function holding({ partial }: Frame, index: number): 'whole' | 'frame' | 'nothing' {
  if (partial === undefined || index < partial.entries) return 'whole';
  return index === partial.entries && partial.holds ? 'frame' : 'nothing';
}

/** What a frame refers to as a table, and what keeps it as what it is. */
export function countFrame(state: State, mfn: Mfn, into: Uses): void {
  const frame = frameOf(state, mfn);
  if (frame.pinned) use(into, mfn, true);
  if (frame.partial !== undefined) use(into, mfn, true);
  const isShared = frame.role === 'sharedInfo' || frame.role === 'grantFrame';
  if (isShared && isParavirtual(state, frame.owner)) increase(into.types, mfn);
  const level = levelIn(frame);
  if (level === 0) return;
  forEntries(state, { mfn, level }, (index) => {
    const word = wordAt(state, mfn, index);
    const named = mfnIn(word);
    const held = holding(frame, index);
    if (named >= state.geometry.frameCount || held === 'nothing') return;
    if (held === 'whole' && isLinear(state, level, word)) {
      if (named === mfn) return;
      increase(into.linear, mfn);
      increase(into.linear, named, -1);
    }
    const isTyped = level > 1 || (isWritable(word) && isTypedFor(state, frame.owner as DomId, named));
    use(into, named, held === 'whole' && isTyped);
  });
}

/** What the vCPUs of a domain have as roots. */
export function countRoots(state: State, { id, kind, vcpus }: Domain, into: Uses): void {
  if (kind !== 'pv') return;
  for (let vcpu = 0; vcpu < vcpus; vcpu += 1) {
    const { root, userRoot, oldTable, gdt, ldt } = contextOf(state, vcpuAgent(id, vcpu as VcpuId));
    for (const one of [root, userRoot]) if (one !== 0) use(into, one, true);
    if (oldTable !== 0) use(into, oldTable, false);
    for (const mfn of [...gdt.frames, ...ldt.frames]) if (mfn !== 0) use(into, mfn, true);
  }
}

/** Whether a table may be led to by one of its own level: it is fit, or that very table. */
const isReady = ({ validated }: Frame, isItself: boolean): boolean => validated || isItself;

/** Whether an entry of a validated table leads to what it must not. */
function isWrong(state: State, at: { mfn: Mfn; level: number; index: number }): boolean {
  const { mfn, level } = at;
  const word = wordAt(state, mfn, at.index);
  if (holding(frameOf(state, mfn), at.index) !== 'whole') return false;
  const named = mfnIn(word);
  const { owner } = frameOf(state, mfn);
  const to = frameOf(state, named);
  if (named >= state.geometry.frameCount)
    return level > 1 || owner === undefined || state.domains.get(owner)?.iomemEver.has(named) !== true;
  if (isLinear(state, level, word))
    return !state.policies.pvLinear || to.owner !== owner || !isReady(to, named === mfn);
  const type = level > 1 ? tableType(level - 1) : 'writable';
  const isTyped = level > 1 || (isWritable(word) && isTypedFor(state, owner as DomId, named));
  // A frame of another's is there by a grant, or was until its guest came to be torn down.
  const isOthers = to.owner !== owner && !lentTo(state, named).some(({ domain }) => level === 1 && domain === owner);
  return isOthers || (isTyped && (to.type !== type || !to.validated));
}

/** What is wrong with a frame as what it is used as; undefined: nothing. */
export function typeProblem(state: State, mfn: Mfn, { types, linear }: Uses): string | undefined {
  const frame = frameOf(state, mfn);
  const count = types.get(mfn) ?? 0;
  if (frame.typeCount !== count) return `frame ${mfn} counts ${frame.typeCount} uses as ${frame.type} of ${count}`;
  if (frame.linear !== (linear.get(mfn) ?? 0))
    return `frame ${mfn} counts ${frame.linear} linear entries or uses of ${linear.get(mfn) ?? 0}`;
  if (frame.locked) return `frame ${mfn} is locked by nobody`;
  if (count > 0 && !frame.validated && frame.partial === undefined)
    return `frame ${mfn} is used as ${frame.type} and was not found fit`;
  const level = levelIn(frame);
  let wrong: number | undefined;
  if (level > 0)
    forEntries(state, { mfn, level }, (index) => (wrong ??= isWrong(state, { mfn, level, index }) ? index : undefined));
  if (wrong !== undefined) return `entry ${wrong} of frame ${mfn}, a table of level ${level}, leads where it must not`;
  return frame.validated && hasHypervisors(state, mfn, level)
    ? `frame ${mfn}, a root, has an entry where the hypervisor has its own`
    : undefined;
}

/** Whether a root has something where it must be empty. */
function hasHypervisors(state: State, mfn: Mfn, level: number): boolean {
  if (level !== state.geometry.levels) return false;
  return Array.from({ length: tableEntries(state.geometry) }, (_, index) => index).some(
    (index) => isHypervisors(state.geometry, level, index) && isPresent(wordAt(state, mfn, index)),
  );
}
