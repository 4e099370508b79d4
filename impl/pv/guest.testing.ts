// A paravirtual guest for tests beside the code: domain 1 with RAM at its own frames 0 to 15, and a tree of tables in three of them that maps
// all of these at linear frames of the same number. The toolstack has made it, by calls.
// A first reader may skip all but `Guest`'s methods.

import type { DomId, Gfn, Mfn, PcpuId, VcpuId } from '#abi/address.ts';
import { DOMID_SELF } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import type { Widths } from '#abi/geometry.ts';
import type { Op } from '#abi/operation.ts';
import type { Privilege } from '#abi/paging.ts';
import { frameTypes, type MmuextCommand } from '#abi/pv.ts';
import type { Reply } from '#abi/reply.ts';
import { TRACE_VERSION, type Policies } from '#abi/trace.ts';
import type { Vendor } from '#abi/vendor.ts';
import type { Execution } from '../execution.ts';
import { Machine } from '../machine.ts';

export const DOM = 1 as DomId;
export const KEY = 2;
export const toolstack: Agent = { kind: 'toolstack' };
export const vcpu: Agent = { kind: 'vcpu', domain: DOM, vcpu: 0 as VcpuId };
export const second: Agent = { kind: 'vcpu', domain: DOM, vcpu: 1 as VcpuId };
const fate: Agent = { kind: 'fate' };

/** Frames of the guest's own: those of its tables, of a second root, and of memory. */
export const ROOT = 12;
export const MIDDLE = 13;
/** Tables of pages: for linear frames 0 to 3 and 4 to 7. */
export const LEAVES = 14;
export const MORE = 15;
export const OTHER_ROOT = 11;
const PAGES = 16;

/** Numbers from here on are machine frames. */
const MACHINE = 1000;
export const machine = (mfn: number): number => MACHINE + mfn;

/** Low halves of entries. */
export const bits = { P: 1, W: 2, U: 4, PWT: 8, PCD: 0x10, A: 0x20, D: 0x40, PAT: 0x80, G: 0x100, all: 7 } as const;

interface Setting {
  readonly vendor?: Vendor;
  readonly width?: Partial<Widths>;
  readonly flush?: Policies['flush'];
  readonly pcids?: boolean;
  readonly linear?: boolean;
}

type Element = Extract<Op<'concrete'>, { kind: 'pv.mmuUpdate' }>['elements'][number];
type Extended = Extract<Op<'concrete'>, { kind: 'pv.mmuext' }>['elements'][number];

export class Guest {
  readonly m: Machine;

  /** The guest has tables, but none is in use. */
  constructor({ vendor = 'intel', width = {}, flush = 'eager', pcids = false, linear = false }: Setting = {}) {
    const policies = {
      flush,
      scrub: 'always',
      scrubAt: 'free',
      superpages: true,
      ...(pcids ? ({ pvPcids: 'on' } as const) : {}),
      ...(linear ? ({ pvLinear: 'on' } as const) : {}),
    } as const;
    this.m = new Machine({ version: TRACE_VERSION, geometry: 'tiny', vendor, width, pcpus: 2, iommus: [], ...policies, domains: [] }); // prettier-ignore
    for (const target of [0, DOM]) this.by(toolstack, { kind: 'memory.createDomain', target: target as DomId, vcpus: 2, maxPages: 64, grantFrames: 0, guest: 'pv' }); // prettier-ignore
    const gfns = Array.from({ length: PAGES }, (_, i) => i as Gfn);
    for (let i = 0; i < PAGES; i += 4) this.by(toolstack, { kind: 'memory.populate', target: DOM, extents: { by: 'value', gfns: gfns.slice(i, i + 4) }, order: 0, start: 0 }); // prettier-ignore
    this.by(toolstack, { kind: 'memory.unpauseDomain', target: DOM });
    this.word(ROOT, 0, MIDDLE).word(MIDDLE, 0, LEAVES).word(MIDDLE, 1, MORE);
    for (let page = 0; page < 8; page += 1) this.word(page < 4 ? LEAVES : MORE, page % 4, page);
  }

  /** The same guest, its vCPU 0 running on pCPU 0. */
  static running(setting: Setting = {}): Guest {
    const guest = new Guest(setting);
    guest.setContext(ROOT);
    guest.schedule(0, 0);
    return guest;
  }

  /** The machine frame that the guest calls so. */
  mfn(frame: number): number {
    if (frame >= MACHINE) return frame - MACHINE;
    for (let mfn = 0; mfn < this.m.geometry.frameCount; mfn += 1)
      if (this.m.f.frameOwner.get(mfn) === DOM + 1 && this.m.f.m2p.getWide(mfn) === frame + 1) return mfn;
    throw new Error(`the guest calls none ${frame}`);
  }

  /** Writes a word of memory as it is, an entry for a frame with these flags; nobody is asked. */
  word(table: number, index: number, frame: number, { lo = bits.all as number, hi = 0 } = {}): this {
    const at = 8 * this.mfn(table) + 2 * index;
    this.m.f.memory.set(at, 0x1000 * this.mfn(frame) + lo);
    this.m.f.memory.set(at + 1, hi);
    return this;
  }

