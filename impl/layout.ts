// What the implementation remembers, field by field: the shape of its arena. The harness reads what is remembered by these
// names (and of operations in flight their executions and the port). `ghost` fields are written for the laws alone; no
// decision of the hypervisor reads them. Those that laws rest on are compared with the model's, or kept by simulated hardware.
// Frame 0 is the hypervisor's own and never handed out, so 0 means "no frame" wherever a frame number is stored.
// A first reader may skip the lengths. Sources: Xen asm/mm.h (page_info), xen/sched.h, common/grant_table.c, asm/hvm/vmx.

import { grantsPerFrame, type Geometry } from '#abi/geometry.ts';
import type { Shape } from './arena.ts';

/** Largest order of the buddy heap: 2^11 frames. */
export const HEAP_ORDER_MAX = 11;

/** Operations in flight at once at most. */
export const SLOTS = 3;

/** Codes of `domState`. */
export const domStates = ['none', 'running', 'dying', 'dead'] as const;
/** Codes of `domStage`: how far relinquishing has come. */
export const domStages = ['handles', 'tables', 'roots', 'cache', 'pages'] as const;
/** Codes of `domKind`. */
export const domKinds = ['control', 'hvm', 'pv'] as const;
/** Codes of `podSize`: how a frame lies in its owner's cache for memory on demand. */
export const podSizes = ['none', 'single', 'large'] as const;

/** Codes of `dirtyAction`: the call about a log of writes that was preempted. */
export const dirtyActions = ['none', 'disables', 'cleans', 'peeks'] as const;

/** Grant references of one domain: 0..refsOf-1. */
export const refsOf = (g: Geometry): number => g.capacity.grantFrames * grantsPerFrame(g);
/** Mapping handles of one domain: 0..handlesOf-1. */
export const handlesOf = (g: Geometry): number => g.capacity.maptrackFrames * g.capacity.handlesPerMaptrackFrame;
/** Virtual processors of the machine. */
export const vcpusOf = (g: Geometry): number => g.capacity.domains * g.capacity.vcpusPerDomain;

const frameTable = (g: Geometry) => {
  const length = g.frameCount;
  return {
    /** Simulated memory: two words (low, high) per 64-bit word; word w of frame m starts at 2 * (m * wordsPerFrame + w). */
    memory: { length: 2 * g.wordsPerFrame * length },
    /** Index into abi `frameRoles`. */
    frameRole: { length, bits: 4 },
    /** Domain id + 1; 0: nobody. */
    frameOwner: { length, bits: 16 },
    /** General references. */
    frameRefs: { length, bits: g.width.refCount },
    /** Whether the owner still holds its own reference. */
    frameAllocated: { length, bits: 1 },
    /** Whether a free frame must be erased before it is handed over as RAM. */
    frameDirty: { length, bits: 1 },
    /** Whether translations to a free frame may still be cached, and the TLB clock when it was freed. */
    frameNeedFlush: { length, bits: 1 },
    frameStamp: { length, bits: g.width.tlbClock },
    /** Pool frames: whether it is a table now, and the next spare one. */
    frameIsTable: { length, bits: 1 },
    poolNext: { length },
    /** Machine to guest frame: gfn + 1 in two words (low, high); 0: nowhere. */
    m2p: { length: 2 * length },
    /** Direct paging, of frames of paravirtual guests: index into abi `frameTypes`, how often it is used as that, whether it may be. */
    frameType: { length, bits: 3 },
    frameTypeCount: { length, bits: g.width.typeCount },
    frameValidated: { length, bits: 1 },
    /** Of a table, signed: linear entries that it has, or (below 0) that lead to it. */
    frameLinear: { length, bits: g.width.linear },
    framePinned: { length, bits: 1 },
    /** A table in which an operation has stopped: 1, twice the entries that it holds, and 1 if it holds the next one's frame. 0: another. */
    framePartial: { length, bits: 12 },
    /** The TLB clock when it was used as that for the last time; slots, or 0: of who makes it valid or not, of who keeps others out. */
    frameTypeStamp: { length, bits: g.width.tlbClock },
    frameValidator: { length, bits: 4 },
    pageLock: { length, bits: 4 },
    /** Memory on demand: index into `podSizes`, and the next frame (of large ones: the first of the next run) in the list. */
    podSize: { length, bits: 2 },
    podNext: { length },
    /** Ghost: how often the heap has handed the frame over. */
    frameIncarnation: { length },
    /** Ghost: how often the frame was taken as a table. */
    tableLife: { length },
    /** Buddy heap: order of the free run that starts here + 1 (0: none starts here), doubly linked by order. */
    heapOrder: { length, bits: 4 },
    heapNext: { length },
    heapPrev: { length },
  };
};

