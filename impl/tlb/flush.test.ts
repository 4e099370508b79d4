// Flushes step by step: who is interrupted, what the clock says, what is pending with EPT. Directed; whole histories are run where
// the laws are. A first reader may begin at the rows of stamps.

import { describe, expect, it } from 'vitest';
import { RIGHT } from '#abi/rights.ts';
import { vendors, type Vendor } from '#abi/vendor.ts';
import { translate } from '../paging/hardware.ts';
import { DOM, Guest, KEY } from '../paging/guest.testing.ts';
import type { Step } from '../port.ts';
import { adoptRoot, enter, flushDomain, flushForFrames, markFlush, stamp } from './flush.ts';

const MFN = 90;
const SLOT = 1;

/** The vCPUs of domain 1 on two pCPUs, and an operation in whose name flushes are made. */
class Bench extends Guest {
  constructor(vendor: Vendor) {
    super(vendor);
    const { f } = this.m;
    f.vcpuOn.set(KEY + 1, 2);
    f.pcpuVcpu.set(1, KEY + 2);
    enter(this.m, 1, DOM);
    this.m.port.current = this.m.start({ agent: { kind: 'toolstack' }, op: { kind: 'tlb.evict', pcpu: 0, index: 0 } as never }); // prettier-ignore
  }

  /** Runs it; `between` comes at each of its acts. */
  run(step: Step<void>, between?: (n: number) => void): void {
    this.m.port.armed = between !== undefined;
    let acts = 0;
    for (let next = step.next(); next.done !== true; next = step.next()) between?.((acts += 1));
    this.m.port.armed = false;
  }

  idle(pcpu: number): void {
    const { f } = this.m;
    f.vcpuOn.set(f.pcpuVcpu.get(pcpu) - 1, 0);
    f.pcpuVcpu.set(pcpu, 0);
  }

  /** The pCPUs that the log says were flushed, in order, and for whom. */
  flushed(): readonly string[] {
    const { log } = this.m.execution(SLOT);
    return log.flatMap(({ choice }) => (choice.kind === 'flush' ? [`${choice.pcpu}: ${choice.domain}`] : []));
  }

  clock(now: number, ...times: readonly number[]): this {
    this.m.f.tlbClock.set(0, now);
    for (const [pcpu, time] of times.entries()) this.m.f.pcpuTime.set(pcpu, time);
    return this;
  }

  times(): readonly number[] {
    const { f } = this.m;
    return [f.tlbClock.get(0), f.pcpuTime.get(0), f.pcpuTime.get(1)];
  }

  /** How pCPU `pcpu` comes to a frame of the guest. */
  how(pcpu: number, gfn = 0): string | undefined {
    return translate(this.m, { pcpu, root: this.m.f.domRoot.get(DOM), gfn, access: RIGHT.read, via: 0 });
  }
}

describe.each(vendors)('a stamp, with %s', (vendor) => {
  it.each<readonly [now: number, time: number, stamped: number, isFlushed: boolean]>([
    [5, 3, 4, true],
    [5, 4, 4, true],
    [5, 3, 5, true],
    [5, 5, 5, true],
    [5, 5, 4, false],
    [5, 3, 6, false],
    [5, 0, 15, false],
    [0, 5, 4, true],
    [0, 0, 0, true],
    [15, 1, 1, true],
    [15, 2, 1, false],
  ])('at %s, last interrupted at %s, stamped at %s: %s', (now, time, stamped, isFlushed) => {
    const bench = new Bench(vendor).clock(now, 7, time);
    const { frameStamp, frameNeedFlush } = bench.m.f;
    bench.idle(0);
    frameStamp.set(MFN, stamped);
    frameNeedFlush.set(MFN, 1);
    bench.m.f.pcpuTime.set(0, stamped + 1);
    bench.run(flushForFrames(bench.m, MFN, 1));
    expect([bench.flushed().includes(`1: ${DOM}`), frameNeedFlush.get(MFN)]).toEqual([isFlushed, 0]);
  });

  it('is of the frames that are used, and is settled with them', () => {
    const bench = new Bench(vendor).clock(5, 3, 5);
    const { m } = bench;
    for (const mfn of [MFN, MFN + 3]) stamp(m, mfn);
    expect([m.f.frameStamp.get(MFN), m.f.frameNeedFlush.get(MFN)]).toEqual([5, 1]);
    bench.run(flushForFrames(m, MFN + 1, 2));
    expect(bench.flushed()).toEqual([]);
    bench.run(flushForFrames(m, MFN + 1, 3));
    expect([bench.flushed(), [0, 1, 2, 3].map((n) => m.f.frameNeedFlush.get(MFN + n))]).toEqual([[`0: ${DOM}`, `1: ${DOM}`], [1, 0, 0, 0]]); // prettier-ignore
    bench.run(flushForFrames(m, MFN, 1));
    expect(bench.flushed()).toHaveLength(2);
    expect(m.f.frameNeedFlush.get(MFN)).toBe(0);
  });
});

