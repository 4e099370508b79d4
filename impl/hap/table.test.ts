// The upkeep of a P2M on a bare machine: after any sequence of changes the tables say what a plain map says, to the hypervisor's
// own walk and to the processor's, with superpages where they may be, no table lost, and a flush noted whenever a processor may
// remember something else. Whole histories are run where the laws are. A first reader may skip `Bench`.

import { describe, expect, it } from 'vitest';
import { p2mRights, type P2mType } from '#abi/hap.ts';
import { rightsOf, RIGHT } from '#abi/rights.ts';
import { TRACE_VERSION } from '#abi/trace.ts';
import { vendors, type Vendor } from '#abi/vendor.ts';
import { low32 } from '#lib/bits.ts';
import { Prng } from '#lib/prng.ts';
import { Execution, type Call } from '../execution.ts';
import { domStates } from '../layout.ts';
import { Machine } from '../machine.ts';
import { addSpare, poolSpare } from '../memory/pool.ts';
import type { Step } from '../port.ts';
import { forEachLeaf, freeTables, lockP2m, lookup, setEntry, tablesFor, unlockP2m, type Change } from './table.ts';

const DOM = 1;
const GFNS = 64;
/** Tables come from the frames above these. */
const FRAMES = 64;
const ALL_TABLES = 21;

const call = { agent: { kind: 'toolstack' }, op: { kind: 'memory.reservation' } } as unknown as Call;

interface Setting {
  readonly vendor: Vendor;
  readonly superpages: boolean;
  readonly pool?: number;
}

class Bench {
  readonly m: Machine;
  /** What the P2M should say. */
  readonly map = new Map<number, { readonly mfn: number; readonly type: P2mType }>();
  readonly pool: number;
  entered = 0;