const domainTable = (g: Geometry) => {
  const length = g.capacity.domains;
  return {
    /** Index into `domStates`, and into `domStages` while dying. */
    domState: { length, bits: 2 },
    domStage: { length, bits: 3 },
    /** How often the id has been given to a domain: an operation in flight tells by it that it outlived its target. */
    domLife: { length },
    /** Index into `domKinds`. */
    domKind: { length, bits: 2 },
    domPauses: { length, bits: 16 },
    /** Whether the domain was crashed: its vCPUs never run again. */
    domCrashed: { length, bits: 1 },
    /** Whether a paravirtual guest's kernel may write its lowest tables, each write being an update. */
    domWritesTables: { length, bits: 1 },
    domMaxPages: { length, bits: g.width.pages },
    domTotalPages: { length, bits: g.width.pages },
    /** Frames that it has claimed and not taken yet. */
    domClaim: { length, bits: g.width.pages },
    domVcpus: { length, bits: 8 },
    /** The frame of the domain structure, its shared info, the root of its P2M (0: none yet). */
    domStructure: { length },
    domSharedInfo: { length },
    domRoot: { length },
    /** How often the hypervisor itself has paused the domain. */
    domHeld: { length, bits: 8 },
    /** Who watches it: what new entries leave (index into abi `p2mAccesses`), whether somebody listens, whether somebody has to. */
    domAccess: { length, bits: 4 },
    domListens: { length, bits: 1 },
    domAccessRequired: { length, bits: 1 },
    /** The log of writes: whether it is on, the root of its bitmap (0: none), bits set, pages that could not be had. */
    domLogDirty: { length, bits: 1 },
    dirtyTop: { length },
    dirtyCount: { length },
    dirtyFailed: { length },
    /** A call about it that was preempted: which (index into `dirtyActions`), whose (domain id + 1), how many gfns it has done. */
    dirtyAction: { length, bits: 2 },
    dirtyBy: { length, bits: 16 },
    dirtyDone: { length },
    /** The highest gfn that was ever mapped (low, high), and which device frames may be given to the domain. */
    domMaxGfn: { length: 2 * length },
    domIomem: { length: length * g.deviceFrames, bits: 1 },
    /** Operations in flight that its vCPUs have called. */
    domBusy: { length, bits: 8 },
    /** Paging pool: first spare frame, spare frames, all frames. */
    poolHead: { length },
    poolSpare: { length },
    poolTotal: { length },
    /** Grant frames in use, their limit, and which they are. */
    grantFrameCount: { length },
    grantLimit: { length },
    grantFrame: { length: length * g.capacity.grantFrames },
    /** Maptrack frames in use, which they are, and the list of free handles (handle + 1; 0: none). */
    maptrackFrameCount: { length },
    maptrackFrame: { length: length * g.capacity.maptrackFrames },
    maptrackHead: { length },
    maptrackTail: { length },
    /** EPT: pCPUs (bits) that must invalidate on entry. */
    eptInvalidate: { length, bits: 16 },
    /** Depth of deferral; whether a flush is owed at the outermost unlock of the P2M lock. */
    p2mDefer: { length, bits: 8 },
    p2mNeedFlush: { length, bits: 1 },
    /** Locks: slot of the holder, 1..SLOTS; 0: free. The P2M lock is recursive: `p2mDepth`. */
    p2mLock: { length, bits: 4 },
    p2mDepth: { length, bits: 8 },
    grantLock: { length, bits: 4 },
    maptrackLock: { length, bits: 4 },
    domainLock: { length, bits: 4 },
  };
};