  /** The flags of an entry: its low half without its frame, and its high half. */
  flags(table: number, index: number): readonly [number, number] {
    const at = 8 * this.mfn(table) + 2 * index;
    return [this.m.f.memory.get(at) % 0x1000, this.m.f.memory.get(at + 1)];
  }

  /** Type, count, and what else there is to be said of a frame. */
  typed(frame: number): string {
    const { f } = this.m;
    const mfn = this.mfn(frame);
    const rest = [f.frameValidated.get(mfn) === 0 ? '' : ' valid', f.framePinned.get(mfn) === 0 ? '' : ' pinned'];
    return `${frameTypes[f.frameType.get(mfn)]} ${f.frameTypeCount.get(mfn)}${rest.join('')}`;
  }

  refs(frame: number): number {
    return this.m.f.frameRefs.get(this.mfn(frame));
  }

  start(agent: Agent, op: Op<'concrete'>, preempt?: number): Execution {
    return this.m.start({ agent, op, ...(preempt === undefined ? {} : { preempt }) });
  }

  /** An operation from its call to its reply. */
  by(agent: Agent, op: Op<'concrete'>): Reply {
    return this.does(agent, op).reply;
  }

  /** The same, and which choices were made. */
  does(agent: Agent, op: Op<'concrete'>, preempt?: number): { readonly reply: Reply; readonly how: readonly string[] } {
    const execution = this.start(agent, op, preempt);
    const outcome = execution.run();
    this.m.finish(execution);
    if (outcome.kind !== 'done') throw new Error('it ends');
    const how = execution.log.map(({ choice }) => (choice.kind === 'flush' ? `flush ${choice.pcpu}` : choice.kind));
    return { reply: outcome.reply, how };
  }

  updates(elements: readonly Partial<Element>[], { owner = DOM as DomId, start = 0 } = {}): Op<'concrete'> {
    const whole = elements.map(({ command = 'normal', frame = MACHINE, index = 0, value = { lo: 0, hi: 0 } }) => ({ command, frame: this.mfn(frame) as Mfn, index, value })); // prettier-ignore
    return { kind: 'pv.mmuUpdate', elements: whole, owner, start };
  }

  /** The value of an entry. */
  entry(frame: number, { lo = bits.all as number, hi = 0 } = {}): Element['value'] {
    return { lo: 0x1000 * this.mfn(frame) + lo, hi };
  }

  /** The toolstack changes a word; with the vCPU the guest does. */
  update(frame: number, index: number, value: Element['value'], agent: Agent = toolstack): string {
    const owner = agent.kind === 'vcpu' ? DOMID_SELF : DOM;
    return this.by(agent, this.updates([{ frame: frame as Mfn, index, value }], { owner })).status;
  }

  extended(elements: readonly Partial<Extended>[], { owner = DOM as DomId, start = 0 } = {}): Op<'concrete'> {
    const whole = elements.map(({ command = 'unknown', frame = MACHINE, source = MACHINE, page = 0, vcpus = 0 }) => ({ command, frame: this.mfn(frame) as Mfn, source: this.mfn(source) as Mfn, page: page as Gfn, vcpus })); // prettier-ignore
    return { kind: 'pv.mmuext', elements: whole, owner, start };
  }

  asks(
    command: MmuextCommand,
    rest: { frame?: number; source?: number; page?: number; vcpus?: number } = {},
    agent: Agent = vcpu,
  ): string {
    // prettier-ignore
    const owner = agent.kind === 'vcpu' ? DOMID_SELF : DOM;
    return this.by(agent, this.extended([{ command, ...(rest as Partial<Extended>) }], { owner })).status;
  }

  setContext(frame: number, which = 0, agent: Agent = toolstack): string {
    return this.by(agent, { kind: 'pv.setContext', target: DOM, vcpu: which as VcpuId, frame: this.mfn(frame) as Mfn, by: 'asker' }).status; // prettier-ignore
  }

  schedule(which: number, pcpu: number, target = 1): string {
    return this.by(fate, { kind: 'tlb.schedule', target: target as DomId, vcpu: which as VcpuId, pcpu: pcpu as PcpuId })
      .status;
  }

  /** Reads the first word of a page: the reply, and how it was translated. */
  read(page: number, { as = 'supervisor' as Privilege, agent = vcpu as Agent } = {}): string {
    const { reply, how } = this.does(agent, { kind: 'paging.read', gfn: page as Gfn, offset: 0, size: 8, via: 0, as });
    const said = reply.status === 'pageFault' ? ` ${reply.out.join(' ')}` : '';
    return `${reply.status}${said} ${how.join(' ')}`.trim();
  }

  /** Writes the last word of a page; as an entry it is absent. */
  write(page: number, { as = 'supervisor' as Privilege, agent = vcpu as Agent } = {}): string {
    const { reply, how } = this.does(agent, { kind: 'paging.write', gfn: page as Gfn, offset: 24, size: 8, value: { lo: 0x70, hi: 0 }, via: 0, as }); // prettier-ignore
    const said = reply.status === 'pageFault' ? ` ${reply.out.join(' ')}` : '';
    return `${reply.status}${said} ${how.join(' ')}`.trim();
  }
}
