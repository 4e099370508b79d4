// How the domains of a header come into being: by ordinary calls of the toolstack and of fate, run in lockstep like any
// other. There is no second way for a domain to exist, nor for a vCPU to have paging on.

import { DOMID_SELF, gfn, INVALID_MFN, type Mfn, type PcpuId, type VcpuId, type Word } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { framesPerLeaf, tableEntries, type Geometry } from '#abi/geometry.ts';
import { tableFlags } from '#abi/paging.ts';
import { mmuextCommands } from '#abi/pv.ts';
import { high21, low32 } from '#lib/bits.ts';
import type { FrameOperand } from '#abi/operand.ts';
import type { DomainSetup, Header } from '#abi/trace.ts';
import type { Call } from '#impl/execution.ts';
import type { Machine } from '#impl/machine.ts';
import type { State } from '#model/state.ts';
import { isHypervisorSlot } from './entry.ts';
import { gfnOfPath } from './resolve.ts';
import type { Subject } from './subject.ts';

const TOOLSTACK = { kind: 'toolstack' } as const;
const FATE = { kind: 'fate' } as const;

/** The domain as far as it is there before it has tables. */
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
        guest: domain.kind === 'pv' ? 'pv' : 'hvm',
      },
    },
    ...(domain.kind === 'pv'
      ? []
      : [{ agent: TOOLSTACK, op: { kind: 'memory.setPool', target, frames: domain.poolFrames } } as const]),
    ...domain.ram.map(({ path, order }): Call => ({
      agent: TOOLSTACK,
      op: { kind: 'memory.populate', target, extents: { by: 'value', gfns: [at(path)] }, order, start: 0 },
    })),
  ];
  if (domain.grantsAt !== undefined && domain.kind !== 'pv')
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
  return calls;
}

/** Its vCPUs come to run. */
function runCalls({ id: target, on }: DomainSetup): Call[] {
  const placed = on.flatMap((pcpu, vcpu): readonly Call[] =>
    pcpu < 0 ? [] : [{ agent: FATE, op: { kind: 'tlb.schedule', target, vcpu: vcpu as VcpuId, pcpu: pcpu as PcpuId } }],
  );
  return [...placed, { agent: TOOLSTACK, op: { kind: 'memory.unpauseDomain', target } }];
}

/** A store of a whole entry. */
interface EntryAt {
  readonly table: number;
  readonly index: number;
  readonly frame: number;
  readonly isPage: boolean;
}

/**
 * The tree of tables from `root` that maps every RAM gfn to itself in pages as large as there may be, and what else is `shown`, which is no
 * RAM; what does not fit is left out.
 */
