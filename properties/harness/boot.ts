// How the domains of a header come into being: by ordinary calls of the toolstack and of fate, run in lockstep like any
// other. There is no second way for a domain to exist, nor for a vCPU to have paging on.

import { gfn, type PcpuId, type VcpuId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { framesPerLeaf, tableEntries, type Geometry } from '#abi/geometry.ts';
import type { Op } from '#abi/operation.ts';
import { tableFlags } from '#abi/paging.ts';
import { low32 } from '#lib/bits.ts';
import type { DomainSetup, Header } from '#abi/trace.ts';
import type { Call } from '#impl/execution.ts';
import type { Machine } from '#impl/machine.ts';
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
  return [...calls, ...pagingCalls(geometry, domain)];
}

/** A store of a whole entry. */
interface EntryAt {
  readonly table: number;
  readonly index: number;
  readonly frame: number;
  readonly isPage: boolean;
}

/** The tree of tables from `root` that maps every RAM gfn to itself in the largest pages there are; no frame: what does not fit is left out. */
function treeOver(geometry: Geometry, ram: readonly number[], root: number): EntryAt[] {
  const spare = ram.filter((gfn) => gfn !== root && gfn !== ram[0]);
  const tables = new Map<string, number>([[`${geometry.levels} 0`, root]]);
  const entries = new Map<string, EntryAt>();
  for (const gfn of ram)
    for (let { levels: level } = geometry; ; level -= 1) {
      const span = framesPerLeaf(geometry, level);
      const above = tables.get(`${level} ${Math.floor(gfn / (span * tableEntries(geometry)))}`);
      if (above === undefined) break;
      const isPage = level <= geometry.superpageLevels;
      const first = Math.floor(gfn / span);
      const below = isPage ? gfn - (gfn % span) : (tables.get(`${level - 1} ${first}`) ?? spare.pop());
      if (below === undefined) break;
      const index = first % tableEntries(geometry);
      entries.set(`${above} ${index}`, { table: above, index, frame: below, isPage });
      if (isPage) break;
      tables.set(`${level - 1} ${first}`, below);
    }
  return [...entries.values()];
}

const ALL = tableFlags.present + tableFlags.write + tableFlags.user;

/** Pages by their index: those of all, the supervisor's alone, those of all again, and data that nobody writes or executes. */
const pageRights = [ALL, tableFlags.present + tableFlags.write, ALL, ALL - tableFlags.write + tableFlags.noExecute];

const noExecuteHigh = (flags: number): number => (flags >= tableFlags.noExecute ? 0x8000_0000 : 0);

/** What a system turns on before paging, as systems do. */
const usualControls = ['writeProtect', 'executeDisable', 'globalPages', 'paging'] as const;

/** vCPU 0 builds tables by ordinary stores, loads their root, and turns paging on. */
function pagingCalls(geometry: Geometry, domain: DomainSetup): Call[] {
  if (domain.rootAt === undefined) return [];
  const agent: Agent = { kind: 'vcpu', domain: domain.id, vcpu: 0 as VcpuId };
  const ram = domain.ram.flatMap(({ path, order }) =>
    Array.from({ length: 2 ** order }, (_, i) => gfnOfPath(geometry, path) + i),
  );
  const root = gfnOfPath(geometry, domain.rootAt);
  const stores = treeOver(geometry, ram, root).map(({ table, index, frame, isPage }): Call => {
    const flags = isPage ? tableFlags.superpage + tableFlags.global + (pageRights[index % 4] ?? 0) : ALL;
    const value = {
      lo: low32(frame * 0x1000) + (flags % 0x1000),
      hi: Math.floor(frame / 0x10_0000) + noExecuteHigh(flags),
    };
    const op = { kind: 'paging.write', gfn: gfn(table), offset: 8 * index, size: 8, value, via: 0, as: 'supervisor' };
    return { agent, op: op as Extract<Op<'concrete'>, { kind: 'paging.write' }> };
  });
  return [
    ...stores,
    { agent, op: { kind: 'paging.setRoot', gfn: root, pcid: 0, flush: 'flushing' } },
    ...usualControls.map((control): Call => ({ agent, op: { kind: 'paging.setControl', control, to: 'on' } })),
  ];
}

/** The calls that bring the header's domains into being, in order. */
export const bootCalls = (geometry: Geometry, header: Header): readonly Call[] =>
  header.domains.flatMap((domain) => callsFor(geometry, domain));

/** How a machine stands once it is booted. */
export interface Boot {
  /** The words of the machine that are not as it was made (Arena.changes). */
  readonly changes: Int32Array;
  readonly state: State;
  /** Marks that booting leaves. */
  readonly marks: readonly string[];
}

/** The boot of one header; undefined until it is known to break no law. */
export interface Booted {
  readonly key: string;
  boot: Boot | undefined;
  /** A machine as it stands then, which nobody uses; making one anew costs as much as some dozen operations. */
  idle: Machine | undefined;
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
  const made: Booted = { key, boot: undefined, idle: undefined };
  last.set(subject, made);
  return made;
}
