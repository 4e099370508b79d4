// Random machines. Mostly `tiny`, where tables fill, superpages split and counters wrap within a few steps; in a share of
// runs `x86`. Memory is ample in some runs and nearly gone in others; what a header asks for and the machine does not have
// is refused at boot by ordinary replies. A first reader may skip all but `headerOf`.

import type { DomId } from '#abi/address.ts';
import { geometries, gfnCount, tableEntries, type Geometry } from '#abi/geometry.ts';
import { TRACE_VERSION, type DomainSetup, type Header } from '#abi/trace.ts';
import type { Vendor } from '#abi/vendor.ts';
import type { Prng } from '#lib/prng.ts';
import { operandOf } from './decisions.ts';

/** One run in this many is on the x86 geometry: more than a tenth of all steps. */
const X86_EVERY = 8;

type Extent = DomainSetup['ram'][number];

const pathOf = (geometry: Geometry, gfn: number): readonly number[] => {
  const operand = operandOf(geometry, gfn);
  return 'path' in operand ? operand.path : [0];
};

function shuffled<T>(prng: Prng, list: readonly T[]): T[] {
  const rest = [...list];
  return Array.from({ length: list.length }, () => rest.splice(prng.below(rest.length), 1)[0] as T);
}

/** Extents from gfn 0 on, or across a table's border, or at the top; and the first gfn that is still free after them. */
function layout(geometry: Geometry, prng: Prng, pages: number): { readonly ram: Extent[]; readonly end: number } {
  const size = tableEntries(geometry);
  const bases = [0, 0, 0, geometry.name === 'tiny' ? size * size - size : size - 4, gfnCount(geometry) - 2 * size];
  const large = prng.chance(1, 2) ? geometry.bitsPerLevel : 1;
  const ram: Extent[] = [];
  let at = prng.pick(bases);
  let left = pages;
  while (left > 0) {
    const order = at % 2 ** large === 0 && left >= 2 ** large && prng.chance(1, 2) ? large : 0;
    ram.push({ path: pathOf(geometry, at), order });
    at += 2 ** order;
    left -= 2 ** order;
  }
  // In scattered memory neighbours are no neighbours in the machine: tables stay where others have superpages.
  const isScattered = prng.chance(1, 2);
  const inOrder = isScattered ? shuffled(prng, ram) : ram;
  return { ram: inOrder, end: Math.min(at, gfnCount(geometry) - 2) };
}

interface Wish {
  readonly id: DomId;
  readonly pages: number;
  readonly pool: number;
  readonly pcpus: number;
}

/** RAM of another domain follows the first pages: one superpage of the larger kind, x86 only (tiny ones are in `layout`). */
const superpage = (geometry: Geometry, prng: Prng): Extent[] =>
  geometry.name === 'x86' && prng.chance(1, 24)
    ? [{ path: pathOf(geometry, tableEntries(geometry)), order: geometry.bitsPerLevel }]
    : [];

/** How likely a vCPU runs from the beginning: a guest with two on processors can race with itself. */
const placed = (id: number, vcpu: number): [number, number] => (id === 0 ? [1, 2] : vcpu === 0 ? [1, 1] : [2, 3]);

/** One guest in four is paravirtual: without a pool, and with tables from the beginning. */
function directly(setup: DomainSetup): DomainSetup {
  const rootAt = setup.rootAt ?? (setup.ram[1] ?? setup.ram[0])?.path ?? [0];
  return { ...setup, kind: 'pv', poolFrames: 0, rootAt };
}

function setup(geometry: Geometry, prng: Prng, wish: Wish): DomainSetup {
  const made = translated(geometry, prng, wish);
  return wish.id !== 0 && prng.chance(1, 4) ? directly(made) : made;
}