  constructor({ vendor, superpages, pool = ALL_TABLES }: Setting) {
    this.pool = pool;
    const policies = { flush: 'eager', scrub: 'always', scrubAt: 'free', superpages } as const;
    this.m = new Machine({ version: TRACE_VERSION, geometry: 'tiny', vendor, width: {}, pcpus: 2, iommus: [], ...policies, domains: [] }); // prettier-ignore
    this.m.f.domState.set(DOM, domStates.indexOf('running'));
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
function changeFrom(prng: Prng, { map }: Bench): Change {
  for (;;) {
    const change = drawnFrom(prng);
    for (let i = 0; i < 2 ** change.order; i += 1) {
      const { mfn, type } = map.get(change.gfn + i) ?? { mfn: change.mfn + i, type: 'none' };
      if (mfn !== change.mfn + i || type !== change.type) return change;
    }
  }
}

const settings = vendors.flatMap((vendor) => [true, false].map((superpages) => ({ vendor, superpages })));

describe.each(settings)('a P2M of $vendor', (setting) => {
  it('says what was put there, after every change', () => {
    const prng = new Prng(7);
    const bench = new Bench(setting);
    for (let n = 1; n <= 150; n += 1) {
      const change = changeFrom(prng, bench);
      const gfns = Array.from({ length: 2 ** change.order }, (_, i) => change.gfn + i);
      const news = gfns.map((gfn, i) => ({ old: bench.map.get(gfn), mfn: change.mfn + i }));
      const isNew = news.every(({ old }) => old === undefined);
      const isOther = news.some(({ old, mfn }) => old !== undefined && (old.type !== change.type || old.mfn !== mfn));
      const needed = tablesFor(bench.m, DOM, change);
      const hadTables = bench.reachable();
      const { done, taken } = bench.change(change);
      expect([done, taken, bench.entered]).toEqual([true, needed, n]);
      const isMarked = bench.m.f.eptInvalidate.get(DOM) !== 0;
      if (setting.vendor === 'intel' && isOther) expect(isMarked).toBe(true);
      if (setting.vendor === 'intel' && isNew && hadTables > 0 && bench.reachable() === hadTables + taken) expect(isMarked).toBe(false); // prettier-ignore
      bench.check();
    }
  });

  it('is not touched by a change that changes nothing', () => {
    const prng = new Prng(8);
    const bench = new Bench(setting);
    for (let n = 0; n < 100; n += 1) {
      const change = changeFrom(prng, bench);
      bench.change(change);
      // A piece of a superpage is cut out of it whatever it is to become.
      if (change.order < 2 && bench.isLarge(change.gfn)) continue;
      const before = bench.memory();
      expect(bench.change(change)).toEqual({ done: true, taken: 0, isOwed: false });
      expect(bench.memory()).toEqual(before);
      expect(bench.m.f.eptInvalidate.get(DOM)).toBe(0);
    }
  });

  it('stays as it was when the pool refuses a table', () => {
    const prng = new Prng(9);
    const bench = new Bench({ ...setting, pool: 6 });
    let refused = 0;
    for (let n = 0; n < 100; n += 1) {
      const change = changeFrom(prng, bench);
      const [before, spare, entered] = [bench.memory(), poolSpare(bench.m, DOM), bench.entered];
      const isEnough = tablesFor(bench.m, DOM, change) <= spare;
      const { done } = bench.change(change);
      expect(done).toBe(isEnough);
      bench.check();
      if (done) continue;
      refused += 1;
      const tables = FRAMES * 8;
      expect([bench.memory().slice(0, tables), poolSpare(bench.m, DOM), bench.entered]).toEqual([before.slice(0, tables), spare, entered]); // prettier-ignore
    }
    expect(refused).toBeGreaterThan(10);
  });

  it('gives all its tables back in the end', () => {
    const prng = new Prng(10);
    const bench = new Bench(setting);
    bench.run(freeTables(bench.m, DOM));
    for (let n = 0; n < 30; n += 1) bench.change(changeFrom(prng, bench));
    bench.run(freeTables(bench.m, DOM));
    expect([bench.m.f.domRoot.get(DOM), poolSpare(bench.m, DOM), lookup(bench.m, DOM, 0)]).toEqual([0, ALL_TABLES, undefined]); // prettier-ignore
    bench.map.clear();
    bench.check();
  });
});

describe.each(vendors)('flags of %s', (vendor) => {
  const ram = (gfn: number, order: number, type: P2mType = 'ramRw'): Change => ({ gfn, order, mfn: gfn, type });

  it('of a superpage are those of its pieces, and those of the pieces all together are those of the superpage', () => {
    const bench = new Bench({ vendor, superpages: true });
    bench.change(ram(4, 2));
    expect([bench.flags(4), bench.leaf(4).level]).toEqual([0, 2]);
    bench.use(5, RIGHT.write);
    const used = bench.flags(4);
    bench.change(ram(6, 0, 'ramRo'));
    expect([4, 5, 6, 7].map((gfn) => bench.flags(gfn))).toEqual([used, used, 0, used]);
    bench.change(ram(6, 0));
    expect([bench.flags(4), bench.leaf(4).level]).toEqual([used, 2]);
  });

  it('of pieces that nobody used are not set', () => {
    const bench = new Bench({ vendor, superpages: true });
    bench.change(ram(4, 2));
    bench.change(ram(6, 0, 'ramRo'));
    expect([4, 5, 6, 7].map((gfn) => bench.flags(gfn))).toEqual([0, 0, 0, 0]);
    bench.use(7, RIGHT.read);
    const used = bench.flags(7);
    expect(used).not.toBe(0);
    bench.change(ram(6, 0));
    expect(bench.flags(4)).toBe(used);
  });
});

describe.each(vendors)('superpages of %s', (vendor) => {
  const orders = { upwards: [4, 5, 6, 7], downwards: [7, 6, 5, 4], 'from the middle': [5, 6, 4, 7] } as const;

  it.each(Object.keys(orders) as readonly (keyof typeof orders)[])('come of pieces put one by one, %s', (name) => {
    for (const type of ['ramRw', 'ramRo'] as const) {
      const bench = new Bench({ vendor, superpages: true });
      const reached = orders[name].map((gfn) => {
        bench.change({ gfn, order: 0, mfn: gfn + 8, type });
        bench.check();
        return [bench.reachable(), bench.m.f.eptInvalidate.get(DOM) !== 0 && vendor === 'intel'];
      });
      // Root and middle, the table of the pieces; in the end that one is gone, and processors may remember it.
      expect(reached).toEqual([[3, vendor === 'intel'], [3, false], [3, false], [2, vendor === 'intel']]); // prettier-ignore
      expect(bench.leaf(4).level).toBe(2);
    }
  });

  it('do not come of frames out of order, of mixed types, of frames that are lent', () => {
    const pieces = (change: (gfn: number) => Partial<Change>): number => {
      const bench = new Bench({ vendor, superpages: true });
      for (const gfn of [4, 5, 6, 7]) bench.change({ gfn, order: 0, mfn: gfn + 8, type: 'ramRw', ...change(gfn) });
      bench.check();
      return bench.leaf(4).level;
    };
    expect(pieces(() => ({}))).toBe(2);
    expect(pieces((gfn) => ({ mfn: gfn + 9 }))).toBe(1);
    expect(pieces((gfn) => ({ mfn: 19 - gfn }))).toBe(1);
    expect(pieces((gfn) => ({ type: gfn === 7 ? 'ramRo' : 'ramRw' }))).toBe(1);
    expect(pieces((gfn) => ({ mfn: gfn === 4 ? 3 : gfn + 8 }))).toBe(1);
    for (const type of ['foreign', 'grantRw', 'grantRo', 'mmioDirect'] as const)
      expect(pieces(() => ({ type }))).toBe(1);
  });
});

describe('the lock', () => {
  it('defers the flush to the outermost unlock', () => {
    const bench = new Bench({ vendor: 'intel', superpages: true });
    const { m } = bench;
    const seen: (readonly number[])[] = [];
    const look = (): unknown => seen.push([m.f.p2mLock.get(DOM), m.f.p2mDepth.get(DOM), m.f.p2mNeedFlush.get(DOM)]);
    const body = function* (): Step<void> {
      for (let n = 0; n < 2; n += 1) yield* lockP2m(m, DOM);
      m.f.p2mNeedFlush.set(DOM, 1);
      for (let n = 0; n < 2; n += 1, look()) yield* unlockP2m(m, DOM);
    };
    bench.run(body());
    expect(seen).toEqual([[1, 1, 1], [0, 0, 0]]); // prettier-ignore
  });

  it('is needed for a change, and given back by its holder alone', () => {
    const bench = new Bench({ vendor: 'intel', superpages: true });
    const change = { gfn: 0, order: 0, mfn: 1, type: 'ramRw' } as const;
    expect(() => bench.run(setEntry(bench.m, DOM, change, () => undefined))).toThrow('under its lock');
    expect(() => bench.run(unlockP2m(bench.m, DOM))).toThrow('by its holder');
    expect(bench.m.f.domRoot.get(DOM)).toBe(0);
  });
});
