// The one format of the project: what happened, as versioned JSON. Generation records it, shrinking cuts it, replay,
// corpora, exhibits and oracles store it. Every subsequence of a trace is a trace.

import type { DomId, VcpuId } from './address.ts';
import type { Agent } from './agents.ts';
import type { Failure } from './failures.ts';
import type { GeometryName, Widths } from './geometry.ts';
import type { Op } from './operation.ts';
import type { Label } from './operand.ts';
import type { Pause } from './points.ts';
import type { Vendor } from './vendor.ts';

/** Raised whenever the meaning of a stored trace changes; decoding refuses every other version. */
export const TRACE_VERSION = 1;

/** What an IOMMU unit can do; units of one machine may differ. */
export interface IommuUnit {
  readonly kind: 'vtd' | 'amdvi';
  readonly levels: number;
  readonly coherent: boolean;
  readonly superpages: boolean;
}

/** A domain that exists before the first step. */
export interface DomainSetup {
  readonly id: DomId;
  readonly kind: 'control' | 'hvm' | 'pv';
  readonly vcpus: number;
  readonly maxPages: number;
  readonly poolFrames: number;
  readonly grantFrames: number;
  /** RAM populated at the start: extents as gfn paths with their orders. */
  readonly ram: readonly { readonly path: readonly number[]; readonly order: number }[];
  /** Where the first grant frame is mapped at the start; absent: nowhere. */
  readonly grantsAt?: readonly number[];
  /**
   * Where vCPU 0 has its root table at the start, which maps all RAM at gfns to linear frames of the same number; absent: paging
   * is off. A paravirtual guest cannot do without one.
   */
  readonly rootAt?: readonly number[];
  /** Where each vCPU runs at the start: a pCPU index or -1. */
  readonly on: readonly number[];
}

/** What the hypervisor does with freed frames, and whether it maps superpages. */
export interface Policies {
  /** eager: translations are flushed before a frame is freed. lazy: a freed frame carries its debt to the next use. */
  readonly flush: 'eager' | 'lazy';
  /** always: every freed frame is erased. dying: only those of dying domains and the hypervisor's own. */
  readonly scrub: 'always' | 'dying';
  /** free: erased when freed. later: in the background or at allocation. */
  readonly scrubAt: 'free' | 'later';
  readonly superpages: boolean;
}

/** The machine and its policies. */
export interface Header extends Policies {
  readonly version: typeof TRACE_VERSION;
  readonly geometry: GeometryName;
  /** Who made the processors; absent: Intel. */
  readonly vendor?: Vendor;
  /** Whether kernel and user of a paravirtual guest are told apart by PCIDs, and no page is global; absent: off. */
  readonly pvPcids?: 'on';
  /** Whether tables of paravirtual guests may lead to tables of their own level; absent: off. */
  readonly pvLinear?: 'on';
  /** Counter widths that differ from the geometry's. */
  readonly width: Partial<Widths>;
  readonly pcpus: number;
  readonly iommus: readonly IommuUnit[];
  readonly domains: readonly DomainSetup[];
}

/** One operation by one agent, perhaps paused at a point, perhaps with failures, perhaps preempted at the n-th check. */
export interface ActStep {
  readonly label: Label;
  readonly agent: Agent;
  readonly op: Op<'symbolic'>;
  readonly pause?: Pause;
  readonly failures?: readonly Failure[];
  readonly preempt?: number;
}

/** Lets a paused operation go on, perhaps to a further pause. Nothing happens if it is not paused. */
export interface ResumeStep {
  readonly label: Label;
  readonly resume: Label;
  readonly pause?: Pause;
}

export type Step = ActStep | ResumeStep;

/** Whether a step starts an operation. */
export const isAct = (step: Step): step is ActStep => 'op' in step;

/** A whole run. Operations still paused at the end are run on in the order they were started. */
export interface Trace {
  readonly header: Header;
  readonly steps: readonly Step[];
}

/** A vCPU by name. */
export interface VcpuName {
  readonly domain: DomId;
  readonly vcpu: VcpuId;
}