/** Memory on demand, by domain. */
const podTables = (g: Geometry) => {
  const length = g.capacity.domains;
  const recent = length * g.capacity.podRecent;
  return {
    /** gfns whose entries are on demand, and frames in the cache. */
    podEntries: { length },
    podCount: { length },
    /** The cache: first and last of the single frames, and of the large runs. */
    podSingleHead: { length },
    podSingleTail: { length },
    podLargeHead: { length },
    podLargeTail: { length },
    /** The highest gfn populated so far, and where the next sweep begins (0: there). In two words (low, high). */
    podHighest: { length: 2 * length },
    podSweepAt: { length: 2 * length },
    /** What was populated last, a ring: gfn + 1 (low, high; 0: nothing), whether it is a large piece; where the next goes. */
    podRecentGfn: { length: 2 * recent },
    podRecentLarge: { length: recent, bits: 1 },
    podRecentAt: { length, bits: 8 },
  };
};

const grantTables = (g: Geometry) => {
  const refs = g.capacity.domains * refsOf(g);
  const handles = g.capacity.domains * handlesOf(g);
  return {
    /** Active entries, by granter * refsOf + ref: mapper (domain id + 1), frame, the four pins. */
    activeDomain: { length: refs, bits: 16 },
    activeMfn: { length: refs },
    activeHostRead: { length: refs, bits: g.width.pin },
    activeHostWrite: { length: refs, bits: g.width.pin },
    activeDeviceRead: { length: refs, bits: g.width.pin },
    activeDeviceWrite: { length: refs, bits: g.width.pin },
    activeLock: { length: refs, bits: 4 },
    /** Ghost: incarnation of the frame when it was pinned first. */
    activeIncarnation: { length: refs },
    /** Maptrack, by mapper * handlesOf + handle: granter, reference, map flags (0: free), gfn (low, high), next free + 1. */
    trackDomain: { length: handles, bits: 16 },
    /** In which life of its id the granter gave it. */
    trackLife: { length: handles },
    trackRef: { length: handles },
    trackFlags: { length: handles, bits: 16 },
    trackGfn: { length: 2 * handles },
    trackNext: { length: handles },
  };
};

