// What a processor remembers of guests' own tables: which entry answers whom, and which instruction forgets which. Directed; whole
// histories are run where the laws are. A first reader may begin at the rows of what is forgotten.

import { describe, expect, it } from 'vitest';
import { TRACE_VERSION } from '#abi/trace.ts';
import { vendors, type Vendor } from '#abi/vendor.ts';
import { Machine } from '../machine.ts';
import { evict, invalidate, invvpidAll, run, vmEntry } from './hardware.ts';
import {
  evictLinear,
  forgetAllLinear,
  forgetAsid,
  forgetFaulted,
  forgetRoot,
  insertLinear,
  invalidateAddress,
  invalidateContexts,
  invalidatePcid,
  invlpg,
  LINEAR,
  linearSlot,
  olderLinear,
  type LinearEntry,
  type Running,
} from './linear-cache.ts';

const machine = (vendor: Vendor): Machine => {
  const policies = { flush: 'eager', scrub: 'always', scrubAt: 'free', superpages: true } as const;
  return new Machine({ version: TRACE_VERSION, geometry: 'tiny', vendor, width: {}, pcpus: 2, iommus: [], ...policies, domains: [] }); // prettier-ignore
};

const ROOT = 20;
const { page: PAGE, global: GLOBAL, dirty: DIRTY, write: WRITE } = LINEAR;

/** pCPU 0 with the vCPU at 2, pCPU 1 with that at 3, both under VPID or ASID 1 and PCID 0. Entries are told apart by their frame. */
class Bench {
  readonly m: Machine;
  readonly #of: { pcpu: number; key: number; root: number } = { pcpu: 0, key: 2, root: ROOT };

  constructor(vendor: Vendor) {
    this.m = machine(vendor);
    for (const pcpu of [0, 1]) this.m.f.pcpuAsid.set(pcpu, 1);
  }

  get of(): Running {
    return this.#of;
  }

