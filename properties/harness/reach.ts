// What the hardware would let every domain reach, computed by the model's walker from the implementation's bytes and from
// the caches of its processors: never from the hypervisor's bookkeeping. Kept up to date from the write log, entry by
// entry; `audited` computes it from scratch, and both must agree.
// A first reader may skip the upkeep and read leaf.ts, then judge.ts.

import { framesPerLeaf, tableEntries, type Geometry } from '#abi/geometry.ts';
import { eptBits, p2mTypes } from '#abi/hap.ts';
import { and, field } from '#lib/bits.ts';
import type { Machine } from '#impl/machine.ts';
import type { EntryMeaning } from '#model/hap/meaning.ts';
import { decodeEntry } from '#model/hap/walk.ts';
import { DirectLeaves } from './direct-leaves.ts';
import { isSameLeaf, type Cached, type Leaf } from './leaf.ts';
import { combinedWays } from './linear-reach.ts';

interface Node {
  readonly domain: number;
  readonly mfn: number;
  readonly level: number;
  readonly gfn: number;
  readonly rights: number;
  readonly children: (Node | Leaf | undefined)[];
}

const isNode = (child: Node | Leaf): child is Node => 'children' in child;

const ALL_RIGHTS = 7;

function put<T>(index: Map<number, Set<T>>, key: number, value: T): void {
  const known = index.get(key);
  if (known === undefined) index.set(key, new Set([value]));
  else known.add(value);
}

/** Incremental reach of one machine. */
export class Reach {
  readonly #m: Machine;
  readonly #geometry: Geometry;
  readonly #entries: number;
  readonly #roots = new Map<number, Node>();
  readonly #nodes = new Map<number, Set<Node>>();
  /** By ring slot of the whole machine. */
  readonly #cached = new Map<number, readonly Cached[]>();
  /** Tables that only caches still lead to. */
  readonly #staleTables = new Set<number>();
  readonly #leaves = new Map<number, Set<Leaf>>();
  readonly #caches = new Map<number, Set<Cached>>();
  /** By domain, first gfn. */
  readonly #places = new Map<number, Map<number, Leaf>>();
  /** Frames whose reach may have changed since the owner cleared this. */
  readonly changed = new Set<number>();
  /** Whether upper entries in caches must be looked at again. */
  #tablesMoved = false;
  readonly #direct: DirectLeaves;
  /** Told of every place whose leaf changed. */
  onPlace: (domain: number, gfn: number) => void = () => undefined;

  constructor(m: Machine) {
    this.#m = m;
    this.#geometry = m.geometry;
    this.#entries = tableEntries(m.geometry);
    this.#direct = new DirectLeaves(m, (leaf, isThere) => this.#show(leaf, isThere));
  }

  /** Leaves in memory that show frame `mfn`. */
  leavesOf(mfn: number): ReadonlySet<Leaf> {
    return this.#leaves.get(mfn) ?? NONE;
  }

  /** Cached translations that lead to frame `mfn`. */
  cachedOf(mfn: number): ReadonlySet<Cached> {
    return this.#caches.get(mfn) ?? NO_CACHE;
  }

