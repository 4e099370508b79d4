// Moments of paravirtual guests: calls that stop within tables, tables that lead to tables of their own level, writes that are made for a
// kernel. A first reader may read the sentences alone.

import type { Mfn, Word } from '#abi/address.ts';
import { levelOfType } from '#abi/pv.ts';
import { contextOf } from '#model/paging/context.ts';
import { frameOf, type State } from '#model/state.ts';
import { frameBelow, isPresent } from '../harness/entry.ts';
import { moment, type Moment } from '../harness/moment.ts';
import type { Returned } from '../harness/view.ts';

const isStoppedWithin = (log: Returned['log'], way: 'takes' | 'drops'): boolean =>
  log.some(({ choice }) => choice.kind === 'preempted' && choice.within?.way === way);

/** Whether an access of a paravirtual guest was more than its processor's affair. */
const isHelped = ({ agent, op, worst, before }: Returned): boolean =>
  agent.kind === 'vcpu' && 'via' in op && worst > 0 && before.domains.get(agent.domain)?.kind === 'pv';

/** Whether an element that has been performed makes a linear entry. */
function isLinear(before: State, { frame, value }: { readonly frame: Mfn; readonly value: Word }): boolean {
  const below = frameBelow(value) as Mfn;
  const { type, validated } = frameOf(before, frame);
  return (
    isPresent(value.lo) && below !== frame && validated && levelOfType(type) > 1 && frameOf(before, below).type === type
  );
}

export const directMoments: readonly Moment[] = [
  moment('pv/tablesAreStoppedIn', {
    invariant: 'WORK',
    statement: 'A call of a paravirtual guest stops within a table, while entries are taken.',
    isShown: ({ log }) => isStoppedWithin(log, 'takes'),
  }),
  moment('pv/tablesAreStoppedInOnTheWayOut', {
    invariant: 'WORK',
    statement: 'A call of a paravirtual guest, or its end, stops within a table, while entries are let go of.',
    isShown: ({ log }) => isStoppedWithin(log, 'drops'),
  }),
  moment('pv/partialTablesAreGoneOnWith', {
    invariant: 'REF',
    statement: 'A table that was left partial is pinned.',
    isShown: ({ op, reply, before }) =>
      op.kind === 'pv.mmuext' &&
      op.elements
        .slice(op.start, reply.done)
        .some(({ command, frame }) => command.startsWith('pin') && frameOf(before, frame).partial !== undefined),
  }),
  moment('pv/oldTablesAreLetGoOf', {
    invariant: 'REF',
    statement: 'A call of a vCPU begins with the table that its last one has left partial.',
    isShown: ({ agent, op, before }) =>
      agent.kind === 'vcpu' &&
      (op.kind === 'pv.mmuext' || op.kind === 'pv.mmuUpdate') &&
      contextOf(before, agent).oldTable !== 0,
  }),
  moment('pv/tablesLeadToTablesOfTheirLevel', {
    invariant: 'REF',
    statement: 'An update makes an entry that leads to another table of the level of the table that it stands in.',
    isShown: ({ op, reply, before }) =>
      op.kind === 'pv.mmuUpdate' && op.elements.slice(op.start, reply.done).some((one) => isLinear(before, one)),
  }),
  moment('pv/descriptorsAreWritten', {
    invariant: 'PTW',
    statement: 'A descriptor is written to a frame that a GDT has.',
    isShown: ({ op, reply, before }) =>
      op.kind === 'pv.updateDescriptor' &&
      reply.status === 'ok' &&
      frameOf(before, op.frame).type === 'descriptors' &&
      frameOf(before, op.frame).typeCount > 0,
  }),
  moment('pv/segmentsComeIntoUse', {
    invariant: 'PTW',
    statement: 'A processor reads a descriptor of an LDT whose frame was not in use.',
    isShown: ({ agent, op, reply, before }) =>
      agent.kind === 'vcpu' &&
      op.kind === 'pv.loadSegment' &&
      reply.status === 'ok' &&
      contextOf(before, agent).ldt.frames.every((mfn) => mfn === 0),
  }),
  moment('pv/writesToTablesAreMade', {
    invariant: 'PTW',
    statement: 'A write to a lowest table, by the kernel that has it mapped for reading, is made for it.',
    isShown: (returned) => isHelped(returned) && returned.reply.status === 'ok',
  }),
  moment('pv/writesToTablesAreRefused', {
    invariant: 'PTW',
    statement: 'A write by such a kernel is looked at by the hypervisor, and leaves it with its page fault.',
    isShown: (returned) => isHelped(returned) && returned.reply.status === 'pageFault',
  }),
  moment('pv/translationsOutliveModes', {
    invariant: 'STALE',
    statement:
      'A paravirtual guest goes from kernel to user or back, and an access is answered from what its PCID has kept.',
    isShown: ({ agent, op, log, before }) =>
      agent.kind === 'vcpu' &&
      'via' in op &&
      before.policies.pvPcids &&
      before.domains.get(agent.domain)?.kind === 'pv' &&
      contextOf(before, agent).isUser !== (op.as === 'user') &&
      log.some(({ choice }) => choice.kind === 'combined'),
  }),
];
