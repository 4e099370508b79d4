// What holds for every generated value: the same seeds give the same trace, traces are well formed (they decode again), every
// kind of operation comes up, plain accesses stay under two in five, and a share of headers is x86, a share AMD's.
// The run here is a still life: a state with three domains that no operation changes, and every operation succeeds.

import { describe, expect, it } from 'vitest';
import * as fc from 'fast-check';
import type { DomId, Gfn, Mfn, PcpuId } from '#abi/address.ts';
import { decodeTrace, encodeTrace } from '#abi/decode.ts';
import { mechanismOf, opKinds } from '#abi/operation.ts';
import { reply } from '#abi/reply.ts';
import { isAct, type Header, type Step, type Trace } from '#abi/trace.ts';
import { Prng } from '#lib/prng.ts';
import { Trie } from '#lib/trie.ts';
import { emptyMachine } from '#model/machine.ts';
import { emptyLog } from '#model/memory/dirty-log.ts';
import { setP2m } from '#model/p2m.ts';
import { vcpuKey, withFrame, type Domain, type State } from '#model/state.ts';
import { TraceArbitrary } from './arbitrary.ts';
import { drive, headerFor, type Driven, type Seeded, type Source } from './generate.ts';
import { headerOf } from './headers.ts';
import { isSmaller } from './simplify.ts';

const GRANT_FRAME = 40;

function withPages(state: State, id: DomId): State {
  let next = state;
  for (let i = 0; i < 6; i += 1) {
    const at = (10 * (id + 1) + i) as Mfn;
    next = withFrame(next, at, { role: 'ram', owner: id, allocated: true, refs: 1, incarnation: 1, mappings: [] });
    next = setP2m(next, { domain: id, gfn: i as Gfn }, { mfn: at, type: 'ramRw' });
  }
  const grants = (GRANT_FRAME + id) as Mfn;
  next = withFrame(next, grants, { role: 'grantFrame', owner: id, allocated: true, refs: 1, mappings: [] });
  return setP2m(next, { domain: id, gfn: 7 as Gfn }, { mfn: grants, type: 'ramRw' });
}

function stillLife(header: Header): State {
  let state = emptyMachine(header);
  for (const id of [0, 1, 2] as DomId[]) {
    const domain: Domain = {
      id,
      kind: id === 0 ? 'control' : 'hvm',
      state: 'running',
      relinquish: 'handles',
      pauseCount: 0,
      held: 0,
      log: emptyLog(state.geometry),
      watch: { leaves: 'rwx', listens: false, required: false },
      crashed: false,
      writesTables: false,
      calls: 0,
      maxPages: 16,
      totalPages: 6,
      claim: 0,
      vcpus: 1,
      p2m: Trie.empty(),
      maxGfn: 0,
      iomem: Trie.empty(),
      iomemEver: Trie.empty(),
      stale: [],
      pod: { entries: [], cache: Trie.empty(), highest: 0, sweepAt: 0, recent: [], recentAt: 0 },
      structure: (50 + id) as Mfn,
      sharedInfo: (60 + id) as Mfn,
      grants: {
        frames: [(GRANT_FRAME + id) as Mfn],
        limit: 2,
        active: Trie.empty(),
        handles: Trie.empty(),
        maptrack: [],
      },
      pool: { frames: Trie.empty(), used: 0 },
    };
    state = { ...state, domains: state.domains.set(id, domain) };
    state = { ...state, vcpus: state.vcpus.set(vcpuKey(state, id, 0), (id % header.pcpus) as PcpuId) };
    state = withPages(state, id);
  }
  return state;
}

/** A run in which every operation succeeds at once and nothing changes; `breakAt`: the step at which a law breaks. */
class StillLife implements Driven {
  readonly header: Header;
  readonly state: State;
  readonly flights = [];
  operations = 0;
  failure: { readonly step: number } | undefined = undefined;
  readonly #breakAt: number;

  constructor(header: Header, breakAt = -1) {
    this.header = header;
    this.state = stillLife(header);
    this.#breakAt = breakAt;
  }

