// One machine: its arena, its port, the operations in flight. What the harness drives; an edited copy of this folder
// is whole and can be driven in its place.

import { geometries, type Geometry } from '#abi/geometry.ts';
import type { Header, Policies } from '#abi/trace.ts';
import { formatOf, vendorOf, type TableFormat } from '#abi/vendor.ts';
import { callerOf } from '#abi/agents.ts';
import { invariant, present } from '#lib/invariant.ts';
import { Arena, type Field } from './arena.ts';
import { Execution, type Call } from './execution.ts';
import type { EntryFormat } from './hap/entry.ts';
import { eptEntries } from './hap/ept.ts';
import { EptWalker } from './hap/ept-hardware.ts';
import type { NestedWalker } from './hap/hardware.ts';
import { nptEntries } from './hap/npt.ts';
import { NptWalker } from './hap/npt-hardware.ts';
import { fieldsOf, SLOTS, type FieldName } from './layout.ts';
import { initHeap } from './memory/heap.ts';
import { Port } from './port.ts';
import { startStep } from './step.ts';
import { asidFlushing } from './tlb/asid.ts';
import { eptFlushing } from './tlb/ept.ts';
import { initClock } from './tlb/flush.ts';
import type { FlushRules } from './tlb/rules.ts';

/** What the format of nested tables decides: the hypervisor's entries and flush rules, and the processor's walker. */
const kinds = {
  ept: { entries: eptEntries, flushing: eptFlushing, Walker: EptWalker },
  npt: { entries: nptEntries, flushing: asidFlushing, Walker: NptWalker },
} as const satisfies Readonly<Record<TableFormat, unknown>>;

/** The geometry of a header: the named one with the header's counter widths. */
export const geometryOf = (header: Header): Geometry => {
  const named = geometries[header.geometry];
  return { ...named, width: { ...named.width, ...header.width } };
};

/** A simulated machine with its hypervisor. Everything remembered between operations is in `arena`. */
export class Machine {
  readonly geometry: Geometry;
  readonly policies: Policies;
  /** Whether kernel and user of paravirtual guests have PCIDs of their own. */
  readonly pvPcids: boolean;
  /** Whether tables of paravirtual guests may be linear. */
  readonly pvLinear: boolean;
  readonly pcpus: number;
  readonly arena: Arena<FieldName>;
  readonly f: Readonly<Record<FieldName, Field>>;
  readonly port: Port;
  readonly format: TableFormat;
  /** How the hypervisor writes nested entries, and how it makes processors forget them. */
  readonly entries: EntryFormat;
  readonly flushing: FlushRules;
  /** The hardware's walker of nested tables; its fields are results of the last walk, nothing remembered. */
  readonly walker: NestedWalker;
  /** By slot - 1. */
  readonly inFlight: (Execution | undefined)[] = Array.from({ length: SLOTS }, () => undefined);
  /** The operation that returned last, for whoever asks what it took (law WORK). */
  finished: Execution | undefined = undefined;
  #sequence = 0;

  constructor(header: Header) {
    this.geometry = geometryOf(header);
    this.policies = header;
    this.pvPcids = header.pvPcids === 'on';
    this.pvLinear = header.pvLinear === 'on';
    this.pcpus = Math.min(header.pcpus, this.geometry.capacity.pcpus);
    this.arena = new Arena(fieldsOf(this.geometry));
    this.f = this.arena.fields;
    this.port = new Port(this.f.memory, this.geometry.wordsPerFrame);
    this.format = formatOf[vendorOf(header)];
    const { entries, flushing, Walker } = kinds[this.format];
    this.entries = entries;
    this.flushing = flushing;
    this.walker = new Walker(this.geometry, this.f.memory, this.arena.words);
    initClock(this);
    flushing.init(this);
    initHeap(this);
  }

  /** Takes an operation up; nothing of it has run yet. There must be a free slot. */
  start(call: Call): Execution {
    const slot = this.inFlight.indexOf(undefined) + 1;
    invariant(slot > 0, 'at most three operations are in flight');
    const body = startStep(this, call);
    const sequence = (): number => {
      this.#sequence += 1;
      return this.#sequence;
    };
    const execution = new Execution(this.port, { call, slot, body, sequence });
    this.inFlight[slot - 1] = execution;
    return execution;
  }

  /** Forgets an operation that has its reply. */
  finish(execution: Execution): void {
    invariant(execution.reply !== undefined, 'only an operation with a reply is finished');
    this.inFlight[execution.slot - 1] = undefined;
    this.finished = execution;
  }

  /** Goes back to how it stood after `count` writes, with nothing in flight and nothing logged. False: it cannot. */
  rewind(count: number): boolean {
    if (!this.arena.rewind(count)) return false;
    this.inFlight.fill(undefined);
    this.finished = undefined;
    this.#sequence = 0;
    this.port.reset();
    return true;
  }

  /** The slot of an operation in flight that a vCPU of `domain` called; 0 if there is none. */
  slotOf(domain: number): number {
    const isCall = ({ agent }: Call): boolean => agent.kind === 'vcpu' && callerOf(agent) === domain;
    const found = this.inFlight.find((one) => one !== undefined && isCall(one.call));
    return found?.slot ?? 0;
  }

  /** The execution in `slot`. */
  execution(slot: number): Execution {
    return present(this.inFlight[slot - 1], `slot ${slot} is in flight`);
  }
}
