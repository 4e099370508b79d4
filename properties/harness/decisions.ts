// What a generator decides with: chance, the live model, what earlier steps handed out, and the mood of the step.
// legal: every operand fits the state. near: each operand may be off by one, belong to somebody else, or lie at a border.
// (absurd steps are made without looking, by absurd.ts.) Operands are written symbolically, so that they survive deletion
// of other steps: gfns as paths, handles and continuations by the step that handed them out.
// A first reader needs the methods' names only.

import { DOMID_INVALID, DOMID_SELF, INVALID_GFN, type DomId, type GrantRef, type VcpuId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { bytesPerFrame, gfnCount, tableEntries, type Geometry } from '#abi/geometry.ts';
import type { Buffer, GfnOperand, HandedOut, Label } from '#abi/operand.ts';
import type { Op } from '#abi/operation.ts';
import type { VcpuName } from '#abi/trace.ts';
import type { Prng } from '#lib/prng.ts';
import { linearContext } from '#model/paging/context.ts';
import type { State } from '#model/state.ts';
import { Changes } from '../paging/recent-changes.ts';
import { addressOf, reachedOf, tablesOf, treeOf } from '../paging/tables.ts';
import { NO_FOCUS, type Focus } from './focus.ts';
import { callersOf, freeFrames, mappedOf, usableOf } from './census.ts';

/** One generator per operation kind; the compiler asks for an arm per operation. */
export type Generators<O extends { readonly kind: string }> = {
  readonly [K in O['kind']]: (g: Gen) => Extract<O, { readonly kind: K }>;
};

/** For some kinds, whether a legal operation is possible at all now. */
export type Needs<O extends { readonly kind: string }> = { readonly [K in O['kind']]?: (g: Gen) => boolean };

/** Relative frequencies of the operations of a mechanism. */
export type Weights<O extends { readonly kind: string }> = { readonly [K in O['kind']]: number };

export type Mood = 'legal' | 'near' | 'absurd';

/** A handle that a step handed out. */
export interface Handed {
  readonly step: Label;
  readonly index: number;
  readonly handle: number;
  readonly mapper: DomId;
}

/** A gfn as the trace writes it: a path without leading zeros, or a raw number that no table can map. */
export function operandOf(geometry: Geometry, gfn: number): GfnOperand {
  if (gfn < 0 || gfn >= gfnCount(geometry)) return { raw: gfn < 0 ? INVALID_GFN : gfn };
  const size = tableEntries(geometry);
  const path: number[] = [];
  for (let rest = gfn; rest > 0; rest = Math.floor(rest / size)) path.unshift(rest % size);
  return { path: path.length === 0 ? [0] : path };
}

const HOT = 8;
/** So many walks are remembered. */
const WALKED = 8;

/** gfns that a run keeps coming back to: the low end, both sides of a table's border, the top of the address space. */
function hotGfns(geometry: Geometry, prng: Prng): number[] {
  const size = tableEntries(geometry);
  const top = gfnCount(geometry);
  const bases = [0, size - 2, size * prng.below(size), top - 4, prng.below(Math.min(top, 2 ** 30))];
  return Array.from({ length: HOT }, () => Math.min(top - 1, prng.pick(bases) + prng.below(6)));
}

/** Guests with a vCPU that has paging on. */
const pagersOf = (state: State): DomId[] => [
  ...new Set(
    callersOf(state)
      .filter(({ domain }) => state.domains.get(domain)?.kind !== 'pv')
      .filter((one) => linearContext(state, { kind: 'vcpu', ...one }) !== undefined)
      .map(({ domain }) => domain),
  ),
];

/** Decisions of one run. Owned and moved on by `drive`. */
export class Gen {
  readonly prng: Prng;
  readonly geometry: Geometry;
  readonly pcpus: number;
  mood: Mood = 'legal';
  state: State;
  /** Who acts; generators set it. */
  agent: Agent = { kind: 'toolstack' };
  /** Who has an operation in flight and cannot start another. */
  busy: readonly Agent[] = [];
  focus: Focus = NO_FOCUS;
  /** Whether this step is an access to what an operation in flight is about, by somebody whom it concerns. */
  probes = false;
  /** The guest that uses paging of its own in this run, if any does: one that was booted so, if any was; others may follow it. */
  readonly pager: DomId | undefined;
  /** Handles by the steps that handed them out, oldest first. */
  readonly handed: Handed[] = [];
  /** Entries of guests' own tables that were changed lately. */
  readonly changes = new Changes();
  readonly #hot: number[];
  /** Where processors were made to walk lately, and by what: oldest first. */
  readonly #walked: { readonly domain: DomId; readonly gfn: number; readonly p2m: unknown }[] = [];
  /** Operands still to be bent in this step. */
  #bends = 0;

  constructor(of: { prng: Prng; state: State; pcpus: number; mayPage: boolean }) {
    this.prng = of.prng;
    this.state = of.state;
    this.geometry = of.state.geometry;
    this.pcpus = of.pcpus;
    this.#hot = hotGfns(this.geometry, of.prng);
    // Two runs in five have one that was booted so and goes on from there; with those that build everything themselves half have one.
    const booted = pagersOf(of.state);
    const isPaging = booted.length > 0 || (of.prng.chance(1, 3) && of.mayPage);
    this.pager = isPaging ? of.prng.pick(booted.length > 0 ? booted : ([1, 1, 2] as DomId[])) : undefined;
  }

  /** True with a probability of `percent` in a hundred. */
  share(percent: number): boolean {
    return this.prng.chance(percent, 100);
  }

  /** A new step in this mood, on this state. */
  begin(mood: Mood, state: State): void {
    this.mood = mood;
    this.state = state;
    this.changes.tick();
    this.#bends = mood !== 'near' ? 0 : this.prng.chance(2, 3) ? 1 : 2;
  }

  /** Whether to bend this operand: one or two in a nearly legal step, so that one check alone has to refuse it. */
  bends(): boolean {
    if (this.#bends === 0 || !this.prng.chance(1, 3)) return false;
    this.#bends -= 1;
    return true;
  }

  /** Mostly an element that satisfies `likes`, if there is one; undefined if the list is empty. */
  prefer<T>(list: readonly T[], likes: (one: T) => boolean): T | undefined {
    const liked = list.filter(likes);
    const from = liked.length > 0 && this.share(85) ? liked : list;
    return from.length === 0 ? undefined : this.prng.pick(from);
  }

  /** Lets a vCPU act that can call, of a domain that `fits` if possible. Answers its domain. */
  asVcpu(fits: (domain: DomId) => boolean = () => true): DomId {
    const callers = this.callers();
    const fitting = callers.filter(({ domain }) => fits(domain));
    const eager = this.#eager(fitting);
    const from: readonly VcpuName[] = eager.length > 0 ? eager : fitting.length > 0 ? fitting : callers;
    const one = from.length > 0 ? this.prng.pick(from) : { domain: 1 as DomId, vcpu: 0 as VcpuId };
    this.agent = { kind: 'vcpu', ...one };
    return one.domain;
  }

  /** Vcpus that can call now and go by tables that were changed lately. */
  changers(): readonly VcpuName[] {
    return this.changes.isEmpty ? [] : this.callers().filter((one) => this.#goesByChanges(one));
  }

  /**
   * The same as `asVcpu` for a call that answers in memory. One in two, while tables have changed lately, is made by somebody who
   * goes by them though it may come to nothing else: where it answers is walked all the same.
   */
  asHandler(fits: (domain: DomId) => boolean = () => true): DomId {
    const changers = this.share(50) ? this.changers() : [];
    if (changers.length === 0) return this.asVcpu(fits);
    const one = this.prng.pick(changers);
    this.agent = { kind: 'vcpu', ...one };
    return one.domain;
  }

  readonly #goesByChanges = (one: VcpuName): boolean =>
    this.changes.of(this.state, { kind: 'vcpu', ...one }).length > 0;

  /**
   * Those whose tables were changed lately, two times in five, for soon somebody else changes or flushes them; or one in five those that
   * have paging on, for whom alone tables are walked.
   */
  #eager(from: readonly VcpuName[]): readonly VcpuName[] {
    const drawn = this.prng.below(100);
    if (drawn >= 60 || this.state.contexts.size === 0) return [];
    if (drawn < 40) return from.filter(this.#goesByChanges);
    return from.filter((one) => linearContext(this.state, { kind: 'vcpu', ...one }) !== undefined);
  }

  /**
   * Lets somebody act who may manage `target`: the toolstack, a vCPU of it or of the control domain; the toolstack rather
   * where a vCPU of the target would leave none that could act meanwhile. Answers the caller.
   */
  asManager(target: DomId): DomId {
    this.agent = { kind: 'toolstack' };
    const isLonely = this.callers().filter(({ domain }) => domain === target).length < 2;
    if (this.share(isLonely ? 80 : 40)) return 0 as DomId;
    const domain = this.asVcpu((id) => id === target || (id === 0 && this.share(30)));
    if (domain === target || domain === 0 || this.mood === 'near') return domain;
    this.agent = { kind: 'toolstack' };
    return 0 as DomId;
  }

  /** Lets the toolstack act, seldom a vCPU of the control domain. */
  asToolstack(): void {
    this.agent = { kind: 'toolstack' };
    if (this.share(15) && this.callers().some(({ domain }) => domain === 0)) this.asVcpu((id) => id === 0);
    if (this.bends()) this.asVcpu((id) => id !== 0);
  }

  /** `id` as the operation names it; bent: another domain, nobody, or a reserved id. */
  domain(id: DomId): DomId {
    if (!this.bends()) return id;
    const { domains } = this.geometry.capacity;
    return this.prng.pick([0, 1, 2, 3, domains, DOMID_SELF, DOMID_INVALID]) as DomId;
  }

  /** A gfn as operand; bent: a neighbour, the last one, one too many, or none at all. */
  gfn(gfn: number): GfnOperand {
    this.#remember(gfn);
    const top = gfnCount(this.geometry);
    const bent = this.bends()
      ? this.prng.pick([gfn + 1, gfn - 1, this.prng.pick(this.#hot), top - 1, top, 2 ** 40])
      : gfn;
    return operandOf(this.geometry, bent);
  }

  /** The same as `address`, never bent. */
  place(gfn: number): GfnOperand {
    return operandOf(this.geometry, addressOf(this.state, this.agent, gfn));
  }

  /** What the caller says to reach `gfn`: with paging on a linear frame that leads there. */
  address(gfn: number): GfnOperand {
    return this.gfn(addressOf(this.state, this.agent, gfn));
  }

  /**
   * A gfn out of `from`, those in focus or used lately first; a hot one if there is none. Of a `domain` whose memory is to
   * be changed, rather what a guest has as a table, or a processor has walked.
   */
  oneOf(from: readonly number[], domain?: DomId): number {
    const focused = this.share(50) ? from.filter((gfn) => this.focus.gfns.has(gfn)) : [];
    if (focused.length > 0) return this.prng.pick(focused);
    const tables = domain !== undefined && this.share(7) ? tablesOf(this.state, domain) : [];
    const inUse = tables.filter((gfn) => from.includes(gfn));
    if (inUse.length > 0) return this.prng.pick(inUse);
    const walked = domain !== undefined && this.share(50) ? this.walkedOf(domain, from) : [];
    if (walked.length > 0) return this.prng.pick(walked);
    const recent = this.share(50) ? this.#hot.filter((gfn) => from.includes(gfn)) : [];
    if (recent.length > 0) return this.prng.pick(recent);
    return this.prng.pick(from.length > 0 ? from : this.#hot);
  }

  /** A gfn from which on 2^order gfns of `domain` mean nothing and are not `taken`, mostly one whose tables exist. */
  unmapped(domain: DomId, order = 0, taken?: ReadonlySet<number>): number {
    const size = 2 ** order;
    const top = gfnCount(this.geometry);
    const mapped = mappedOf(this.state, domain);
    const p2m = this.state.domains.get(domain)?.p2m;
    const pool = this.state.domains.get(domain)?.pool;
    const isPoor = pool !== undefined && pool.frames.size - pool.used < 3;
    const isFree = (gfn: number): boolean =>
      gfn + size <= top &&
      Array.from({ length: Math.min(size, 16) }, (_, i) => gfn + i).every(
        (at) => !p2m?.has(at) && taken?.has(at) !== true,
      );
    const near = (): number => {
      const table = tableEntries(this.geometry);
      const base = mapped.length === 0 ? 0 : this.prng.pick(mapped);
      return base - (base % table) + this.prng.below(Math.min(table, 16));
    };
    for (let i = 0; i < 12; i += 1) {
      const at = i < 4 && !isPoor ? this.prng.pick(this.#hot) : near();
      const aligned = at - (at % size);
      if (isFree(aligned)) return aligned;
    }
    const last = this.prng.below(Math.min(top, 2 ** 16));
    return last - (last % size);
  }

  /** Any number below `limit`, mostly small, sometimes the last one; bent: the first beyond. */
  below(limit: number): number {
    if (this.bends()) return this.prng.pick([limit, limit + 1, Math.max(0, limit - 1)]);
    if (limit <= 1) return 0;
    return this.share(70) ? this.prng.below(Math.min(limit, 4)) : this.prng.pick([limit - 1, this.prng.below(limit)]);
  }

  /** A reference as operand; bent: its neighbours, or the first beyond the table. */
  ref(ref: number, count: number): GrantRef {
    return (
      this.bends() ? this.prng.pick([ref + 1, Math.max(0, ref - 1), count - 1, count, count + 1]) : ref
    ) as GrantRef;
  }

  /** Room for `words` words of a call: RAM of `caller`, mostly within one frame; bent: where it must not be. */
  buffer(caller: DomId, words: number): Buffer<'symbolic'> {
    if (this.bends() && this.share(60)) return { in: this.prng.pick(['hypervisor', 'nonCanonical', 'null'] as const) };
    const isDirect = this.state.domains.get(caller)?.kind === 'pv';
    // What paravirtual guests have is what their tables lead to.
    const ram = isDirect ? treeOf(this.state, this.agent).pages.map(({ gfn }) => gfn) : usableOf(this.state, caller);
    const usual = this.bends() && !isDirect ? mappedOf(this.state, caller) : ram.slice(ram.length > 1 ? 1 : 0);
    const from = this.share(80) ? reachedOf(this.state, this.agent, usual) : usual;
    const size = bytesPerFrame(this.geometry);
    const last = Math.max(0, Math.min(3, this.geometry.wordsPerFrame - words));
    const offset = this.share(90) ? 8 * this.prng.below(last + 1) : this.offset(8);
    const followed = from.filter((gfn) => from.includes(gfn + 1));
    const isLong = offset + 8 * words > size && followed.length > 0;
    const altered = this.share(60) ? this.alteredPage() : undefined;
    const gfn = altered === undefined ? this.address(this.oneOf(isLong ? followed : from)) : this.gfn(altered);
    return { in: 'guest', gfn, offset: this.bends() ? size - 4 : offset };
  }

  /** A byte offset for an access of `size`: aligned, straddling words, or ending at the frame's last byte. */
  offset(size: number): number {
    const bytes = bytesPerFrame(this.geometry);
    return this.prng.pick([this.prng.below(bytes - size + 1), bytes - size, size, 8 * this.prng.below(bytes / 8)]);
  }

  /** Where a batch starts: at 0; bent: further on, up to beyond its end. */
  start(count: number): HandedOut {
    return { raw: this.bends() ? this.prng.below(count + 2) : 0 };
  }

  /** How many elements a batch has: mostly one or two, up to the capacity; bent: one more, or none. */
  batch(usual: number): number {
    const { batch } = this.geometry.capacity;
    if (this.bends()) return this.prng.pick([0, batch, batch + 1]);
    return this.share(8) ? batch : 1 + this.prng.below(usual);
  }

  /** `count` things made one by one. */
  list<T>(count: number, make: (i: number) => T): T[] {
    return Array.from({ length: count }, (_, i) => make(i));
  }

  /** A handle as operand: by the step that handed it out if known; bent: a neighbour. */
  handle(mapper: DomId, handle: number): HandedOut {
    if (this.bends()) return { raw: this.prng.pick([handle + 1, Math.max(0, handle - 1), 0x7fff_ffff]) };
    const known = this.handed.findLast((one) => one.mapper === mapper && one.handle === handle);
    return known === undefined ? { raw: handle } : { step: known.step, index: known.index };
  }

  /** Any handle handed out so far, stale ones too. */
  oldHandle(): HandedOut {
    if (this.handed.length === 0) return { raw: 0 };
    const { step, index } = this.prng.pick(this.handed);
    return { step, index };
  }

  /** vCPUs that can call now. */
  callers(): readonly VcpuName[] {
    const all = callersOf(this.state);
    if (this.busy.length === 0) return all;
    const isBusy = ({ domain, vcpu }: VcpuName): boolean =>
      this.busy.some((agent) => agent.kind === 'vcpu' && agent.domain === domain && agent.vcpu === vcpu);
    return all.filter((one) => !isBusy(one));
  }

  /** Whether any vCPU can call now. */
  canCall(): boolean {
    return this.callers().length > 0;
  }

  /** Frames that may still be taken before the heap is empty. */
  room(): number {
    return freeFrames(this.state);
  }

  /** A processor walks `gfn` for `domain`: what it remembers of it is what a change of that memory must make it forget. */
  walks(domain: DomId, gfn: number): number {
    this.#walked.push({ domain, gfn, p2m: this.state.domains.get(domain)?.p2m });
    if (this.#walked.length > WALKED) this.#walked.shift();
    return gfn;
  }

  /** Those of `from` that lie under tables of `domain` by which a processor walked since they changed last. */
  walkedOf(domain: DomId, from: readonly number[]): readonly number[] {
    const p2m = this.state.domains.get(domain)?.p2m;
    const walks = this.#walked.filter((one) => one.domain === domain && one.p2m === p2m);
    if (walks.length === 0) return [];
    const size = tableEntries(this.geometry);
    const tables = new Set(walks.map(({ gfn }) => Math.floor(gfn / size)));
    return from.filter((gfn) => tables.has(Math.floor(gfn / size)));
  }

  /** A linear frame whose way passes an entry that was changed lately in the tables that `agent` goes by. */
  alteredPage(agent: Agent = this.agent): number | undefined {
    const left = this.changes.leftBy(this.state, agent);
    if (left.length > 0 && this.share(50)) return this.prng.pick(left);
    const changes = this.changes.of(this.state, agent);
    return changes.length === 0 ? undefined : this.prng.pick(this.prng.pick(changes).pages);
  }

  #remember(gfn: number): void {
    if (gfn < 0 || gfn >= gfnCount(this.geometry)) return;
    if (!this.#hot.includes(gfn)) this.#hot[this.prng.below(HOT)] = gfn;
  }
}

/** An operation of one kind, symbolic. */
export type Symbolic<K extends Op<'symbolic'>['kind']> = Extract<Op<'symbolic'>, { readonly kind: K }>;