  apply(_: Step) {
    if (this.operations === this.#breakAt) this.failure = { step: this.#breakAt };
    this.operations += 1;
    return { kind: 'returned', reply: reply('ok') };
  }

  finish(): void {
    this.operations += 0;
  }

  handedOut(_: number, index: number): number | undefined {
    return index === 0 ? 1 : undefined;
  }
}

const seeded = (seed: number, length = 80): Seeded => ({ kind: 'seeds', header: seed, steps: seed + 1, length });

const traceOf = (source: Source): Trace => drive(new StillLife(headerFor(source)), source);

const seeds = Array.from({ length: 60 }, (_, i) => 1000 + i);

describe('generated traces', () => {
  it('are the same for the same seeds', () => {
    for (const seed of seeds.slice(0, 10)) expect(traceOf(seeded(seed))).toEqual(traceOf(seeded(seed)));
  });

  it('differ for different seeds', () => {
    const texts = seeds.map((seed) => JSON.stringify(traceOf(seeded(seed)).steps));
    expect(new Set(texts).size).toBe(seeds.length);
  });

  it('are well formed: they come back from JSON as they were', () => {
    for (const seed of seeds) {
      const trace = traceOf(seeded(seed));
      const decoded = decodeTrace(encodeTrace(trace));
      expect(decoded).toEqual({ ok: true, trace });
    }
  });

  it('use every kind of operation, plain accesses at most two in five', () => {
    // Some are hardly ever called for while nothing changes.
    const kinds = Array.from({ length: 200 }, (_, i) => i).flatMap((seed) =>
      traceOf(seeded(seed))
        .steps.filter(isAct)
        .map(({ op }) => op.kind),
    );
    expect(opKinds.filter((kind) => !kinds.includes(kind))).toEqual([]);
    const plain = kinds.filter((kind) => mechanismOf(kind) === 'paging').length;
    expect(plain / kinds.length).toBeLessThanOrEqual(0.4);
    expect(plain / kinds.length).toBeGreaterThan(0.2);
  });

  it('are paused somewhere in at least a third of the runs', () => {
    const paused = seeds.filter((seed) => traceOf(seeded(seed)).steps.some(({ pause }) => pause !== undefined));
    expect(paused.length).toBeGreaterThanOrEqual(seeds.length / 3);
  });

  it('run on x86 in at least a tenth of the cases', () => {
    const headers = Array.from({ length: 400 }, (_, i) => headerOf(new Prng(i)));
    expect(headers.filter(({ geometry }) => geometry === 'x86').length).toBeGreaterThanOrEqual(40);
  });

  it("run on AMD's machines in about two of five cases", () => {
    const headers = Array.from({ length: 400 }, (_, i) => headerOf(new Prng(i)));
    const amd = headers.filter(({ vendor }) => vendor === 'amd').length;
    expect(amd).toBeGreaterThanOrEqual(120);
    expect(amd).toBeLessThanOrEqual(200);
  });
});

describe('the arbitrary of traces', () => {
  const arbitrary = new TraceArbitrary();

  it('gives the same value for the same seed', () => {
    const sample = (): Source[] => fc.sample(arbitrary, { seed: 7, numRuns: 20 });
    expect(sample()).toEqual(sample());
  });

  it('shrinks nothing that has not been run, and strictly smaller what has', () => {
    const source = seeded(5);
    expect([...arbitrary.shrink(source, undefined)]).toEqual([]);
    const trace = traceOf(source);
    let count = 0;
    for (const { value } of arbitrary.shrink(source, undefined)) {
      expect(value.kind === 'trace' && isSmaller(value.trace, trace)).toBe(true);
      count += 1;
      if (count === 1000) break;
    }
    expect(count).toBe(1000);
  });

  it('takes up a bare trace again', () => {
    const trace = traceOf(seeded(6));
    expect(arbitrary.canShrinkWithoutContext({ kind: 'trace', trace })).toBe(true);
    expect(arbitrary.canShrinkWithoutContext({ kind: 'seeds', header: 1, steps: 2, length: 3 })).toBe(false);
    const [first] = arbitrary.shrink({ kind: 'trace', trace }, undefined);
    expect(first?.value.kind).toBe('trace');
  });

  it('drives fast-check to a trace of the one step that matters', () => {
    const isBad = (step: Step): boolean => isAct(step) && step.op.kind === 'memory.decrease';
    const property = fc.property(arbitrary, (source) => !traceOf(source).steps.some(isBad));
    const { counterexample } = fc.check(property, { seed: 11, numRuns: 50 });
    const [smallest] = counterexample ?? [];
    const steps = smallest?.kind === 'trace' ? smallest.trace.steps : [];
    expect(steps).toHaveLength(1);
    expect(steps[0]).toMatchObject({ op: { kind: 'memory.decrease', extents: { by: 'value', gfns: [] }, order: 0 } });
  });
});
