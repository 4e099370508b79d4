// What an operation of direct paging has still to do, as a list, the next first. An act is one indivisible part; what begins with
// a plan is worked out between two acts and costs no time. Each may put more in front of the list, or fail: then everything is
// passed over up to the end of the attempt that it is part of, which lets go of what was taken and fails in its turn.
// A first reader may skip this file and meet the acts where they are performed (references.ts, types.ts, tables.ts, roots.ts, writes.ts).
// Source: Xen arch/x86/mm.c, whose functions these lists are.

import type { DomId, Gfn, Mfn, Word } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import type { WithinTable } from '#abi/choices.ts';
import type { FrameType } from '#abi/pv.ts';
import type { Errno } from '#abi/reply.ts';
import type { Life } from '../life.ts';
import type { Context, TableProgress } from '../state.ts';
import type { GrantedAct, GrantedPlan } from './granted-work.ts';

/** An entry of a table: in which frame, of which level, where. */
export interface Slot {
  readonly mfn: Mfn;
  readonly level: number;
  readonly index: number;
}

/** An entry that is to be changed, in a table that is held and locked; `after` lets go of that. */
export interface Change extends Slot {
  readonly word: Word;
  readonly keepsFlags: boolean;
  readonly author: DomId;
  readonly owner: DomId;
  readonly after: Todo;
}

/** What processors are to forget: of which vCPUs of a domain (undefined: all), everything or what is about one linear frame. */
export interface Flush {
  readonly domain: DomId;
  readonly vcpus: number | undefined;
  readonly page: Gfn | undefined;
}

/** The entry of a linear frame is sought, to be changed: the table that is read next. */
export interface Descent {
  readonly mfn: Mfn;
  readonly level: number;
  readonly page: Gfn;
  readonly word: Word;
  readonly owner: DomId;
}

/** What a guest's kernel has written where it may only read: the bytes of an access of `size` bytes that lie in one linear frame. */
export interface TableWrite {
  readonly domain: DomId;
  readonly page: Gfn;
  readonly offset: number;
  readonly count: number;
  readonly size: number;
  readonly value: Word;
  /** Of a compare-exchange. */
  readonly expected: Word | undefined;
}

/** An operation stops at a preemption check within an element: before that is done (`restart`), or after (`onwards`). */
export type Halt = 'restart' | 'onwards';

/** Why something fails, and which table was left partial by that: whoever asked lets go of it, before it does anything else. */
export interface Failing {
  readonly errno: Errno | Halt;
  readonly parked?: Mfn | undefined;
}

/** What is done when an attempt fails, and the error that it then fails with; and when it halts, if that is something else. */
interface Failure {
  readonly errno: Errno | undefined;
  readonly undo: Todo;
  readonly parks: Todo;
  /** What is tried instead when it is invalid, and nothing was left partial. */
  readonly otherwise?: Todo;
}

/** An entry of a table that is reached in the course of others; `holds`: it holds its frame from an earlier attempt. */
interface Reached extends Slot {
  readonly holds?: boolean;
}

/** Entries that are let go of one by one; `keeps`: the reference of a partial table is in hand. */
interface Dropped extends Reached {
  readonly keeps?: boolean;
}

/** Where one begins: no check for preemption comes before the first entry. */
interface Begun {
  readonly isFirst?: boolean;
}