  /** The leaf through which `domain` sees `gfn`. */
  leafAt(domain: number, gfn: number): Leaf | undefined {
    const places = this.#places.get(domain);
    if (places === undefined) return undefined;
    for (let level = 1; level <= this.#geometry.superpageLevels; level += 1) {
      const span = framesPerLeaf(this.#geometry, level);
      const leaf = places.get(gfn - (gfn % span));
      if (leaf !== undefined && gfn < leaf.gfn + leaf.span) return leaf;
    }
    return undefined;
  }

  /** The domains whose roots lead through `mfn` as a table. */
  walkersOf(mfn: number): readonly number[] {
    const nodes = this.#nodes.get(mfn);
    return nodes === undefined ? NOBODY : [...nodes].map(({ domain }) => domain);
  }

  /** A word of memory was written. */
  wrote(mfn: number, index: number): void {
    const nodes = this.#nodes.get(mfn);
    if (nodes !== undefined && index < this.#entries) for (const node of nodes) this.#refresh(node, index);
    if (this.#staleTables.has(mfn)) this.#tablesMoved = true;
    this.#direct.wrote(mfn);
  }

  /** Brings the ways of paravirtual guests up to date; `isTouched`: a frame or a vCPU was, on which they depend besides their tables. */
  directChanged(isTouched: boolean): void {
    const slots = this.#direct.upToDate(isTouched);
    const count = this.#geometry.capacity.pcpus * this.#geometry.capacity.cacheEntries;
    for (const [slot, ways] of slots) this.#replace(count + slot, ways);
  }

  /** The root of `domain` was written. */
  rootChanged(domain: number): void {
    const old = this.#roots.get(domain);
    const mfn = this.#m.f.domRoot.get(domain);
    if (old?.mfn === mfn) return;
    if (old !== undefined) this.#detach(old);
    if (mfn === 0) this.#roots.delete(domain);
    else {
      const node = this.#attach({ domain, mfn, level: this.#geometry.levels, gfn: 0, rights: ALL_RIGHTS });
      this.#roots.set(domain, node);
    }
    this.#tablesMoved = true;
  }

  /**
   * Brings what caches hold up to date: the given ring slots, or all if tables have moved or `all` says so. `linear`: slots of
   * the rings with what came through guests' own tables.
   */
  cachesChanged(slots: Iterable<number>, all: boolean, linear: Iterable<number> = []): void {
    const moved = all || this.#tablesMoved;
    this.#tablesMoved = false;
    this.#linearChanged(linear, all);
    if (!moved) {
      for (const slot of slots) this.#refreshSlot(slot);
      return;
    }
    this.#staleTables.clear();
    const count = this.#geometry.capacity.pcpus * this.#geometry.capacity.cacheEntries;
    for (let slot = 0; slot < count; slot += 1) this.#refreshSlot(slot);
  }

  /** Slots of these rings are counted on after those of the others. */
  #linearChanged(slots: Iterable<number>, all: boolean): void {
    const count = this.#geometry.capacity.pcpus * this.#geometry.capacity.cacheEntries;
    if (!all) for (const slot of slots) this.#replace(count + slot, combinedWays(this.#m, slot));
    else
      for (let slot = 0; slot < count; slot += 1)
        if (this.#m.f.linearLevel.get(slot) !== 0 || this.#cached.has(count + slot))
          this.#replace(count + slot, combinedWays(this.#m, slot));
  }

  /** The domain whose vCPU runs on `pcpu`; -1: none. */
  domainOn(pcpu: number): number {
    const vcpu = this.#m.f.pcpuVcpu.get(pcpu);
    return vcpu === 0 ? -1 : Math.floor((vcpu - 1) / this.#geometry.capacity.vcpusPerDomain);
  }

  /** The tag of entries that `pcpu` may use now: the root of its domain, or the ASID it runs under; 0: it uses none. */
  tagOn(pcpu: number): number {
    const { f, format } = this.#m;
    const domain = this.domainOn(pcpu);
    const root = domain < 0 ? 0 : f.domRoot.get(domain);
    return root !== 0 && format === 'npt' ? f.pcpuAsid.get(pcpu) : root;
  }

  /** What `other` has otherwise, in words; undefined: both have the same leaves and cached translations. For audits. */
  difference(other: Reach): string | undefined {
    for (const domain of new Set([...this.#places.keys(), ...other.#places.keys()])) {
      const mine = this.#places.get(domain) ?? NO_PLACES;
      const others = other.#places.get(domain) ?? NO_PLACES;
      for (const gfn of new Set([...mine.keys(), ...others.keys()]))
        if (!isSameLeaf(mine.get(gfn), others.get(gfn))) return `the leaf at gfn ${gfn} of d${domain}`;
    }
    for (const slot of new Set([...this.#cached.keys(), ...other.#cached.keys()])) {
      const mine = this.#cached.get(slot) ?? [];
      const others = other.#cached.get(slot) ?? [];
      if (mine.length !== others.length || mine.some((one, i) => !isSameLeaf(one, others[i])))
        return `what slot ${slot} of the caches leads to`;
    }
    return this.#direct.difference(other.#direct);
  }

  /** Reach computed from scratch. */
  static audited(m: Machine): Reach {
    const reach = new Reach(m);
    for (let domain = 0; domain < m.geometry.capacity.domains; domain += 1) reach.rootChanged(domain);
    reach.cachesChanged([], true);
    reach.directChanged(true);
    return reach;
  }

  #decode(at: { mfn: number; index: number; level: number }): EntryMeaning {
    const { memory } = this.#m.f;
    const word = 2 * (at.mfn * this.#geometry.wordsPerFrame + at.index);
    if (at.mfn >= this.#geometry.frameCount) return { kind: 'absent' };
    return decodeEntry(this.#m, at.level, { lo: memory.get(word), hi: memory.get(word + 1) });
  }

  #attach(of: Omit<Node, 'children'>): Node {
    const node: Node = { ...of, children: Array.from({ length: this.#entries }, () => undefined) };
    put(this.#nodes, of.mfn, node);
    this.changed.add(of.mfn);
    this.#tablesMoved = true;
    const { memory } = this.#m.f;
    const first = 2 * of.mfn * this.#geometry.wordsPerFrame;
    const isThere = of.mfn < this.#geometry.frameCount;
    // An entry that is all zero is absent, and most are.
    for (let index = 0; index < this.#entries; index += 1)
      if (!isThere || memory.get(first + 2 * index) !== 0) this.#refresh(node, index);
    return node;
  }

  #show(leaf: Leaf, isThere: boolean): void {
    if (isThere) put(this.#leaves, leaf.mfn, leaf);
    else this.#leaves.get(leaf.mfn)?.delete(leaf);
    this.changed.add(leaf.mfn);
  }

  #detach(node: Node): void {
    for (const child of node.children) if (child !== undefined) this.#drop(child);
    const nodes = this.#nodes.get(node.mfn);
    nodes?.delete(node);
    if (nodes?.size === 0) this.#nodes.delete(node.mfn);
    this.#tablesMoved = true;
  }

  #drop(child: Node | Leaf): void {
    if (isNode(child)) this.#detach(child);
    else this.#forget(child);
  }

  #refresh(node: Node, index: number): void {
    const old = node.children[index];
    const meaning = this.#decode({ mfn: node.mfn, index, level: node.level });
    if (old === undefined && meaning.kind !== 'leaf' && meaning.kind !== 'table') {
      this.#noteHidden(node, index);
      return;
    }
    if (old !== undefined) this.#drop(old);
    node.children[index] = undefined;
    const span = framesPerLeaf(this.#geometry, node.level);
    const gfn = node.gfn + index * span;
    const { domain } = node;
    if (meaning.kind === 'table') {
      const rights = foldRights(node.rights, meaning.rights);
      node.children[index] = this.#attach({ domain, mfn: meaning.mfn, level: node.level - 1, gfn, rights });
    } else if (meaning.kind === 'leaf') {
      const rights = foldRights(node.rights, meaning.rights);
      const leaf: Leaf = { domain, gfn, span, mfn: meaning.mfn, rights, type: meaning.type };
      node.children[index] = leaf;
      this.#register(leaf);
    }
  }

  /** An entry that processors make nothing of may still say where a frame lies: what a listener has kept from its domain wholly. */
  #noteHidden(node: Node, index: number): void {
    if (node.mfn >= this.#geometry.frameCount || this.#m.format === 'npt') return;
    const high = this.#m.f.memory.get(2 * (node.mfn * this.#geometry.wordsPerFrame + index) + 1);
    const type = p2mTypes[field(high, eptBits.typeFrom, eptBits.typeCount)];
    if (type === undefined || type === 'none' || type === 'populateOnDemand') return;
    const span = framesPerLeaf(this.#geometry, node.level);
    for (let i = 0; i < span; i += 1) this.onPlace(node.domain, node.gfn + index * span + i);
  }

  #register(leaf: Leaf): void {
    const places = this.#places.get(leaf.domain) ?? new Map<number, Leaf>();
    this.#places.set(leaf.domain, places);
    places.set(leaf.gfn, leaf);
    for (let i = 0; i < leaf.span; i += 1) {
      put(this.#leaves, leaf.mfn + i, leaf);
      this.changed.add(leaf.mfn + i);
      this.onPlace(leaf.domain, leaf.gfn + i);
    }
  }

  #forget(leaf: Leaf): void {
    const places = this.#places.get(leaf.domain);
    if (places?.get(leaf.gfn) === leaf) places.delete(leaf.gfn);
    for (let i = 0; i < leaf.span; i += 1) {
      this.#leaves.get(leaf.mfn + i)?.delete(leaf);
      this.changed.add(leaf.mfn + i);
      this.onPlace(leaf.domain, leaf.gfn + i);
    }
  }

  #refreshSlot(slot: number): void {
    this.#replace(slot, this.#usable(slot));
  }

  #replace(slot: number, now: readonly Cached[]): void {
    const old = this.#cached.get(slot);
    for (const one of old ?? [])
      for (let i = 0; i < one.span; i += 1) {
        this.#caches.get(one.mfn + i)?.delete(one);
        this.changed.add(one.mfn + i);
      }
    if (now.length === 0) {
      if (old !== undefined) this.#cached.delete(slot);
      return;
    }
    this.#cached.set(slot, now);
    for (const one of now)
      for (let i = 0; i < one.span; i += 1) {
        put(this.#caches, one.mfn + i, one);
        this.changed.add(one.mfn + i);
      }
  }

  /** What a ring slot lets its pCPU use now. */
  #usable(slot: number): readonly Cached[] {
    const { f } = this.#m;
    const tag = f.cacheTag.get(slot);
    if (tag === 0) return [];
    const pcpu = Math.floor(slot / this.#geometry.capacity.cacheEntries);
    if (this.tagOn(pcpu) !== tag) return [];
    const domain = this.domainOn(pcpu);
    const level = f.cacheLevel.get(slot);
    const meaning = decodeEntry(this.#m, level, { lo: f.cacheLo.get(slot), hi: f.cacheHi.get(slot) });
    if (meaning.kind !== 'leaf' && meaning.kind !== 'table') return [];
    const gfn = f.cacheGfn.getWide(slot);
    const rights = f.cacheRights.get(slot);
    const { mfn } = meaning;
    if (meaning.kind === 'leaf') {
      const span = framesPerLeaf(this.#geometry, level);
      return [{ pcpu, slot, domain, kind: 'leaf', gfn, span, mfn, rights, type: meaning.type }];
    }
    for (const node of this.#nodes.get(mfn) ?? [])
      if (node.domain === domain && node.level === level - 1 && node.gfn === gfn) return [];
    const found: Cached[] = [];
    this.#below({ domain, mfn, level: level - 1, gfn, rights }, (leaf) =>
      found.push({ ...leaf, pcpu, slot, kind: 'structure' }),
    );
    return found;
  }

  /** Every leaf below a table that caches lead to. */
  #below(table: Omit<Node, 'children'>, visit: (leaf: Leaf) => void): void {
    this.#staleTables.add(table.mfn);
    const span = framesPerLeaf(this.#geometry, table.level);
    for (let index = 0; index < this.#entries; index += 1) {
      const meaning = this.#decode({ mfn: table.mfn, index, level: table.level });
      if (meaning.kind !== 'leaf' && meaning.kind !== 'table') continue;
      const gfn = table.gfn + index * span;
      const rights = foldRights(table.rights, meaning.rights);
      const { domain } = table;
      if (meaning.kind === 'leaf') visit({ domain, gfn, span, mfn: meaning.mfn, rights, type: meaning.type });
      else this.#below({ domain, mfn: meaning.mfn, level: table.level - 1, gfn, rights }, visit);
    }
  }
}

const NOBODY: readonly number[] = [];
const NO_PLACES: ReadonlyMap<number, Leaf> = new Map();
const NONE: ReadonlySet<Leaf> = new Set();
const NO_CACHE: ReadonlySet<Cached> = new Set();

/** Rights that two levels give together. */
const foldRights = and;
