// A bare machine with one P2M and a plain map of what it should say, for the tests of tables and of changes of type.
// A first reader may skip all but `Bench`'s methods.

import { expect } from 'vitest';
import type { GeometryName } from '#abi/geometry.ts';
import { p2mRights, type P2mType } from '#abi/hap.ts';
import { rightsOf } from '#abi/rights.ts';
import { TRACE_VERSION } from '#abi/trace.ts';
import type { Vendor } from '#abi/vendor.ts';
import { low32 } from '#lib/bits.ts';
import type { Prng } from '#lib/prng.ts';
import { Execution, type Call } from '../execution.ts';
import { domStates } from '../layout.ts';
import { Machine } from '../machine.ts';
import { addSpare, poolSpare } from '../memory/pool.ts';
import type { Step } from '../port.ts';
import { WHOLE_ACCESS } from './entry.ts';
import { forEachLeaf, levelOf, lockP2m, lookup, setEntry, unlockP2m, type Change } from './table.ts';

export const DOM = 1;
export const GFNS = 64;
/** Tables come from the frames above these. */
export const FRAMES = 64;
export const ALL_TABLES = 21;

const call = { agent: { kind: 'toolstack' }, op: { kind: 'memory.reservation' } } as unknown as Call;

interface Setting {
  readonly vendor: Vendor;
  readonly superpages: boolean;
  readonly pool?: number;
  readonly geometry?: GeometryName;
}

export class Bench {
  readonly m: Machine;
  /** What the P2M should say. */
  readonly map = new Map<number, { readonly mfn: number; readonly type: P2mType }>();
  readonly pool: number;
  entered = 0;

  constructor({ vendor, superpages, pool = ALL_TABLES, geometry = 'tiny' }: Setting) {
    this.pool = pool;
    const policies = { flush: 'eager', scrub: 'always', scrubAt: 'free', superpages } as const;
    this.m = new Machine({ version: TRACE_VERSION, geometry, vendor, width: {}, pcpus: 2, iommus: [], ...policies, domains: [] }); // prettier-ignore
    this.m.f.domState.set(DOM, domStates.indexOf('running'));
    this.m.f.domAccess.set(DOM, WHOLE_ACCESS);
    for (let n = 0; n < pool; n += 1) addSpare(this.m, DOM, FRAMES + n);
  }

  /** Runs a piece of the hypervisor to its end; answers what it comes to and how many tables it took. */
  run<T>(body: Step<T>): { value: T; taken: number } {
    const found: T[] = [];
    const whole = function* (): Step<never> {
      found.push(yield* body);
      return undefined as never;
    };
    const execution = new Execution(this.m.port, { call, slot: 1, body: whole(), sequence: () => 0 });
    execution.run();
    const taken = execution.log.filter(({ choice }) => choice.kind === 'tableTaken').length;
    return { value: found[0] as T, taken };
  }

  /** One change under the lock; what it noted before the lock was given back. */
  change(change: Change): { done: boolean; taken: number; isOwed: boolean } {
    const { m } = this;
    m.f.eptInvalidate.set(DOM, 0);
    const entered = (): void => {
      this.entered += 1;
    };
    const body = function* (): Step<{ done: boolean; isOwed: boolean }> {
      yield* lockP2m(m, DOM);
      const done = yield* setEntry(m, DOM, change, entered);
      const isOwed = m.f.p2mNeedFlush.get(DOM) !== 0;
      yield* unlockP2m(m, DOM);
      return { done, isOwed };
    };
    const { value, taken } = this.run(body());
    if (value.done)
      for (let i = 0; i < 2 ** change.order; i += 1)
        if (change.type === 'none') this.map.delete(change.gfn + i);
        else this.map.set(change.gfn + i, { mfn: change.mfn + i, type: change.type });
    return { ...value, taken };
  }

  memory(): readonly number[] {
    return Array.from({ length: this.m.f.memory.length }, (_, i) => this.m.f.memory.get(i));
  }

  /** The low and high half of the leaf for `gfn`, by the processor's walk, which is of this level. */
  leaf(gfn: number): { lo: number; level: number } {
    const { walker } = this.m;
    walker.walk(this.m.f.domRoot.get(DOM), gfn);
    return { lo: low32(walker.low[walker.level] ?? 0), level: walker.level };
  }

  flags(gfn: number): number {
    return this.m.entries.flagsIn(this.leaf(gfn).lo);
  }

  /** Uses `gfn` as a processor does, which marks entries. */
  use(gfn: number, access: number): void {
    this.leaf(gfn);
    this.m.walker.mark(1, access);
  }

