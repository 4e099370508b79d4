// How big things are. A geometry is data: both sides and the harness take all sizes, capacities and counter widths
// from it. `x86` is the real shape; `tiny` keeps entry formats bit-exact but gives tables 4 entries, so that superpages,
// splits, overflow and exhaustion are ordinary in short traces (small-scope hypothesis).
// Sources: Intel SDM vol. 3C, "EPT Translation Mechanism" (levels, bits per level); AMD64 APM vol. 2, "Nested Paging" (the same).

import { pow2 } from '#lib/bits.ts';

/** Sizes and widths of one kind of machine. */
export interface Geometry {
  readonly name: GeometryName;
  /** Table levels of a nested walk; level 1 holds the 4 KiB leaves, `levels` is the root. */
  readonly levels: number;
  /** Index bits consumed per level; a table has 2^bitsPerLevel entries. */
  readonly bitsPerLevel: number;
  /** Highest level at which an entry may map a superpage. */
  readonly superpageLevels: number;
  /** 64-bit words in a frame; at least 2^bitsPerLevel. */
  readonly wordsPerFrame: number;
  /** Machine frames. */
  readonly frameCount: number;
  /** Machine frames of devices, which are no memory: they follow the others. */
  readonly deviceFrames: number;
  /** Physical address bits: frame numbers in entries at or above 2^(maxPhysAddr-12) are reserved. */
  readonly maxPhysAddr: number;
  /** Entries of a paravirtual guest's root table that are the hypervisor's: so many from there on. */
  readonly rootSlots: { readonly from: number; readonly count: number };
  readonly capacity: Capacity;
  readonly width: Widths;
}

/** How many of each thing the hypervisor has room for. */
export interface Capacity {
  /** Domain slots, the control domain included; domain ids are 0..domains-1. */
  readonly domains: number;
  readonly vcpusPerDomain: number;
  readonly pcpus: number;
  /** Frames of grant entries per domain. */
  readonly grantFrames: number;
  /** Frames of mapping handles per domain. */
  readonly maptrackFrames: number;
  /** Handles held by one maptrack frame. */
  readonly handlesPerMaptrackFrame: number;
  /** Paging-structure entries one pCPU remembers. */
  readonly cacheEntries: number;
  /** Frames in a domain's paging pool at most. */
  readonly poolFrames: number;
  /** Elements of one batch at most; more is E2BIG before anything happens. */
  readonly batch: number;
  /** Frames that a paravirtual vCPU's GDT and LDT may have. */
  readonly gdtFrames: number;
  readonly ldtFrames: number;
  /** Frames that a word of the bitmap of written frames has bits for, and levels of that bitmap (leaves among them). */
  readonly dirtyBits: number;
  readonly dirtyLevels: number;
  /** gfns of a range that are worked on between two preemption checks, and pieces that one mapping of devices makes at most. */
  readonly rangeCheck: number;
  readonly devicePieces: number;
  /** Populate-on-demand: places that a domain remembers as populated last, gfns looked at together, and how far a sweep goes. */
  readonly podRecent: number;
  readonly podStride: number;
  readonly podSweep: number;
  /** Largest extent order for ordinary guests and for the control domain. */
  readonly orderMaxGuest: number;
  readonly orderMaxControl: number;
}

/** Bits of every counter that hardware or hypervisor keeps in a fixed field. */
export interface Widths {
  /** General reference count of a frame. */
  readonly refCount: number;
  /** Type reference count of a frame. */
  readonly typeCount: number;
  /** Of a table: entries that lead to tables of its own level, above 0, or such entries that lead to it, below 0. */
  readonly linear: number;
  /** The pages that a domain has, and may have. */
  readonly pages: number;
  /** Each of the four pin counters of an active grant entry. */
  readonly pin: number;
  /** The global TLB clock that stamps freed frames. */
  readonly tlbClock: number;
  /** AMD: the ASIDs of a processor are 1..2^asid-1; and the generation in which one was given. */
  readonly asid: number;
  readonly asidGeneration: number;
}