  /** Who runs from now on. */
  as(change: { pcpu?: number; asid?: number; pcid?: number; root?: number }): this {
    const { pcpu = 0, asid = 1, pcid = 0, root = ROOT } = change;
    Object.assign(this.#of, { pcpu, key: 2 + pcpu, root });
    this.m.f.pcpuAsid.set(pcpu, asid);
    this.m.f.vcpuPcid.set(2 + pcpu, pcid);
    return this;
  }

  load(mfn: number, change: Partial<LinearEntry> = {}): this {
    insertLinear(this.m, this.#of, { level: 1, page: 5, gfn: 9, rights: 7, bits: PAGE, ...change, mfn });
    return this;
  }

  /** The frames of all answers, the newest first. */
  answers(page: number): readonly number[] {
    const found: number[] = [];
    const next = (age: number): number => olderLinear(this.m, this.#of, { page, age });
    for (let age = next(0); age !== 0; age = next(age)) found.push(this.m.f.linearMfn.get(linearSlot(this.m, this.#of.pcpu, age))); // prettier-ignore
    return found;
  }

  /** The frames of all that a pCPU remembers, oldest first. */
  left(pcpu = 0): readonly number[] {
    const { f, geometry } = this.m;
    const slots = Array.from({ length: geometry.capacity.cacheEntries }, (_, n) => linearSlot(this.m, pcpu, n + 1));
    return slots.toReversed().flatMap((slot) => (f.linearLevel.get(slot) === 0 ? [] : [f.linearMfn.get(slot)]));
  }

  bitsOf(mfn: number): number {
    const { f } = this.m;
    const slot = Array.from({ length: 96 }, (_, n) => n).find((n) => f.linearMfn.get(n) === mfn);
    return slot === undefined ? -1 : f.linearBits.get(slot);
  }
}

/** Of each kind of entry one or two, on both pCPUs. */
const filled = (vendor: Vendor): Bench =>
  new Bench(vendor)
    .load(30)
    .load(31, { page: 6 })
    .load(32, { level: 2 })
    .load(33, { page: 6, level: 2 })
    .load(34, { bits: PAGE + GLOBAL })
    .load(35, { page: 9, bits: PAGE + GLOBAL })
    .load(36, { page: 4, level: 2, bits: 0 })
    .load(37, { page: 16, level: 2, bits: 0 })
    .as({ pcid: 1 })
    .load(40)
    .load(41, { page: 6 })
    .load(42, { page: 4, level: 2, bits: 0 })
    .load(43, { bits: PAGE + GLOBAL })
    .as({ asid: 2 })
    .load(50)
    .load(51, { bits: PAGE + GLOBAL })
    .load(52, { page: 4, level: 2, bits: 0 })
    .as({ root: ROOT + 1 })
    .load(60)
    .as({ pcpu: 1 })
    .load(70)
    .load(71, { bits: PAGE + GLOBAL })
    .as({});

const everything = [30, 31, 32, 33, 34, 35, 36, 37, 40, 41, 42, 43, 50, 51, 52, 60];

describe.each(vendors)('forgetting with %s', (vendor) => {
  it.each<readonly [string, readonly number[], (m: Machine, of: Running) => void]>([
    ['INVLPG', [30, 32, 33, 34, 36, 37, 43, 60], (m, of) => invlpg(m, of, 5)],
    ['INVLPG of a page of which nothing is kept', [32, 33, 36, 37], (m, of) => invlpg(m, of, 7)],
    ['a page fault', [30, 32, 33, 34, 36, 43, 60], (m, of) => forgetFaulted(m, of, 5)],
    ['INVPCID of an address', [30, 32, 33, 36, 60], (m) => invalidateAddress(m, 0, { pcid: 0, page: 5 })],
    ['INVPCID of an address elsewhere', [40, 42], (m) => invalidateAddress(m, 0, { pcid: 1, page: 5 })],
    ['INVPCID of a PCID, MOV to CR3', [40, 41, 42], (m) => invalidatePcid(m, 0, 1)],
    ['INVPCID of all but globals', [30, 31, 32, 33, 36, 37, 40, 41, 42, 60], (m) => invalidateContexts(m, 0, true)],
    [
      'INVPCID of everything',
      [30, 31, 32, 33, 34, 35, 36, 37, 40, 41, 42, 43, 60],
      (m) => invalidateContexts(m, 0, false),
    ],
    ['a VPID or ASID', [50, 51, 52], (m) => forgetAsid(m, 0, 2)],
    ['all of them', everything, (m) => forgetAllLinear(m, 0)],
    ['what fate names', [33], (m) => evictLinear(m, 0, 3)],
    ['what fate names beyond the ring', [33], (m) => evictLinear(m, 0, 48 + 3)],
    ['what fate names with the entry of the nested tables', [33], (m) => evict(m, 0, 3)],
    ['INVVPID of everything', everything, (m) => invvpidAll(m, 0)],
    ['VMRUN that flushes all', everything, (m) => run(m, 0, { asid: 1, forget: 'all' })],
    ['VMRUN that flushes nothing', [], (m) => run(m, 0, { asid: 2, forget: 'nothing' })],
    ['VM entry under a VPID', [], (m) => vmEntry(m, 0, 2)],
  ])('%s', (_, gone, act) => {
    const bench = filled(vendor);
    expect(bench.left()).toEqual(everything);
    act(bench.m, bench.of);
    expect(bench.left()).toEqual(everything.filter((mfn) => !gone.includes(mfn)));
    expect(bench.left(1)).toEqual([70, 71]);
  });

  it('is for the pCPU that executes', () => {
    const bench = filled(vendor).as({ pcpu: 1 });
    invlpg(bench.m, bench.of, 5);
    expect([bench.left(1), bench.left()]).toEqual([[], everything]);
    const other = filled(vendor);
    evictLinear(other.m, 1, 0);
    expect([other.left(1), other.left()]).toEqual([[71], everything]);
  });

  it('of a root is for machines that tag by roots', () => {
    const bench = filled(vendor);
    forgetRoot(bench.m, 0, ROOT + 1);
    expect(bench.left()).toEqual(vendor === 'intel' ? everything.filter((mfn) => mfn !== 60) : []);
    const other = filled(vendor);
    invalidate(other.m, 0, vendor === 'intel' ? ROOT + 1 : 2);
    const gone = vendor === 'intel' ? [60] : [50, 51, 52];
    expect(other.left()).toEqual(everything.filter((mfn) => !gone.includes(mfn)));
  });

  it('comes with entry without a VPID, for what was loaded without one', () => {
    const bench = new Bench(vendor).load(30).as({ asid: 0 }).load(31);
    vmEntry(bench.m, 0, 3);
    expect([bench.left(), bench.m.f.pcpuAsid.get(0)]).toEqual([[30, 31], 3]);
    vmEntry(bench.m, 0, 0);
    expect([bench.left(), bench.m.f.pcpuAsid.get(0)]).toEqual([[30], 0]);
  });

  it('of all VPIDs is counted', () => {
    const bench = filled(vendor);
    invvpidAll(bench.m, 1);
    expect([bench.m.f.pcpuRounds.get(0), bench.m.f.pcpuRounds.get(1), bench.left(1)]).toEqual([0, 1, []]);
  });
});

describe.each(vendors)('an answer of %s', (vendor) => {
  it.each<readonly [page: number, who: Parameters<Bench['as']>[0], answers: readonly number[]]>([
    [5, {}, [43, 36, 34, 32, 30]],
    [6, {}, [36, 33, 31]],
    [4, {}, [36]],
    [7, {}, [36]],
    [3, {}, []],
    [8, {}, []],
    [9, {}, [35]],
    [19, {}, [37]],
    [20, {}, []],
    [5, { pcid: 1 }, [43, 42, 40, 34]],
    [9, { pcid: 1 }, [35]],
    [5, { pcid: 2 }, [43, 34]],
    [5, { asid: 2 }, [52, 51, 50]],
    [9, { asid: 2 }, []],
    [5, { asid: 3 }, []],
    [5, { pcpu: 1 }, [71, 70]],
  ])('for page %s, of whoever runs: %s', (page, who, answers) => {
    const isTagged = vendor === 'intel';
    // With NPT the root says nothing: what was loaded under the other one serves as well.
    const isOpen = page === 5 && who.pcpu === undefined && (who.asid ?? 1) === 1 && (who.pcid ?? 0) === 0;
    expect(filled(vendor).as(who).answers(page)).toEqual(!isTagged && isOpen ? [60, ...answers] : answers);
  });

  it('of another root is none with EPT', () => {
    const all = [60, 43, 36, 34, 32, 30];
    expect(
      filled(vendor)
        .as({ root: ROOT + 1 })
        .answers(5),
    ).toEqual(vendor === 'intel' ? [60] : all);
  });
});

describe.each(vendors)('the ring of %s', (vendor) => {
  const one = (): Bench => new Bench(vendor).load(30);

  it.each<readonly [string, Partial<LinearEntry>]>([
    ['level', { level: 2 }],
    ['page', { page: 6 }],
    ['gfn', { gfn: 10 }],
    ['rights', { rights: 5 }],
    ['what the guest gave', { bits: PAGE + WRITE }],
    ['whether it is global', { bits: PAGE + GLOBAL }],
  ])('keeps both of two entries that differ by %s', (_, change) => {
    expect(one().load(30, change).left()).toEqual([30, 30]);
  });

  it.each([{ pcid: 1 }, { asid: 2 }, { pcpu: 1 }])('keeps both of two that were loaded by %s', (who) => {
    const bench = one().as(who).load(30);
    expect([...bench.left(), ...bench.left(1)]).toEqual([30, 30]);
  });

  it('keeps two of two roots with EPT', () => {
    const bench = one()
      .as({ root: ROOT + 1 })
      .load(30);
    expect(bench.left()).toEqual(vendor === 'intel' ? [30, 30] : [30]);
  });

  it('keeps one of two that are the same, or differ by the dirty flag; what was dirty stays so', () => {
    const bench = one().load(31).load(30);
    expect([bench.left(), bench.bitsOf(30)]).toEqual([[30, 31], PAGE]);
    bench.load(30, { bits: PAGE + DIRTY });
    expect([bench.left(), bench.bitsOf(30), bench.bitsOf(31)]).toEqual([[30, 31], PAGE + DIRTY, PAGE]);
    bench.load(30);
    expect([bench.left(), bench.bitsOf(30)]).toEqual([[30, 31], PAGE + DIRTY]);
  });

  it('knows the last entry of the ring, and nothing of the ring that follows', () => {
    const bench = one();
    const pages = Array.from({ length: 47 }, (_, n) => n + 10);
    for (const page of pages) bench.load(31, { page });
    expect(bench.left()).toHaveLength(48);
    bench.load(31, { page: 56 });
    expect([bench.answers(5), bench.answers(56)]).toEqual([[30], [31]]);
    bench.load(31, { page: 57 });
    expect([bench.answers(5), bench.answers(57), bench.answers(10), bench.left(1)]).toEqual([[], [31], [31], []]);
  });

  it('notes in whose life of the frame an entry was loaded, and by whom', () => {
    const bench = one();
    const { f, geometry } = bench.m;
    f.frameIncarnation.set(40, 6);
    bench.load(40).load(geometry.frameCount);
    expect([1, 2].map((slot) => [f.linearLife.get(slot), f.linearVcpu.get(slot)])).toEqual([[6, 3], [0, 3]]); // prettier-ignore
  });

  it('on the second pCPU is one of its own', () => {
    const bench = one().as({ pcpu: 1 });
    for (let page = 10; page < 60; page += 1) bench.load(31, { page });
    expect([bench.left(), bench.left(1).length]).toEqual([[30], 48]);
    expect([bench.answers(10), bench.answers(11), bench.answers(12), bench.answers(59)]).toEqual([[], [], [31], [31]]);
  });
});