/** One indivisible part. */
export type Act =
  | GrantedAct
  /** `life`: of the owner, if it is not sure to be there still. */
  | { readonly do: 'getPage'; readonly mfn: Mfn; readonly owner: DomId; readonly life?: Life }
  /** `unlessParked`: what was left partial keeps it. */
  | { readonly do: 'putPage'; readonly mfn: Mfn; readonly unlessParked?: boolean }
  /** The owner's own reference goes. */
  | { readonly do: 'dropAllocated'; readonly mfn: Mfn }
  | { readonly do: 'getType'; readonly mfn: Mfn; readonly type: FrameType }
  | { readonly do: 'flushType'; readonly mfn: Mfn }
  | { readonly do: 'setValidated'; readonly mfn: Mfn }
  /** All descriptors of a frame are looked at; and those are changed that may not stand as they are. */
  | { readonly do: 'checkDescriptors'; readonly mfn: Mfn }
  | { readonly do: 'adjustDescriptors'; readonly mfn: Mfn }
  /** `isLinear`: a use by an entry of a table of its own level. */
  | { readonly do: 'putType'; readonly mfn: Mfn; readonly isLinear?: boolean }
  /** A use of a table by one of its own level; and how many such entries a table has, one more or one less. */
  | { readonly do: 'useLinear'; readonly mfn: Mfn; readonly type: FrameType }
  | { readonly do: 'addLinear'; readonly mfn: Mfn }
  | { readonly do: 'dropLinear'; readonly mfn: Mfn }
  /** The use that a partial table has by itself goes, if it still is one. */
  | { readonly do: 'putPartial'; readonly mfn: Mfn }
  /** A table is left partial, and that is why this fails. */
  | ({ readonly do: 'park'; readonly keeps: boolean } & TableProgress & { readonly mfn: Mfn } & Failing)
  /** Whether the operation is to stop here. */
  | ({ readonly do: 'check'; readonly level: number; readonly keeps: boolean } & WithinTable)
  /** The count is 0 again; `forgets`: and the type none. */
  | { readonly do: 'clearCount'; readonly mfn: Mfn; readonly forgets: boolean }
  | { readonly do: 'lock'; readonly mfn: Mfn; readonly then: Todo; readonly otherwise: Todo }
  | { readonly do: 'unlock'; readonly mfn: Mfn }
  | { readonly do: 'pin'; readonly mfn: Mfn; readonly caller: DomId }
  | { readonly do: 'unpin'; readonly mfn: Mfn }
  /** Entries are loaded: to be taken, to be let go of, to be replaced. */
  | ({ readonly do: 'take' } & Reached)
  | ({ readonly do: 'drop' } & Dropped)
  | ({ readonly do: 'replace' } & Change)
  | { readonly do: 'adjust'; readonly mfn: Mfn; readonly index: number; readonly word: Word }
  | { readonly do: 'zeroSlots'; readonly mfn: Mfn }
  | ({ readonly do: 'write'; readonly keepsFlags: boolean; readonly author: DomId; readonly word: Word } & Omit<
      Slot,
      'level'
    >)
  | { readonly do: 'clear'; readonly mfn: Mfn }
  | { readonly do: 'copy'; readonly mfn: Mfn; readonly source: Mfn; readonly author: DomId }
  | { readonly do: 'name'; readonly mfn: Mfn; readonly gfn: Gfn }
  | ({ readonly do: 'forget' } & Flush)
  | { readonly do: 'setRoot'; readonly vcpu: VcpuAgent; readonly which: 'kernel' | 'user'; readonly mfn: Mfn }
  | { readonly do: 'setGdt'; readonly vcpu: VcpuAgent; readonly gdt: Context['gdt'] }
  | { readonly do: 'setLdt'; readonly vcpu: VcpuAgent; readonly ldt: Context['ldt'] }
  /** The entry for a frame of a vCPU's LDT is sought; what it leads to comes into use. */
  | { readonly do: 'seekLdt'; readonly vcpu: VcpuAgent; readonly at: number; readonly mfn: Mfn; readonly level: number }
  | { readonly do: 'useLdt'; readonly vcpu: VcpuAgent; readonly at: number; readonly mfn: Mfn }
  | { readonly do: 'beginContext'; readonly vcpu: VcpuAgent; readonly mfn: Mfn }
  | ({ readonly do: 'descend' } & Descent)
  /** Entries are loaded on the way to where a guest has written; then what stands there, the rest of it, and what is replaced. */
  | { readonly do: 'seek'; readonly mfn: Mfn; readonly level: number; readonly write: TableWrite }
  | { readonly do: 'look'; readonly mfn: Mfn; readonly write: TableWrite }
  | { readonly do: 'fill'; readonly mfn: Mfn; readonly write: TableWrite }
  | { readonly do: 'swap'; readonly mfn: Mfn; readonly write: TableWrite; readonly word: Word }
  | {
      readonly do: 'exchange';
      readonly mfn: Mfn;
      readonly write: TableWrite;
      readonly word: Word;
      readonly expected: Word;
    };