export type GeometryName = 'tiny' | 'x86';

const tiny: Geometry = {
  name: 'tiny',
  levels: 3,
  bitsPerLevel: 2,
  superpageLevels: 2,
  wordsPerFrame: 4,
  frameCount: 96,
  deviceFrames: 16,
  maxPhysAddr: 46,
  rootSlots: { from: 2, count: 1 },
  capacity: {
    domains: 4,
    vcpusPerDomain: 2,
    pcpus: 3,
    grantFrames: 2,
    maptrackFrames: 2,
    handlesPerMaptrackFrame: 4,
    cacheEntries: 48,
    poolFrames: 12,
    batch: 6,
    gdtFrames: 3,
    ldtFrames: 2,
    dirtyBits: 2,
    dirtyLevels: 3,
    rangeCheck: 3,
    devicePieces: 3,
    podRecent: 4,
    podStride: 4,
    podSweep: 16,
    orderMaxGuest: 2,
    orderMaxControl: 4,
  },
  width: { refCount: 8, typeCount: 8, linear: 4, pages: 8, pin: 3, tlbClock: 4, asid: 2, asidGeneration: 6 },
};

const x86: Geometry = {
  name: 'x86',
  levels: 4,
  bitsPerLevel: 9,
  superpageLevels: 3,
  wordsPerFrame: 512,
  frameCount: 2048,
  deviceFrames: 1024,
  maxPhysAddr: 46,
  rootSlots: { from: 256, count: 16 },
  capacity: {
    domains: 4,
    vcpusPerDomain: 2,
    pcpus: 3,
    grantFrames: 4,
    maptrackFrames: 4,
    handlesPerMaptrackFrame: 256,
    cacheEntries: 64,
    poolFrames: 64,
    batch: 6,
    gdtFrames: 14,
    ldtFrames: 16,
    dirtyBits: 64,
    dirtyLevels: 4,
    rangeCheck: 256,
    devicePieces: 64,
    podRecent: 32,
    podStride: 16,
    podSweep: 1024,
    orderMaxGuest: 9,
    orderMaxControl: 18,
  },
  width: { refCount: 26, typeCount: 26, linear: 16, pages: 32, pin: 8, tlbClock: 32, asid: 15, asidGeneration: 32 },
};

/** The known geometries by name. */
export const geometries: Readonly<Record<GeometryName, Geometry>> = { tiny, x86 };

/** Entries per table. */
export const tableEntries = (g: Geometry): number => pow2(g.bitsPerLevel);
/** gfns that the tables of `g` can map: 0..gfnCount-1. */
export const gfnCount = (g: Geometry): number => pow2(g.bitsPerLevel * g.levels);
/** 4 KiB frames mapped by one leaf at `level` (1 = ordinary leaf). */
export const framesPerLeaf = (g: Geometry, level: number): number => pow2(g.bitsPerLevel * (level - 1));
/** The order of the smallest superpage: the larger of the two sizes in which memory on demand is kept. */
export const superpageOrder = (g: Geometry): number => g.bitsPerLevel;
/** Bytes in a frame. */
export const bytesPerFrame = (g: Geometry): number => g.wordsPerFrame * 8;
/** Version-1 grant entries (8 bytes each) in a frame. */
export const grantsPerFrame = (g: Geometry): number => g.wordsPerFrame;
/** Whether a machine frame is one of a device: it is never on the heap and belongs to nobody. */
export const isDeviceFrame = (g: Geometry, mfn: number): boolean =>
  mfn >= g.frameCount && mfn < g.frameCount + g.deviceFrames;
/** gfns that one page at `level` of the bitmap of written frames is about (0: a leaf). */
export const framesPerBitmap = (g: Geometry, level: number): number =>
  g.capacity.dirtyBits * g.wordsPerFrame ** (level + 1);