  /** Tables that a walk from the root can pass. */
  reachable(): number {
    const { m } = this;
    const below = (table: number, level: number): number => {
      let count = 1;
      for (let index = 0; level > 1 && index < 4; index += 1) {
        const at = 8 * table + 2 * index;
        const [lo, hi] = [m.f.memory.get(at), m.f.memory.get(at + 1)];
        if (m.entries.isTable(lo, hi)) count += below(m.entries.frameIn(lo, hi), level - 1);
      }
      return count;
    };
    const root = m.f.domRoot.get(DOM);
    return root === 0 ? 0 : below(root, m.geometry.levels);
  }

  /** Whether four gfns are the pieces of one superpage of RAM. */
  isLarge(gfn: number): boolean {
    const first = gfn - (gfn % 4);
    const one = this.map.get(first);
    if (!this.m.policies.superpages || one === undefined || !one.type.startsWith('ram') || one.mfn % 4 !== 0) return false; // prettier-ignore
    return [1, 2, 3].every((i) => {
      const other = this.map.get(first + i);
      return other?.type === one.type && other.mfn === one.mfn + i;
    });
  }

  /** Every way of reading the tables agrees with the map. */
  check(): void {
    const { m } = this;
    const { walker } = m;
    const wanted: unknown[] = [];
    const said: unknown[] = [];
    for (let gfn = 0; gfn < GFNS; gfn += 1) {
      const should = this.map.get(gfn);
      const rights = rightsOf(p2mRights[should?.type ?? 'none']);
      const isRam = should?.type.startsWith('ram') === true;
      wanted.push(should && { gfn, ...should, rights, ...(isRam ? { level: this.isLarge(gfn) ? 2 : 1 } : {}) });
      const found = lookup(m, DOM, gfn);
      if (m.f.domRoot.get(DOM) !== 0) walker.walk(m.f.domRoot.get(DOM), gfn);
      expect(levelOf(m, DOM, gfn)).toBe(m.f.domRoot.get(DOM) === 0 ? m.geometry.levels : walker.level);
      const isSame = found === undefined ? walker.outcome !== 'frame' : walker.mfn === found.mfn && walker.level === found.level; // prettier-ignore
      if (!isSame) said.push({ gfn, software: found, hardware: [walker.outcome, walker.mfn, walker.level] });
      else said.push(found && { gfn, mfn: found.mfn, type: found.type, rights: walker.rights, ...(isRam ? { level: found.level } : {}) }); // prettier-ignore
    }
    expect(said).toEqual(wanted);
    expect([lookup(m, DOM, -1), lookup(m, DOM, GFNS)]).toEqual([undefined, undefined]);
    const listed: (readonly [number, { mfn: number; type: P2mType }])[] = [];
    forEachLeaf(m, DOM, (gfn, { mfn, type, level, frames }) => {
      expect(frames).toBe(level === 1 ? 1 : 4);
      for (let i = 0; i < frames; i += 1) listed.push([gfn + i, { mfn: mfn + i, type }]);
    });
    expect(listed).toEqual([...this.map].toSorted(([a], [b]) => a - b));
    expect(this.reachable() + poolSpare(m, DOM)).toBe(this.pool);
  }
}

const types = [
  'none',
  'ramRw',
  'ramRw',
  'ramRo',
  'ramLogDirty',
  'mmioDirect',
  'foreign',
  'grantRw',
  'grantRo',
] as const;

/** A change, mostly of RAM to where it may become a superpage again. */
function drawnFrom(prng: Prng): Change {
  const order = prng.pick([0, 0, 0, 1, 2, 2, 3, 4]);
  const gfn = prng.below(GFNS / 2 ** order) * 2 ** order;
  const isHome = prng.chance(1, 2);
  const mfn = isHome ? gfn % 32 : prng.below(FRAMES - 2 ** order);
  return { gfn, order, mfn, type: isHome ? prng.pick(['ramRw', 'ramRw', 'ramRo', 'none']) : prng.pick(types) };
}

/** The same, but nothing that is there already: that would split a superpage for nothing. */
export function changeFrom(prng: Prng, { map }: Bench): Change {
  for (;;) {
    const change = drawnFrom(prng);
    for (let i = 0; i < 2 ** change.order; i += 1) {
      const { mfn, type } = map.get(change.gfn + i) ?? { mfn: change.mfn + i, type: 'none' };
      if (mfn !== change.mfn + i || type !== change.type) return change;
    }
  }
}