/** What is worked out between two acts. */
export type Plan =
  | GrantedPlan
  /** What a frame holds is found fit for its type, if it has not been yet. */
  | { readonly do: 'validate'; readonly mfn: Mfn }
  /** Entries are taken from `index` on, or let go of in steps of `by`. */
  | ({ readonly do: 'takeRest' } & Reached & Begun)
  | ({ readonly do: 'dropRest'; readonly by: 1 | -1 } & Dropped & Begun)
  /** An entry could not be taken: those before it are let go of, at once or later. */
  | ({ readonly do: 'giveUp' } & Reached & Failing)
  /** What a vCPU's next call begins with. */
  | { readonly do: 'keepOld'; readonly vcpu: VcpuAgent; readonly mfn: Mfn }
  /** A descriptor is written, to a frame that is held, the way that its type asks for. */
  | { readonly do: 'describe'; readonly mfn: Mfn; readonly index: number; readonly word: Word; readonly author: DomId }
  | { readonly do: 'checkMemory'; readonly mfn: Mfn; readonly isWritable: boolean }
  /** A frame that is locked is written, or what it holds as a table is changed; `lowest`: it must be a table of level 1. */
  | { readonly do: 'update'; readonly lowest: boolean; readonly change: Omit<Change, 'level'> }
  | ({ readonly do: 'change' } & Change)
  /** A guest's write to a frame that is locked; the entry that comes of it, `rest` being what is not written. */
  | { readonly do: 'overwrite'; readonly mfn: Mfn; readonly write: TableWrite }
  | { readonly do: 'fit'; readonly mfn: Mfn; readonly write: TableWrite; readonly rest: Word }
  | { readonly do: 'forgetChanged'; readonly domain: DomId }
  | { readonly do: 'resume'; readonly domain: DomId }
  | ({ readonly do: 'attempt'; readonly todo: Todo } & Failure)
  /** The end of an attempt that has begun. */
  | ({ readonly do: 'attempted' } & Failure)
  | ({ readonly do: 'fail' } & Failing);

export type Item = Act | Plan;

export type Todo = readonly Item[];

/** The registers of an operation of direct paging. */
export interface PvWork {
  readonly todo: Todo;
  /** Of a write that is made for a guest: the fault that it hears of otherwise, and what a compare-exchange came upon. */
  readonly fault: PageFault | undefined;
  readonly seen: Word | undefined;
  /** How the call ends, once what it has left partial is let go of. */
  readonly ends: Errno | undefined;
}

/** A page fault as a guest hears of it. */
export interface PageFault {
  readonly code: number;
  readonly address: Word;
}

/** The registers of a list that begins. */
export const pvWork = (todo: Todo, { fault, ends }: Partial<Pick<PvWork, 'fault' | 'ends'>> = {}): PvWork => ({
  todo,
  fault,
  seen: undefined,
  ends,
});

export const NO_PV_WORK: PvWork = pvWork([]);

/** `old` with `change`, key by key: see state.ts, `withParts`. */
export const changedPv = (old: PvWork, change: Partial<PvWork>): PvWork => ({
  todo: change.todo ?? old.todo,
  fault: change.fault ?? old.fault,
  seen: change.seen ?? old.seen,
  ends: change.ends ?? old.ends,
});

/** If it fails, what was taken before is let go of, and the error is this one (undefined: that one). */
export const attempt = (todo: Item | Todo, errno: Errno | undefined, ...undo: Todo): Item => ({
  do: 'attempt',
  todo: 'do' in todo ? [todo] : todo,
  errno,
  undo,
  parks: undo,
});

/** If it is invalid, something else is tried in its stead. */
export const either = (todo: Todo, otherwise: Todo): Item => ({
  do: 'attempt',
  todo,
  errno: undefined,
  undo: [],
  parks: [],
  otherwise,
});

/** The same where something else is to be done if the operation stops in the course of it. */
export const halting = (todo: Item | Todo, parks: Todo, ...undo: Todo): Item => ({
  do: 'attempt',
  todo: 'do' in todo ? [todo] : todo,
  errno: undefined,
  undo,
  parks,
});

export const fail = (errno: Errno | Halt, parked?: Mfn): Item => ({ do: 'fail', errno, parked });

/** A reference goes unless a table that was left partial needs it. */
export const putUnparked = (mfn: Mfn): Item => ({ do: 'putPage', mfn, unlessParked: true });

/** A table that was left partial is let go of, and the reference that comes with it; who stops in the course of that keeps it. */
export const letGoOfParked = (mfn: Mfn): Todo => [
  halting({ do: 'putPartial', mfn }, [fail('onwards', mfn)]),
  { do: 'putPage', mfn },
];
