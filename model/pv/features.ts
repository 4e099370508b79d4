// What an operation of direct paging touches: whose memory, what each frame is used as, and the entry that is there and is to come.
// A first reader may skip this file: it only tells kinds of situations apart.

import { DOMID_SELF, type DomId, type Gfn, type Mfn, type Word } from '#abi/address.ts';
import { callerOf, type Agent } from '#abi/agents.ts';
import { mmuCommands, mmuextCommands, vmAssists, type PvOp } from '#abi/pv.ts';
import { tableFlags } from '#abi/paging.ts';
import { hasAll } from '#lib/bits.ts';
import { match } from 'ts-pattern';
import { domainClass, frameClass, gfnClass, named, relation } from '../classes.ts';
import { contextOf, isCanonicalPage, RESET } from '../paging/context.ts';
import { frameOf, type State } from '../state.ts';
import { wordAt } from '../words.ts';
import { adjustedDescriptor } from './descriptors.ts';
import { isHarmless, isWritable, mfnIn } from './entries.ts';

/** Batches longer than this are classed by their beginning. */
const LOOKED_AT = 3;

/** An entry: whether it is present, may be written, is the user's; and what it leads to. */
function entryClass(state: State, id: DomId, word: Word): readonly number[] {
  if (!hasAll(word.lo, tableFlags.present)) return [0];
  const flags = (isWritable(word) ? 1 : 0) + (hasAll(word.lo, tableFlags.user) ? 2 : 0);
  return [1 + flags, ...gfnClass(state, id, mfnIn(word) as number as Gfn)];
}

/** A frame that is named: whether it is its owner's, and what it is. */
const frameClasses = (state: State, id: DomId, mfn: Mfn): readonly number[] => [
  frameOf(state, mfn).owner === id ? 1 : 0,
  frameClass(state, mfn),
];

function changeClass(state: State, id: DomId, at: { frame: Mfn; index: number; value: Word }): readonly number[] {
  const { frame, value } = at;
  const old = wordAt(state, frame, at.index % state.geometry.wordsPerFrame);
  const kept = isHarmless(old, value) ? 1 : 0;
  return [...frameClasses(state, id, frame), kept, ...entryClass(state, id, old), ...entryClass(state, id, value)];
}

/** The roots of a vCPU, and its mode. */
function rootClass(state: State, agent: Agent): number {
  if (agent.kind !== 'vcpu') return 0;
  const { root, userRoot, isUser } = contextOf(state, agent);
  return 1 + (root === 0 ? 0 : 1) + (userRoot === 0 ? 0 : 2) + (isUser ? 4 : 0);
}

/** Whether a vCPU's LDT has a descriptor at all, and its frame in use. */
function segmentClass(state: State, agent: Agent, index: number): number {
  const { ldt } = agent.kind === 'vcpu' ? contextOf(state, agent) : RESET;
  const mfn = ldt.frames[Math.floor(index / state.geometry.wordsPerFrame)] ?? 0;
  return index >= ldt.entries ? 0 : mfn === 0 ? 1 : 2;
}

/** Whose memory an operation is about. */
function aboutWhom(op: PvOp<'concrete'>): DomId {
  if (
    op.kind === 'pv.vmAssist' ||
    op.kind === 'pv.setGdt' ||
    op.kind === 'pv.setLdt' ||
    op.kind === 'pv.loadSegment' ||
    op.kind === 'pv.updateDescriptor'
  )
    return DOMID_SELF;
  return op.kind === 'pv.setContext' ? op.target : op.owner;
}

export function features(state: State, agent: Agent, op: PvOp<'concrete'>): readonly number[] {
  const id = named(agent, aboutWhom(op));
  const call = [domainClass(state, id), relation(agent, id), rootClass(state, agent)];
  const more = match(op)
    .with({ kind: 'pv.mmuUpdate' }, ({ elements, start }) =>
      elements
        .slice(start, start + LOOKED_AT)
        .flatMap((one) => [mmuCommands.indexOf(one.command), ...changeClass(state, id, one)]),
    )
    .with({ kind: 'pv.mmuext' }, ({ elements, start }) =>
      elements
        .slice(start, start + LOOKED_AT)
        .flatMap((one) => [mmuextCommands.indexOf(one.command), ...frameClasses(state, id, one.frame)]),
    )
    .with({ kind: 'pv.updateVaMapping' }, ({ value, flush, on }) => [
      ['nothing', 'everything', 'page'].indexOf(flush) * 3 + ['local', 'all', 'some'].indexOf(on),
      ...entryClass(state, callerOf(agent) ?? id, value),
    ])
    .with({ kind: 'pv.setContext' }, ({ frame }) => frameClasses(state, id, frame))
    .with({ kind: 'pv.setGdt' }, ({ frames, entries }) => [
      Math.ceil(entries / state.geometry.wordsPerFrame),
      ...frames.slice(0, LOOKED_AT).flatMap(({ frame }) => frameClasses(state, id, frame)),
    ])
    .with({ kind: 'pv.setLdt' }, ({ page, entries }) => [
      entries === 0 ? 0 : isCanonicalPage(state.geometry, page) ? 1 : 2,
    ])
    .with({ kind: 'pv.loadSegment' }, ({ index }) => [segmentClass(state, agent, index)])
    .with({ kind: 'pv.updateDescriptor' }, ({ frame, value }) => [
      adjustedDescriptor(state.geometry, value) === undefined ? 1 : 0,
      ...frameClasses(state, id, frame),
    ])
    .with({ kind: 'pv.vmAssist' }, ({ command, assist }) => [
      ['enable', 'disable', 'unknown'].indexOf(command) * vmAssists.length + vmAssists.indexOf(assist),
    ])
    .exhaustive();
  return [...call, ...more];
}
