// A machine with one paravirtual guest, and calls of all kinds on it, each performed alone. For tests of model/ only.
// A first reader may skip it.

import type { DomId, Gfn, Mfn, VcpuId, Word } from '#abi/address.ts';
import type { Agent, VcpuAgent } from '#abi/agents.ts';
import type { Choice, Logged } from '#abi/choices.ts';
import { tableFlags } from '#abi/paging.ts';
import type { MmuextCommand } from '#abi/pv.ts';
import type { Reply } from '#abi/reply.ts';
import { TRACE_VERSION, type Header } from '#abi/trace.ts';
import { invariant } from '#lib/invariant.ts';
import { brokenInvariant } from '../invariants.ts';
import { emptyMachine } from '../machine.ts';
import type { OpOf, Progress } from '../progress.ts';
import { frameOf, type Frame, type State } from '../state.ts';
import { begin, runAlone } from '../step.ts';
import { wordAt } from '../words.ts';

/** The guest. */
export const GUEST = 1 as DomId;

/** Frames of the guest: RAM from the first to before the last, pseudo-physical from 0 on. */
export const FIRST = 8;
const PAGES = 16;

export const toolstack: Agent = { kind: 'toolstack' };
const fate: Agent = { kind: 'fate' };
export const guest: VcpuAgent = { kind: 'vcpu', domain: GUEST, vcpu: 0 as VcpuId };

const header = (parts: Partial<Header>): Header => ({
  version: TRACE_VERSION,
  geometry: 'tiny',
  width: {},
  pcpus: 2,
  iommus: [],
  flush: 'eager',
  scrub: 'always',
  scrubAt: 'free',
  superpages: false,
  domains: [],
  ...parts,
});

/** The n-th frame of the guest's RAM. */
export const page = (n: number): Mfn => (FIRST + n) as Mfn;

const { present, write, user, accessed, dirty } = tableFlags;

/** Flags of entries: of the guest's user, to be written or only read. */
export const WRITABLE: number = present + write + user + accessed + dirty;
export const READ_ONLY: number = present + user + accessed;

/** An entry for a frame. */
export const entry = (mfn: number, flags = WRITABLE): Word => ({ lo: mfn * 0x1000 + flags, hi: 0 });

export const ABSENT: Word = { lo: 0, hi: 0 };

const logOf = (choices: readonly Choice[]): readonly Logged[] => choices.map((choice, seq) => ({ seq, choice }));

type Command = OpOf<'pv.mmuUpdate'>['elements'][number]['command'];

/** A machine that goes on with every call. */
export class Machine {
  state: State;

  constructor(parts: Partial<Header> = {}) {
    this.state = emptyMachine(header(parts));
    const create = { kind: 'memory.createDomain', vcpus: 1, maxPages: PAGES, grantFrames: 0 } as const;
    const given = [1, 2].map((mfn): Choice => ({ kind: 'frame', mfn: mfn as Mfn, order: 0 }));
    const guestOwn = [3, 4].map((mfn): Choice => ({ kind: 'frame', mfn: mfn as Mfn, order: 0 }));
    this.call(toolstack, { ...create, target: 0 as DomId, guest: 'hvm' }, given);
    this.call(toolstack, { ...create, target: GUEST, guest: 'pv' }, guestOwn);
    const gfns = Array.from({ length: 4 }, (_, i) => (i * 4) as Gfn);
    const extents = { by: 'value', gfns } as const;
    const ram = gfns.map((gfn): Choice => ({ kind: 'frame', mfn: page(gfn), order: 2 }));
    this.call(toolstack, { kind: 'memory.populate', target: GUEST, extents, order: 2, start: 0 }, ram);
    this.call(toolstack, { kind: 'memory.unpauseDomain', target: GUEST });
  }

  /** Performs a call to its end; what it leaves behind is audited. Processors forget whenever they are asked to. */
  call(agent: Agent, op: Progress['op'], choices: readonly Choice[] = []): Reply {
    const done = runAlone(this.state, begin(agent, op), logOf(choices));
    if (done.kind === 'refused' && done.reason.includes('forgotten'))
      return this.call(agent, op, [...choices, { kind: 'forgotten' }]);
    invariant(done.kind === 'done', done.kind === 'refused' ? done.reason : '');
    invariant(done.expected.kind === 'exact', 'replies are exact here');
    this.state = done.state;
    const broken = brokenInvariant(done.state);
    invariant(broken === undefined, `${broken?.sentence}`);
    return done.expected.reply;
  }

  /** Writes one word of a frame as an entry, if it is a table. */
  update(agent: Agent, at: { mfn: Mfn; index: number; command?: Command }, value: Word): string {
    const owner = agent.kind === 'vcpu' ? (0x7ff0 as DomId) : GUEST;
    const { mfn: frame, index, command = 'normal' } = at;
    const op = { kind: 'pv.mmuUpdate', elements: [{ command, frame, index, value }], owner, start: 0 } as const;
    return this.call(agent, op).status;
  }

  extended(agent: Agent, command: MmuextCommand, mfn: Mfn, parts: { source?: Mfn; page?: Gfn } = {}): string {
    const owner = agent.kind === 'vcpu' ? (0x7ff0 as DomId) : GUEST;
    const element = { command, frame: mfn, source: parts.source ?? mfn, page: parts.page ?? (0 as Gfn), vcpus: 1 };
    return this.call(agent, { kind: 'pv.mmuext', elements: [element], owner, start: 0 }).status;
  }

  /** Page 0 is a root, page 1 and 2 the tables below it; linear frames 0 and 1 are pages 3 and (read-only) 4, frame 2 the lowest table. */
  boot(): void {
    const words: readonly (readonly [number, number, Word])[] = [
      [0, 0, entry(page(1))],
      [1, 0, entry(page(2))],
      [2, 0, entry(page(3))],
      [2, 1, entry(page(4), READ_ONLY)],
      [2, 2, entry(page(2), READ_ONLY)],
    ];
    for (const [n, index, value] of words) this.update(toolstack, { mfn: page(n), index }, value);
    this.extended(toolstack, 'pinL3', page(0));
    this.call(toolstack, { kind: 'pv.setContext', target: GUEST, vcpu: 0 as VcpuId, frame: page(0), by: 'asker' });
    this.schedule();
  }

  schedule(): string {
    const op = { kind: 'tlb.schedule', target: GUEST, vcpu: 0 as VcpuId, pcpu: 0 } as const;
    return this.call(fate, op as OpOf<'tlb.schedule'>).status;
  }

  /** Reads or writes a byte of a linear frame by a walk of the tables. */
  access(
    kind: 'paging.read' | 'paging.write',
    gfn: number,
    parts: { as?: 'supervisor' | 'user'; choices?: readonly Choice[] } = {},
  ): Reply {
    const { as = 'supervisor', choices = [{ kind: 'walked' }] } = parts;
    const at = { gfn: gfn as Gfn, offset: 0, size: 1, via: 15, as } as const;
    const op = kind === 'paging.read' ? { kind, ...at } : { kind, ...at, value: { lo: 0x5a, hi: 0 } };
    return this.call(guest, op, choices);
  }

  frame(n: number): Frame {
    return frameOf(this.state, page(n));
  }

  word(n: number, index: number): Word {
    const { lo, hi } = wordAt(this.state, page(n), index);
    return { lo, hi };
  }
}
