// What a run must see of guests' own tables for the laws about them to mean something, as a returning operation shows it: answers
// from what the tables say no more, entries that outlive roots, page faults of every kind, walks by the hypervisor.
// A first reader may read the table of sentences alone.

import { bytesPerFrame } from '#abi/geometry.ts';
import type { Choice } from '#abi/choices.ts';
import type { Invariant } from '#abi/invariants.ts';
import { contextOf, linearContext, pageBitsOf, PAGES } from '#model/paging/context.ts';
import { entryOf, type Context } from '#model/state.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { field } from '#lib/bits.ts';
import type { SometimesLaw } from '../harness/law.ts';
import type { Returned } from '../harness/view.ts';
import { treeOf } from './tables.ts';

/** Every mark with the name of its law and its sentence. */
const table = [
  ['pageChanged', 'pagesAnswerAfterTheirTableChanged', 'STALE', 'An access is answered from a remembered page whose guest table has changed since.'],
  ['p2mChanged', 'combinedEntriesAnswerBeforeTheirFlush', 'STALE', 'An access is answered from what the P2M no longer says, and is not flushed yet.'],
  ['globalKept', 'globalPagesOutliveRoots', 'STALE', 'A global page answers under another root than that by which it was loaded.'],
  ['upperChanged', 'oldUpperEntriesMeetNewTables', 'STALE', 'A walk goes on from a remembered upper entry that is another in memory by now.'],
  ['keptPcid', 'entriesOutliveTheirPcid', 'STALE', 'A root is loaded under another PCID than before, and what was loaded under that stays.'],
  ['software', 'hypercallsFindTheirMemoryByWalks', 'WALK', 'A hypercall of a vCPU with paging on fetches or stores through its tables.'],
  ['softwareFault', 'hypercallsMeetFaults', 'WALK', 'A hypercall of a vCPU with paging on is told that its memory is nowhere.'],
  ['tableViolation', 'tablesLieInNoMemory', 'WALK', 'A walk ends at a table that the nested tables refuse.'],
  ['fault:absent', 'entriesAreAbsent', 'WALK', 'A page fault for an entry that is not present.'],
  ['fault:reserved', 'entriesHaveReservedBits', 'WALK', 'A page fault for a reserved bit.'],
  ['fault:write', 'pagesAreWriteProtected', 'WALK', 'A page fault for a write by the rights of a page.'],
  ['fault:user', 'usersAreKeptOut', 'WALK', 'A page fault for a user by the rights of a page.'],
  ['fault:fetch', 'fetchesAreForbidden', 'WALK', 'A page fault for a fetch by the rights of a page.'],
] as const satisfies readonly (readonly [string, string, Invariant, string])[]; // prettier-ignore

type Mark = (typeof table)[number][0];

export const linearSometimes: readonly SometimesLaw[] = table.map(([mark, name, invariant, statement]) => ({
  kind: 'sometimes',
  id: `paging/${name}`,
  invariant,
  statement,
  mark: `linear:${mark}`,
}));

type Combined = Extract<Choice, { kind: 'combined' }>;

/** The linear frames that an access touches, in order. */
function pagesOf({ op, before }: Returned): readonly number[] {
  if (!('via' in op)) return [];
  const size = bytesPerFrame(before.geometry);
  const first = op.gfn + Math.floor(op.offset / size);
  const count = (op.offset % size) + op.size > size ? 2 : 1;
  return Array.from({ length: count }, (_, i) => pageBitsOf(before.geometry, (first + i) % PAGES));
}

/** What one remembered answer shows. */
function* ofAnswer(returned: Returned, choice: Combined, page: number, context: Context): Iterable<Mark> {
  const agent = returned.agent as VcpuAgent;
  const { before } = returned;
  const { tables, pages } = treeOf(before, agent);
  if (entryOf(before, agent.domain, choice.gfn)?.mfn !== choice.mfn) yield 'p2mChanged';
  if (!choice.leaf) {
    const there = tables.some(
      ({ gfn, level, first }) => gfn === choice.gfn && level === choice.level - 1 && first <= page,
    );
    if (!there) yield 'upperChanged';
    return;
  }
  if (!pages.some((one) => one.page === page && one.gfn === choice.gfn)) yield 'pageChanged';
  const same = context.loaded.filter((one) => one.leaf && one.page === page && one.mfn === choice.mfn);
  if (same.length > 0 && same.every((one) => one.global && one.root !== context.root)) yield 'globalKept';
}

/** What a page fault is for. */
function faultOf(code: number): Mark | undefined {
  if (field(code, 0, 1) === 0) return 'fault:absent';
  if (field(code, 3, 1) === 1) return 'fault:reserved';
  if (field(code, 4, 1) === 1) return 'fault:fetch';
  return field(code, 2, 1) === 1 ? 'fault:user' : field(code, 1, 1) === 1 ? 'fault:write' : undefined;
}

/** Whether a call went by the guest's memory, and how that ended. */
function ofCall({ op, reply }: Returned): Mark | undefined {
  const isFault = reply.status === 'EFAULT' || reply.status === 'badVirtAddr';
  if (isFault) return 'softwareFault';
  const fetches = 'extents' in op && op.extents.by === 'buffer' && reply.done > op.start;
  const stores = 'results' in op && op.results.in === 'guest' && reply.elements.length > 0;
  return fetches || stores ? 'software' : undefined;
}

/** Whether a root was loaded such that what another PCID has is of use again. */
function keepsPcid({ op, reply }: Returned, { pcid, loaded }: Context): boolean {
  if (op.kind !== 'paging.setRoot' || reply.status !== 'ok' || op.flush !== 'keeping' || op.pcid === pcid) return false;
  return loaded.some((one) => !one.global && one.pcid === op.pcid);
}

/** The marks of an operation that has returned; none of a vCPU with paging off. */
export function linearMarks(returned: Returned): readonly string[] {
  const { agent, before, op, reply, log } = returned;
  if (agent.kind !== 'vcpu' || linearContext(before, agent) === undefined) return NONE;
  const marks: Mark[] = [];
  const call = ofCall(returned);
  if (call !== undefined) marks.push(call);
  if (keepsPcid(returned, contextOf(before, agent))) marks.push('keptPcid');
  if ('via' in op) {
    const [page = 0] = pagesOf(returned);
    const { choice } = log[0] ?? {};
    if (reply.status === 'ok' && choice?.kind === 'combined')
      marks.push(...ofAnswer(returned, choice, page, contextOf(before, agent)));
    const fault = reply.status === 'pageFault' ? faultOf(reply.out[0] ?? 0) : undefined;
    if (fault !== undefined) marks.push(fault);
    if (reply.status === 'violation' && reply.out[1] === 1) marks.push('tableViolation');
  }
  return marks.map((mark) => `linear:${mark}`);
}

const NONE: readonly string[] = [];