const processors = (g: Geometry) => {
  const { pcpus, cacheEntries } = g.capacity;
  const entries = pcpus * cacheEntries;
  return {
    /** pCPU + 1 on which a vCPU runs, by domain * vcpusPerDomain + vcpu; and the vCPU + 1 that a pCPU runs. */
    vcpuOn: { length: vcpusOf(g), bits: 8 },
    pcpuVcpu: { length: pcpus, bits: 16 },
    /** Registers by vCPU: the controls of paging (a bit for each of abi's `controls`), the root's gfn (low, high), the PCID. */
    vcpuControls: { length: vcpusOf(g), bits: 16 },
    vcpuRoot: { length: 2 * vcpusOf(g) },
    vcpuPcid: { length: vcpusOf(g), bits: 12 },
    /** Of paravirtual guests: `vcpuRoot` is the kernel's, a machine frame (0: none), this the user's; and which of them serves. */
    vcpuUserRoot: { length: vcpusOf(g) },
    /** A table that a call of the vCPU has left partial: its next call lets go of it. 0: none. */
    vcpuOldTable: { length: vcpusOf(g) },
    /** Its GDT: the frames (0: none), and how many descriptors. */
    vcpuGdt: { length: vcpusOf(g) * g.capacity.gdtFrames },
    vcpuGdtEntries: { length: vcpusOf(g), bits: 16 },
    /** Its LDT: the frames of it that are in use (0: not yet), how many descriptors, the linear frame of the first (low, high). */
    vcpuLdt: { length: vcpusOf(g) * g.capacity.ldtFrames },
    vcpuLdtEntries: { length: vcpusOf(g), bits: 16 },
    vcpuLdtBase: { length: 2 * vcpusOf(g) },
    vcpuIsUser: { length: vcpusOf(g), bits: 1 },
    /** The TLB clock, and when each pCPU last forgot everything. */
    tlbClock: { length: 1, bits: g.width.tlbClock },
    pcpuTime: { length: pcpus, bits: g.width.tlbClock },
    /** By vCPU, the ASID (EPT: VPID) that it was given last, in which generation (0: none is valid), and on which pCPU + 1. */
    vcpuAsid: { length: vcpusOf(g), bits: g.width.asid },
    vcpuGeneration: { length: vcpusOf(g), bits: g.width.asidGeneration },
    vcpuCore: { length: vcpusOf(g), bits: 8 },
    /** By pCPU, its generation, the next ASID to be given, and whether it has done with ASIDs. */
    asidGeneration: { length: pcpus, bits: g.width.asidGeneration },
    asidNext: { length: pcpus },
    asidDisabled: { length: pcpus, bits: 1 },
    /** A register of the processor: the ASID or VPID under which it runs its guest. */
    pcpuAsid: { length: pcpus, bits: g.width.asid },
    /** Ghost: how often the processor was made to forget everything for a new round of ASIDs. */
    pcpuRounds: { length: pcpus },
    /** Rings of cached paging-structure entries, by pcpu * cacheEntries + i: tag (root or ASID; 0: empty), level, first gfn
     * (low, high), the entry as loaded, rights folded from the root down to and with this entry. */
    cacheTag: { length: entries },
    cacheLevel: { length: entries, bits: 4 },
    cacheGfn: { length: 2 * entries },
    cacheLo: { length: entries },
    cacheHi: { length: entries },
    cacheRights: { length: entries, bits: 3 },
    /** Where the next entry of a pCPU goes. */
    cacheNext: { length: pcpus },
    /** Ghost: life of the table or incarnation of the frame that the entry points to, when it was loaded. */
    cacheLife: { length: entries },
    /** Ghost: vCPU + 1 for which the entry was loaded. */
    cacheVcpu: { length: entries, bits: 16 },
    /** Rings of what was loaded through guests' own tables, by pcpu * cacheEntries + i: level (0: empty), VPID or ASID, root of the
     * nested tables (NPT: 0), PCID, first linear frame (low, high), gfn (low, high) and frame that it leads to, rights there of
     * the nested tables, and bits: guest's write, user, execute; page; global; dirty. */
    linearLevel: { length: entries, bits: 4 },
    linearAsid: { length: entries, bits: g.width.asid },
    linearTag: { length: entries },
    linearPcid: { length: entries, bits: 12 },
    linearPage: { length: 2 * entries },
    linearGfn: { length: 2 * entries },
    linearMfn: { length: entries },
    linearRights: { length: entries, bits: 3 },
    linearBits: { length: entries, bits: 6 },
    linearNext: { length: pcpus },
    /** Ghosts: incarnation of the frame when the entry was loaded, and the vCPU + 1 for which it was. */
    linearLife: { length: entries },
    linearVcpu: { length: entries, bits: 16 },
  };
};

/** All fields for machines of geometry `g`. */
export const fieldsOf = (g: Geometry) => ({
  ...frameTable(g),
  ...domainTable(g),
  ...podTables(g),
  ...grantTables(g),
  ...processors(g),
  /** First free run of each order. */
  heapHead: { length: HEAP_ORDER_MAX + 1 } satisfies Shape,
  heapFree: { length: 1 } satisfies Shape,
  /** Frames that domains have claimed and not taken yet, all together. */
  heapClaimed: { length: 1 } satisfies Shape,
  heapLock: { length: 1, bits: 4 } satisfies Shape,
});

export type FieldName = keyof ReturnType<typeof fieldsOf>;
