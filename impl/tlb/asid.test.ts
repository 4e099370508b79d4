// ASIDs of one core, step by step: which one a vCPU enters under, and what the processor forgets by it. Directed; whole histories
// are run where the laws are. A first reader may skip `Core`.

import { describe, expect, it } from 'vitest';
import { TRACE_VERSION, type Header } from '#abi/trace.ts';
import { Machine } from '../machine.ts';
import { asidFlushing } from './asid.ts';

const machine = (width: Header['width']): Machine => {
  const policies = { flush: 'eager', scrub: 'always', scrubAt: 'free', superpages: true } as const;
  return new Machine({ version: TRACE_VERSION, geometry: 'tiny', vendor: 'amd', width, pcpus: 2, iommus: [], ...policies, domains: [] }); // prettier-ignore
};

/** Core 0, on which vCPUs 2 and 3 (those of domain 1) run by turns. A mark is an entry remembered under the ASID of its time. */
class Core {
  readonly m: Machine;

  constructor(width: Header['width'] = {}) {
    this.m = machine(width);
    this.m.f.pcpuVcpu.set(0, 3);
  }

  /** VM entry; answers the ASID, and how many marks are left. */
  enter(): readonly [asid: number, remembered: number] {
    asidFlushing.enter(this.m, 0, 1);
    const { cacheTag } = this.m.f;
    const left = Array.from({ length: this.m.geometry.capacity.cacheEntries }, (_, slot) => cacheTag.get(slot));
    return [this.m.f.pcpuAsid.get(0), left.filter((tag) => tag !== 0).length];
  }

  /** The processor loads something under the present ASID. */
  mark(): void {
    const { cacheTag, cacheNext, pcpuAsid } = this.m.f;
    cacheTag.set(cacheNext.get(0), pcpuAsid.get(0));
    cacheNext.add(0, 1);
  }

  interrupt(): void {
    asidFlushing.interrupted(this.m, 0);
  }

  run(vcpu: number): void {
    this.m.f.pcpuVcpu.set(0, vcpu + 1);
    asidFlushing.switched(this.m, 0, vcpu);
  }
}

describe('a core', () => {
  it('gives the first ASID, and keeps it while nobody asks to forget', () => {
    const core = new Core();
    expect(core.enter()).toEqual([1, 0]);
    core.mark();
    expect([core.enter(), core.enter()]).toEqual([[1, 1], [1, 1]]); // prettier-ignore
    expect(core.m.f.pcpuRounds.get(0)).toBe(1);
  });

  it('forgets by the next ASID, and all at once when they have run out', () => {
    const core = new Core({ asid: 2 });
    const seen = [core.enter()];
    for (let n = 0; n < 5; n += 1) {
      core.mark();
      core.interrupt();
      seen.push(core.enter());
    }
    expect(seen).toEqual([[1, 0], [2, 1], [3, 2], [1, 0], [2, 1], [3, 2]]); // prettier-ignore
  });

  it('gives a vCPU that comes another ASID than the one before had, and a new one when it comes back', () => {
    const core = new Core({ asid: 4 });
    core.run(2);
    const seen = [core.enter()];
    for (const vcpu of [3, 2, 2]) {
      core.run(vcpu);
      seen.push(core.enter());
    }
    expect(seen.map(([asid]) => asid)).toEqual([1, 2, 3, 4]);
  });

  it('does not take the ASID of another core for its own', () => {
    const core = new Core({ asid: 4 });
    const { m } = core;
    core.run(2);
    core.enter();
    m.f.pcpuVcpu.set(1, 3);
    asidFlushing.switched(m, 1, 2);
    asidFlushing.enter(m, 1, 1);
    expect([m.f.vcpuCore.get(2), m.f.pcpuAsid.get(1)]).toEqual([2, 1]);
    core.run(2);
    expect([m.f.vcpuCore.get(2), core.enter()[0]]).toEqual([1, 2]);
  });

  it('has done with ASIDs once its generation has wrapped: it enters under the first, and forgets that each time', () => {
    const core = new Core({ asid: 4, asidGeneration: 2 });
    expect(core.enter()).toEqual([1, 0]);
    for (const asid of [2, 3]) {
      core.mark();
      core.interrupt();
      expect(core.enter()[0]).toBe(asid);
    }
    core.interrupt();
    // Only what was loaded under ASID 1 goes; the others answer nobody.
    expect(core.enter()).toEqual([1, 1]);
    core.mark();
    expect(core.enter()).toEqual([1, 1]);
    for (let n = 0; n < 6; n += 1) core.interrupt();
    core.mark();
    expect([core.enter(), core.m.f.asidGeneration.get(0)]).toEqual([[1, 1], 0]);
  });

  it('has done with them as well when the wrap comes with the last ASID', () => {
    const core = new Core({ asid: 1, asidGeneration: 2 });
    expect(core.enter()).toEqual([1, 0]);
    const seen = [];
    for (let n = 0; n < 4; n += 1) {
      core.mark();
      core.interrupt();
      seen.push([...core.enter(), core.m.f.asidDisabled.get(0)]);
    }
    expect(seen.map(([asid, left]) => [asid, left])).toEqual([[1, 0], [1, 0], [1, 0], [1, 0]]); // prettier-ignore
    expect(seen.at(-1)?.[2]).toBe(1);
  });

  it('does not go on under an old ASID when the wrap comes as they run out', () => {
    const core = new Core({ asid: 2, asidGeneration: 3 });
    core.enter();
    for (const asid of [2, 3]) {
      core.mark();
      core.interrupt();
      expect(core.enter()[0]).toBe(asid);
    }
    for (let n = 0; n < 4; n += 1) core.interrupt();
    expect(core.m.f.asidGeneration.get(0)).toBe(7);
    // Of ASIDs 1 and 2 something is remembered; the first is what it goes on under.
    expect([core.enter(), core.m.f.asidDisabled.get(0)]).toEqual([[1, 1], 1]);
  });
});
