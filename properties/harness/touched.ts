// What has been touched since it was last compared: the implementation's write log and the model's changed keys, as one
// set of things. Comparison and reach look at these alone; audits look at everything.
// A first reader may skip the sorting of offsets.

import type { FieldName } from '#impl/layout.ts';
import type { Machine } from '#impl/machine.ts';
import { handlesOf, refsOf } from '#impl/layout.ts';
import type { State } from '#model/state.ts';
import { subjects, type Subject } from './subjects.ts';

const isLookedAt = (subject: (typeof subjects)[FieldName]): subject is Subject =>
  subject !== 'memory' && subject !== 'private' && subject !== 'ghost';

const subjectOf: ReadonlyMap<string, Subject> = new Map(
  Object.entries(subjects).flatMap(([name, subject]): readonly [string, Subject][] =>
    isLookedAt(subject) ? [[name, subject]] : [],
  ),
);

/** Keys of things that may have changed. Cleared by their owner after judgement. */
export class Touched {
  readonly frames = new Set<number>();
  /** Those of `frames` that the machine has touched since the last judgement. */
  readonly recent = new Set<number>();
  /** mfn * wordsPerFrame + index. */
  readonly words = new Set<number>();
  readonly domains = new Set<number>();
  readonly roots = new Set<number>();
  /** granter * refsOf + ref. */
  readonly actives = new Set<number>();
  /** mapper * handlesOf + handle. */
  readonly handles = new Set<number>();
  /** domain * deviceFrames + device frame. */
  readonly devices = new Set<number>();
  readonly vcpus = new Set<number>();
  /** Ring slots of caches that changed, of the whole machine. */
  readonly slots = new Set<number>();
  /** The same of what came through guests' own tables. */
  readonly linear = new Set<number>();
  /** pCPUs that run another vCPU now, or under another ASID. */
  readonly pcpus = new Set<number>();
  /** Whether the machine has touched anything that is looked at since its owner cleared this. Locks and clocks are not. */
  isStirred = false;
  /** Places whose meaning changed in the model: by domain, gfns. */
  readonly places = new Map<number, Set<number>>();
  readonly #all = [
    this.frames,
    this.recent,
    this.words,
    this.domains,
    this.roots,
    this.actives,
    this.handles,
    this.devices,
    this.vcpus,
    this.slots,
    this.linear,
    this.pcpus,
    this.places,
  ];

  clear(): void {
    // Most are empty after most operations, and emptying an empty set is not free.
    for (const set of this.#all) if (set.size > 0) set.clear();
  }

  /** Takes in the implementation's write log; `onWord` hears of every word of memory written. */
  takeLog(m: Machine, onWord: (mfn: number, index: number) => void): void {
    const { memory } = m.f;
    const { wordsPerFrame } = m.geometry;
    const from = memory.base;
    const to = from + memory.length;
    m.arena.log.take((offset) => {
      if (offset < from || offset >= to) {
        const { name, base } = m.arena.fieldAt(offset);
        this.#note(m, name, offset - base);
        return;
      }
      this.isStirred = true;
      const key = Math.floor((offset - from) / 2);
      this.words.add(key);
      onWord(Math.floor(key / wordsPerFrame), key % wordsPerFrame);
    });
  }

  /** Takes in what differs between two states of the model. */
  takeModel(now: State, before: State): void {
    if (now === before) return;
    now.frames.diff(before.frames, (mfn) => this.frames.add(mfn));
    now.words.diff(before.words, (key) => this.words.add(key));
    now.vcpus.diff(before.vcpus, (key) => this.vcpus.add(key));
    now.contexts.diff(before.contexts, (key) => this.vcpus.add(key));
    const { geometry } = now;
    now.domains.diff(before.domains, (id, a, b) => {
      this.domains.add(id);
      if (a === undefined || b === undefined) {
        const one = a ?? b;
        one?.p2m.forEach((_, gfn) => this.place(id, gfn));
        one?.grants.active.forEach((_, ref) => this.actives.add(id * refsOf(geometry) + ref));
        one?.grants.handles.forEach((_, handle) => this.handles.add(id * handlesOf(geometry) + handle));
        return;
      }
      if (a.p2m !== b.p2m) a.p2m.diff(b.p2m, (gfn) => this.place(id, gfn));
      if (a.iomem !== b.iomem)
        a.iomem.diff(b.iomem, (mfn) => this.devices.add(id * geometry.deviceFrames + mfn - geometry.frameCount));
      a.grants.active.diff(b.grants.active, (ref) => this.actives.add(id * refsOf(geometry) + ref));
      a.grants.handles.diff(b.grants.handles, (handle) => this.handles.add(id * handlesOf(geometry) + handle));
    });
  }

  place(domain: number, gfn: number): void {
    const known = this.places.get(domain);
    if (known === undefined) this.places.set(domain, new Set([gfn]));
    else known.add(gfn);
  }

  #frame(mfn: number): void {
    this.frames.add(mfn);
    this.recent.add(mfn);
  }

  #note({ geometry }: Machine, field: string, index: number): void {
    const subject = subjectOf.get(field);
    if (subject === undefined) return;
    this.isStirred = true;
    switch (subject) {
      case 'frame':
        this.#frame(index);
        return;
      case 'm2p':
        this.#frame(Math.floor(index / 2));
        return;
      case 'domain':
        this.domains.add(index);
        return;
      case 'domainWide':
        this.domains.add(Math.floor(index / 2));
        return;
      case 'device':
        this.devices.add(index);
        return;
      case 'recent':
        this.domains.add(Math.floor(index / geometry.capacity.podRecent));
        return;
      case 'recentGfn':
        this.domains.add(Math.floor(index / 2 / geometry.capacity.podRecent));
        return;
      case 'grantFrame':
        this.domains.add(Math.floor(index / geometry.capacity.grantFrames));
        return;
      case 'maptrackFrame':
        this.domains.add(Math.floor(index / geometry.capacity.maptrackFrames));
        return;
      case 'root':
        this.roots.add(index);
        return;
      case 'active':
        this.actives.add(index);
        return;
      case 'handle':
        this.handles.add(index);
        return;
      case 'handleGfn':
        this.handles.add(Math.floor(index / 2));
        return;
      case 'vcpu':
        this.vcpus.add(index);
        return;
      case 'vcpuRoot':
        this.vcpus.add(Math.floor(index / 2));
        return;
      case 'linear':
        this.linear.add(index);
        return;
      case 'linearGfn':
        this.linear.add(Math.floor(index / 2));
        return;
      case 'cache':
        this.slots.add(index);
        return;
      case 'cacheGfn':
        this.slots.add(Math.floor(index / 2));
        return;
      case 'pcpu':
        this.pcpus.add(index);
    }
  }
}