describe.each(vendors)('the clock of %s', (vendor) => {
  it('ticks at each interruption', () => {
    const bench = new Bench(vendor).clock(5, 3, 3);
    bench.run(flushDomain(bench.m, DOM));
    expect([bench.times(), bench.flushed()]).toEqual([[7, 6, 7], [`0: ${DOM}`, `1: ${DOM}`]]); // prettier-ignore
    bench.run(flushDomain(bench.m, DOM + 1));
    expect(bench.times()).toEqual([7, 6, 7]);
    bench.idle(0);
    bench.run(flushDomain(bench.m, DOM));
    expect(bench.times()).toEqual([8, 6, 8]);
  });

  it('that wraps has all others interrupted, and begins at 1', () => {
    const bench = new Bench(vendor).clock(15, 9, 9);
    bench.idle(1);
    bench.run(flushDomain(bench.m, DOM));
    expect([bench.times(), bench.flushed()]).toEqual([[1, 0, 0], [`0: ${DOM}`]]); // prettier-ignore
  });

  it('waits at 0 for who leads the wrap', () => {
    const bench = new Bench(vendor).clock(0, 9, 9);
    bench.run(flushDomain(bench.m, DOM));
    expect([bench.times(), bench.flushed()]).toEqual([[0, 0, 0], [`0: ${DOM}`, `1: ${DOM}`]]); // prettier-ignore
  });

  it('of a new machine stands at 1', () => {
    expect(new Bench(vendor).m.f.tlbClock.get(0)).toBe(1);
  });
});

describe.each(vendors)('forgetting with %s', (vendor) => {
  it('comes with the interruption, on each pCPU by itself', () => {
    const bench = new Bench(vendor);
    expect([bench.how(0), bench.how(1), bench.how(0), bench.how(1)]).toEqual(['walked', 'walked', 'cached', 'cached']);
    const seen: string[][] = [];
    bench.run(flushDomain(bench.m, DOM), () => seen.push([bench.how(0) ?? '', bench.how(1) ?? '']));
    expect(seen).toEqual([['cached', 'cached'], ['walked', 'cached']]); // prettier-ignore
    expect([bench.how(0), bench.how(1), bench.how(1)]).toEqual(['cached', 'walked', 'cached']);
  });

  it('of what was marked comes with entry, not with going on after a call', () => {
    const bench = new Bench(vendor);
    const { m } = bench;
    bench.how(0);
    markFlush(m, DOM);
    const isMarked = vendor === 'intel';
    expect([m.flushing.pendingOn(m, DOM), m.f.eptInvalidate.get(DOM)]).toEqual(isMarked ? [0, 3] : [-1, 0]);
    expect([m.flushing.pendingOn(m, 0), m.flushing.pendingOn(m, 2)]).toEqual([-1, -1]);
    m.flushing.resumed(m, 0, DOM);
    expect([m.flushing.pendingOn(m, DOM), bench.how(0)]).toEqual([isMarked ? 0 : -1, 'cached']);
    enter(m, 0, DOM);
    expect([m.flushing.pendingOn(m, DOM), m.f.eptInvalidate.get(DOM)]).toEqual(isMarked ? [1, 2] : [-1, 0]);
    expect(bench.how(0)).toBe(isMarked ? 'walked' : 'cached');
    bench.idle(1);
    expect([m.flushing.pendingOn(m, DOM), m.f.eptInvalidate.get(DOM)]).toEqual(isMarked ? [-1, 2] : [-1, 0]);
  });

  it('waits while there is no root', () => {
    const bench = new Bench(vendor);
    bench.m.f.domRoot.set(DOM, 0);
    markFlush(bench.m, DOM);
    enter(bench.m, 0, DOM);
    expect(bench.m.f.eptInvalidate.get(DOM)).toBe(vendor === 'intel' ? 3 : 0);
  });

  it('what an old domain left under a root comes before the root is adopted, where the domain runs', () => {
    const bench = new Bench(vendor);
    const { m } = bench;
    const root = m.f.domRoot.get(DOM);
    for (const pcpu of [0, 1]) bench.how(pcpu);
    m.f.domRoot.set(DOM, 0);
    const acts: number[] = [];
    bench.run(adoptRoot(m, DOM, root), (n) => acts.push(n, m.f.domRoot.get(DOM)));
    const isEpt = vendor === 'intel';
    expect([acts, bench.flushed(), m.f.domRoot.get(DOM)]).toEqual(
      isEpt ? [[1, 0, 2, 0], [`0: ${DOM}`, `1: ${DOM}`], root] : [[], [], root],
    );
    if (isEpt) expect([bench.how(0), bench.how(1)]).toEqual(['walked', 'walked']);
  });

  it('is not done on a pCPU that has left the domain meanwhile', () => {
    const bench = new Bench(vendor);
    const { m } = bench;
    bench.run(adoptRoot(m, DOM, 33), (n) => n === 1 && bench.idle(0));
    const isEpt = vendor === 'intel';
    expect([bench.flushed(), m.f.eptInvalidate.get(DOM), m.f.domRoot.get(DOM)]).toEqual(isEpt ? [[`1: ${DOM}`], 1, 33] : [[], 0, 33]); // prettier-ignore
  });

  it('of a core: an entry by another vCPU is under another VPID or ASID, and the first of a round forgets all', () => {
    const bench = new Bench(vendor);
    const { f } = bench.m;
    const seen: number[][] = [];
    for (let n = 0; n < 4; n += 1) {
      bench.m.flushing.switched(bench.m, 0, KEY);
      enter(bench.m, 0, DOM);
      bench.read(0);
      seen.push([f.pcpuAsid.get(0), f.pcpuRounds.get(0), f.pcpuRounds.get(1)]);
    }
    expect(seen).toEqual([[2, 1, 1], [3, 1, 1], [1, 2, 1], [2, 2, 1]]); // prettier-ignore
  });
});