function treeOver(
  geometry: Geometry,
  ram: readonly number[],
  of: { root: number; superpageLevels: number; shown?: readonly number[] },
): EntryAt[] {
  const { root, superpageLevels, shown = [] } = of;
  const spare = ram.filter((gfn) => gfn !== root && gfn !== ram[0]);
  const tables = new Map<string, number>([[`${geometry.levels} 0`, root]]);
  const entries = new Map<string, EntryAt>();
  for (const gfn of [...shown, ...ram])
    for (let { levels: level } = geometry; ; level -= 1) {
      const span = framesPerLeaf(geometry, level);
      const above = tables.get(`${level} ${Math.floor(gfn / (span * tableEntries(geometry)))}`);
      if (above === undefined) break;
      const isPage = level <= superpageLevels;
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

const ramOf = (geometry: Geometry, { ram }: DomainSetup): readonly number[] =>
  ram.flatMap(({ path, order }) => Array.from({ length: 2 ** order }, (_, i) => gfnOfPath(geometry, path) + i));

/** An entry with these flags, for a frame of that number; of one beyond 40 bits it keeps the low ones. */
const entryWord = (frame: number, flags: number): Word => ({
  lo: low32(frame * 0x1000) + (flags % 0x1000),
  hi: (Math.floor(frame / 0x10_0000) % 0x10_0000) + noExecuteHigh(flags),
});

/** vCPU 0 builds tables by ordinary stores, loads their root, and turns paging on. */
function pagingCalls(geometry: Geometry, domain: DomainSetup): Call[] {
  if (domain.rootAt === undefined) return [];
  const agent: Agent = { kind: 'vcpu', domain: domain.id, vcpu: 0 as VcpuId };
  const root = gfnOfPath(geometry, domain.rootAt);
  const { superpageLevels } = geometry;
  const stores = treeOver(geometry, ramOf(geometry, domain), { root, superpageLevels }).map(
    ({ table, index, frame, isPage }): Call => {
      const flags = isPage ? tableFlags.superpage + tableFlags.global + (pageRights[index % 4] ?? 0) : ALL;
      const at = { gfn: gfn(table), offset: 8 * index, size: 8 };
      const op = { kind: 'paging.write', ...at, value: entryWord(frame, flags), via: 0, as: 'supervisor' } as const;
      return { agent, op };
    },
  );
  return [
    ...stores,
    { agent, op: { kind: 'paging.setRoot', gfn: root, pcid: 0, flush: 'flushing' } },
    ...usualControls.map((control): Call => ({ agent, op: { kind: 'paging.setControl', control, to: 'on' } })),
  ];
}

/** Which machine frame an operand means by now. */
export type FrameOf = (frame: FrameOperand) => Mfn | undefined;

/** Entries that the toolstack writes in one call. */
const WRITTEN = 8;

/**
 * The toolstack builds the tables of a paravirtual guest, the tables themselves readable alone, pins the root, and lets all vCPUs
 * begin with it. What would lie in the hypervisor's slots is left out.
 */
function* directCalls(geometry: Geometry, domain: DomainSetup, frameOf: FrameOf): Generator<Call> {
  if (domain.rootAt === undefined) return;
  const { id: owner } = domain;
  const root = gfnOfPath(geometry, domain.rootAt);
  // The tables lead to the first grant frame, too.
  const shown =
    domain.grantsAt === undefined || domain.grantFrames === 0 ? [] : [gfnOfPath(geometry, domain.grantsAt) as number];
  const entries = treeOver(geometry, ramOf(geometry, domain), { root, superpageLevels: 1, shown }).filter(
    ({ table, index }) => table !== root || !isHypervisorSlot(geometry, index),
  );
  const tables = new Set([root, ...entries.filter(({ isPage }) => !isPage).map(({ frame }) => frame)]);
  const special = { special: 'grantFrame', domain: owner, index: 0 } as const;
  const named = (at: number): Mfn =>
    frameOf(shown.includes(at) ? special : { domain: owner, gfn: { raw: at } }) ?? INVALID_MFN;
  const elements = entries.map(({ table, index, frame, isPage }) => {
    const isTable = isPage && tables.has(frame);
    const flags = shown.includes(frame)
      ? ALL
      : isTable
        ? ALL - tableFlags.write
        : isPage
          ? (pageRights[index % 4] ?? ALL)
          : ALL;
    return { command: 'normal', frame: named(table), index, value: entryWord(named(frame), flags) } as const;
  });
  for (let from = 0; from < elements.length; from += WRITTEN)
    yield {
      agent: TOOLSTACK,
      op: { kind: 'pv.mmuUpdate', elements: elements.slice(from, from + WRITTEN), owner, start: 0 },
    };
  const command = mmuextCommands[geometry.levels - 1] ?? 'unknown';
  const pin = { command, frame: named(root), source: named(root), page: gfn(0), vcpus: 0 } as const;
  yield { agent: TOOLSTACK, op: { kind: 'pv.mmuext', elements: [pin], owner, start: 0 } };
  for (let vcpu = 0; vcpu < domain.vcpus; vcpu += 1)
    yield {
      agent: TOOLSTACK,
      op: { kind: 'pv.setContext', target: owner, vcpu: vcpu as VcpuId, frame: named(root), by: 'writer' },
    };
}

/** A paravirtual guest names its grant frame: traces find it by that. */
function* namingCalls(geometry: Geometry, domain: DomainSetup, frameOf: FrameOf): Generator<Call> {
  const { id, grantsAt } = domain;
  const frame = frameOf({ special: 'grantFrame', domain: id, index: 0 });
  if (grantsAt === undefined || frame === undefined) return;
  const at = gfnOfPath(geometry, grantsAt);
  const value = { lo: low32(at), hi: high21(at) };
  const element = { command: 'machphys', frame, index: 0, value } as const;
  const agent: Agent = { kind: 'vcpu', domain: id, vcpu: 0 as VcpuId };
  yield { agent, op: { kind: 'pv.mmuUpdate', elements: [element], owner: DOMID_SELF, start: 0 } };
}

/** The calls that bring the header's domains into being, in order; frames are looked up when a call is due. */
export function* bootCalls(geometry: Geometry, header: Header, frameOf: FrameOf): Generator<Call> {
  for (const domain of header.domains) {
    yield* callsFor(geometry, domain);
    if (domain.kind === 'pv') yield* directCalls(geometry, domain, frameOf);
    yield* runCalls(domain);
    if (domain.kind === 'pv') yield* namingCalls(geometry, domain, frameOf);
    if (domain.kind !== 'pv') yield* pagingCalls(geometry, domain);
  }
}

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
