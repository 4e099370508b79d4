// A guest with paging on, for tests beside the code: nested tables that map gfns 0 to 31, and tables of the guest's own that lead from
// linear frames 0 to 3 to gfns 0 to 3. Tests change what they like. A first reader may skip how it is laid out.

import type { DomId, Gfn, PcpuId, VcpuId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import type { P2mType } from '#abi/hap.ts';
import type { Op } from '#abi/operation.ts';
import { controls, type Control, type Privilege } from '#abi/paging.ts';
import type { Reply } from '#abi/reply.ts';
import { TRACE_VERSION } from '#abi/trace.ts';
import type { Vendor } from '#abi/vendor.ts';
import { bit, or } from '#lib/bits.ts';
import { codeOf, WHOLE_ACCESS } from '../hap/entry.ts';
import { domStates } from '../layout.ts';
import { Machine } from '../machine.ts';

/** gfns of the guest's tables. */
export const TOP = 8;
export const MIDDLE = 9;
export const LEAVES = 10;
export const OTHER = 11;

/** A gfn whose frame is only read, one of a device, one without a frame. */
export const READ_ONLY = 29;
export const DEVICE = 30;
export const NOWHERE = 31;

/** Low halves of entries. */
export const bits = { P: 1, W: 2, U: 4, A: 0x20, D: 0x40, S: 0x80, G: 0x100, all: 7, PAT: 0x1000 } as const;
/** High halves. */
export const NX = bit(31);

const NESTED = 20;

/** Domain 1, whose vCPU 0 runs on pCPU 0; frame 48 + n is its gfn n, and begins with the word 0x100 + n. */
export const KEY = 2;
export const DOM = 1;
export const vcpu: Agent = { kind: 'vcpu', domain: DOM as DomId, vcpu: 0 as VcpuId };
export const frameOf = (gfn: number): number => 48 + gfn;

/** What an access asks for, if not for 8 bytes at the beginning of a frame, by a supervisor. */
export interface Manner {
  readonly by?: Privilege;
  readonly via?: number;
  readonly offset?: number;
  readonly size?: number;
}

export class Guest {
  readonly m: Machine;

  constructor(vendor: Vendor) {
    const policies = { flush: 'eager', scrub: 'always', scrubAt: 'free', superpages: true } as const;
    this.m = new Machine({ version: TRACE_VERSION, geometry: 'tiny', vendor, width: {}, pcpus: 2, iommus: [], ...policies, domains: [] }); // prettier-ignore
    const { f } = this.m;
    f.domState.set(DOM, domStates.indexOf('running'));
    f.domAccess.set(DOM, WHOLE_ACCESS);
    f.domVcpus.set(DOM, 2);
    f.domRoot.set(DOM, NESTED);
    f.vcpuOn.set(KEY, 1);
    f.pcpuVcpu.set(0, KEY + 1);
    for (let table = 0; table < 2; table += 1) this.#nestedTable(NESTED, table, 21 + table);
    for (let table = 0; table < 8; table += 1) this.#nestedTable(21 + Math.floor(table / 4), table % 4, 24 + table);
    for (let gfn = 0; gfn < 32; gfn += 1) {
      this.nested(gfn, 'ramRw');
      this.word(frameOf(gfn), 0, 0x100 + gfn);
    }
    this.nested(READ_ONLY, 'ramRo').nested(DEVICE, 'mmioDirect').nested(NOWHERE, 'none');
    this.m.flushing.enter(this.m, 0, DOM);
    for (const [table, to] of [[TOP, MIDDLE], [MIDDLE, LEAVES]] as const) this.entry(table, 0, to); // prettier-ignore
    for (let page = 0; page < 4; page += 1) this.entry(LEAVES, page, page);
    f.vcpuRoot.setWide(KEY, TOP);
    this.turnOn('paging');
  }

  #nestedTable(table: number, index: number, to: number): void {
    this.word(table, index, this.m.entries.tableLow(to), this.m.entries.tableHigh(to));
  }

  /** The nested entry of a gfn; what processors remember stays as it is. */
  nested(gfn: number, type: P2mType): this {
    const leaf = { mfn: frameOf(gfn), level: 1, code: codeOf(type), access: WHOLE_ACCESS, flags: 0 };
    const { leafLow, leafHigh } = this.m.entries;
    const isNothing = type === 'none';
    this.word(24 + Math.floor(gfn / 4), gfn % 4, isNothing ? 0 : leafLow(leaf), isNothing ? 0 : leafHigh(leaf));
    return this;
  }

  word(mfn: number, index: number, lo: number, hi = 0): void {
    this.m.f.memory.set(8 * mfn + 2 * index, lo);
    this.m.f.memory.set(8 * mfn + 2 * index + 1, hi);
  }

  /** An entry of the guest's table at gfn `table`. */
  entry(table: number, index: number, to: number, flags: { readonly lo?: number; readonly hi?: number } = {}): this {
    this.word(frameOf(table), index, 0x1000 * to + (flags.lo ?? bits.all), flags.hi ?? 0);
    return this;
  }

  /** The low half of an entry without its frame. */
  flags(table: number, index: number): number {
    return this.m.f.memory.get(8 * frameOf(table) + 2 * index) % 0x1000;
  }

  turnOn(...some: readonly Control[]): this {
    const { vcpuControls } = this.m.f;
    for (const one of some) vcpuControls.set(KEY, or(vcpuControls.get(KEY), bit(controls.indexOf(one))));
    return this;
  }

  /** An operation from its call to its reply, and how its pieces were translated. */
  does(op: Op<'concrete'>, agent: Agent = vcpu): { readonly reply: Reply; readonly how: readonly string[] } {
    const execution = this.m.start({ agent, op });
    const outcome = execution.run();
    this.m.finish(execution);
    if (outcome.kind !== 'done') throw new Error('it ends');
    const how = execution.log.map(({ choice }) => choice.kind === 'combined' ? (choice.leaf ? 'page' : `level ${choice.level}`) : choice.kind); // prettier-ignore
    return { reply: outcome.reply, how };
  }

  #operand(page: number, { by = 'supervisor', via = 0, offset = 0, size = 8 }: Manner) {
    return { gfn: page as Gfn, offset, size, via, as: by };
  }

  /** Reads: which gfn it was, or the refusal; then how the page was translated. */
  read(page: number, manner: Manner = {}): string {
    const { reply, how } = this.does({ kind: 'paging.read', ...this.#operand(page, manner) });
    const first = how.filter((one) => one !== 'cached')[0];
    return `${inWords(reply)}${reply.status === 'ok' ? ` ${first}` : ''}`;
  }

  /** Writes elsewhere in the frame than is read. */
  write(page: number, manner: Manner = {}): string {
    return inWords(this.does({ kind: 'paging.write', ...this.#operand(page, { offset: 8, ...manner }), value: { lo: 0x100, hi: 0 } }).reply); // prettier-ignore
  }

  fetch(page: number, manner: Manner = {}): string {
    return inWords(this.does({ kind: 'paging.fetch', ...this.#operand(page, manner) }).reply);
  }

  exchange(page: number, manner: Manner = {}): string {
    const zero = { lo: 0, hi: 0 };
    return inWords(this.does({ kind: 'paging.compareExchange', ...this.#operand(page, manner), expected: zero, value: zero }).reply); // prettier-ignore
  }

  fill(page: number, pcpu = 0): string {
    return this.does({ kind: 'tlb.fill', pcpu: pcpu as PcpuId, gfn: page as Gfn }, { kind: 'fate' }).reply.status;
  }
}

const hex = (n = 0): string => n.toString(16);

/** A reply in words: the gfn that was read, a page fault's code and address, a violation's gfn. */
function inWords({ status, out, words: [word] }: Reply): string {
  if (status === 'ok') return word === undefined ? 'ok' : `gfn ${word.lo - 0x100}`;
  if (status === 'pageFault') return `fault ${out[0]} at ${hex(word?.hi)}:${hex(word?.lo)}`;
  if (status === 'violation') return `violation: ${out[1] === 1 ? 'table' : 'page'} ${out[0]}`;
  return status;
}
