// How the domains of a header come into being: by ordinary calls of the toolstack and of fate, run in lockstep like any
// other. There is no second way for a domain to exist.

import { gfn, type PcpuId, type VcpuId } from '#abi/address.ts';
import type { Geometry } from '#abi/geometry.ts';
import type { DomainSetup, Header } from '#abi/trace.ts';
import type { Call } from '#impl/execution.ts';
import type { State } from '#model/state.ts';
import { gfnOfPath } from './resolve.ts';
import type { Subject } from './subject.ts';

const TOOLSTACK = { kind: 'toolstack' } as const;
const FATE = { kind: 'fate' } as const;

function callsFor(geometry: Geometry, domain: DomainSetup): Call[] {
  const target = domain.id;
  const at = (path: readonly number[]) => gfn(gfnOfPath(geometry, path));
  const calls: Call[] = [
    {
      agent: TOOLSTACK,
      op: {
        kind: 'memory.createDomain',
        target,
        vcpus: domain.vcpus,
        maxPages: domain.maxPages,
        grantFrames: domain.grantFrames,
      },
    },
    { agent: TOOLSTACK, op: { kind: 'memory.setPool', target, frames: domain.poolFrames } },
    ...domain.ram.map(({ path, order }): Call => ({
      agent: TOOLSTACK,
      op: { kind: 'memory.populate', target, extents: { by: 'value', gfns: [at(path)] }, order, start: 0 },
    })),
  ];
  if (domain.grantsAt !== undefined)
    calls.push({
      agent: TOOLSTACK,
      op: {
        kind: 'memory.addToPhysmap',
        target,
        space: 'grantTable',
        foreign: target,
        index: gfn(0),
        gfn: at(domain.grantsAt),
      },
    });
  domain.on.forEach((pcpu, vcpu) => {
    if (pcpu >= 0)
      calls.push({
        agent: FATE,
        op: { kind: 'tlb.schedule', target, vcpu: vcpu as VcpuId, pcpu: pcpu as PcpuId },
      });
  });
  calls.push({ agent: TOOLSTACK, op: { kind: 'memory.unpauseDomain', target } });
  return calls;
}

/** The calls that bring the header's domains into being, in order. */
export const bootCalls = (geometry: Geometry, header: Header): readonly Call[] =>
  header.domains.flatMap((domain) => callsFor(geometry, domain));

/** How a machine stands once it is booted. */
export interface Boot {
  /** The words of the machine that booting has changed (Arena.changesSince). */
  readonly changes: Int32Array;
  readonly state: State;
  /** Marks that booting leaves. */
  readonly marks: readonly string[];
}

/** The boot of one header; undefined until it is known to break no law. */
export interface Booted {
  readonly key: string;
  boot: Boot | undefined;
}

const last = new WeakMap<Subject, Booted>();

/**
 * The boot of `header` on `subject`, remembered for the last header of each: runs in a row often share one, and a shrinker
 * tries thousands. The run that boots fills it in.
 */
export function booted(subject: Subject, header: Header): Booted {
  const key = JSON.stringify(header);
  const known = last.get(subject);
  if (known?.key === key) return known;
  const made: Booted = { key, boot: undefined };
  last.set(subject, made);
  return made;
}