function translated(geometry: Geometry, prng: Prng, wish: Wish): DomainSetup {
  const { ram, end } = layout(geometry, prng, wish.pages);
  const large = superpage(geometry, prng);
  const pages = wish.pages + large.length * tableEntries(geometry);
  const vcpus = wish.id === 0 ? 1 : 1 + prng.below(geometry.capacity.vcpusPerDomain);
  const isTight = prng.chance(1, 4);
  return {
    id: wish.id,
    kind: wish.id === 0 ? 'control' : 'hvm',
    vcpus,
    maxPages: isTight ? pages : pages + prng.pick([8, 16, 24]),
    poolFrames: wish.pool,
    grantFrames: prng.chance(5, 6) ? 1 : prng.below(geometry.capacity.grantFrames + 1),
    ram: [...ram, ...large],
    ...(prng.chance(9, 10) ? { grantsAt: pathOf(geometry, end) } : {}),
    ...(wish.id !== 0 && prng.chance(1, 4) ? { rootAt: (ram[1] ?? ram[0])?.path ?? [0] } : {}),
    on: Array.from({ length: vcpus }, (_, vcpu) =>
      prng.chance(...placed(wish.id, vcpu)) ? (wish.id + vcpu) % wish.pcpus : -1,
    ),
  };
}

/** Narrow counters, so that clocks wrap and counts fill. */
function widths(prng: Prng): Header['width'] {
  return {
    ...(prng.chance(1, 2) ? { tlbClock: 2 + prng.below(3) } : {}),
    ...(prng.chance(1, 6) ? { pin: 2 } : {}),
    ...(prng.chance(1, 6) ? { refCount: 3 } : {}),
    ...(prng.chance(1, 6) ? { pages: 5 } : {}),
    ...(prng.chance(1, 8) ? { typeCount: 3 } : {}),
  };
}

/** Two machines in five are AMD's, with few ASIDs and generations in most runs, so that both run out. */
function vendor(prng: Prng): { readonly vendor?: Vendor; readonly width: Header['width'] } {
  if (!prng.chance(2, 5)) return { width: {} };
  return {
    vendor: 'amd',
    width: {
      ...(prng.chance(1, 2) ? { asid: 1 + prng.below(3) } : {}),
      ...(prng.chance(1, 2) ? { asidGeneration: 2 + prng.below(4) } : {}),
    },
  };
}

/** Two machines in three with paravirtual guests let their tables be linear, with a count that soon is full in one of three. */
function linear(prng: Prng, isDirect: boolean): Pick<Header, 'pvLinear' | 'width'> {
  if (!isDirect || !prng.chance(2, 3)) return { width: {} };
  return { pvLinear: 'on', width: prng.chance(1, 3) ? { linear: 2 } : {} };
}

/** What a domain can hold so that all of them leave about `spare` frames of the machine free. */
function pagesEach(geometry: Geometry, of: { domains: number; pool: number; spare: number }): number {
  if (geometry.name === 'x86') return 10;
  const overhead = 4 + of.pool;
  return Math.max(6, Math.floor((geometry.frameCount - 1 - of.spare) / of.domains) - overhead);
}

/** A random machine with the control domain and one or two guests on it. */
export function headerOf(prng: Prng): Header {
  const geometry = geometries[prng.chance(1, X86_EVERY) ? 'x86' : 'tiny'];
  const pcpus = prng.chance(1, 4) ? 2 : 3;
  const domains = 2 + (prng.chance(3, 4) ? 1 : 0);
  const pool = prng.chance(1, 5) ? 6 : prng.pick([8, 10, 12]);
  const isScarce = prng.chance(1, 3);
  const most = pagesEach(geometry, { domains, pool, spare: isScarce ? prng.below(8) : 30 });
  const header: Header = {
    version: TRACE_VERSION,
    geometry: geometry.name,
    width: widths(prng),
    pcpus,
    iommus: [],
    flush: prng.chance(1, 2) ? 'lazy' : 'eager',
    scrub: prng.chance(1, 2) ? 'always' : 'dying',
    scrubAt: prng.chance(1, 2) ? 'later' : 'free',
    superpages: prng.chance(2, 3),
    domains: Array.from({ length: domains }, (_, id) =>
      setup(geometry, prng, {
        id: id as DomId,
        pages: isScarce ? most : Math.min(most, 6 + prng.below(6)),
        pool,
        pcpus,
      }),
    ),
  };
  const isDirect = header.domains.some(({ kind }) => kind === 'pv');
  const hasPcids = isDirect && prng.chance(1, 2);
  const made = { ...vendor(prng), ...(hasPcids ? ({ pvPcids: 'on' } as const) : {}) };
  const direct = linear(prng, isDirect);
  return { ...header, ...made, ...direct, width: { ...header.width, ...made.width, ...direct.width } };
}
