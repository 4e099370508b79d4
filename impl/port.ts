// The one way in which hypervisor code touches what others can see: shared words, locks, flushes, the heap. Every act
// yields before it happens, so another agent can come in between; the yield cannot be had without the act nor the act
// without the yield. Nobody scheduled to act: no yield, and an act costs a function call.
// Hardware (walkers, caches, CPU accesses) does not go through the port: it acts at once, and it is the judge.
// A first reader may skip failures and preemption. The design is docs/decisions/0002 and 0004.

import type { Principal } from '#abi/acts.ts';
import type { Choice, WithinTable } from '#abi/choices.ts';
import type { FailureClass } from '#abi/failures.ts';
import type { ObjectKind, PointClass } from '#abi/points.ts';
import { low32 } from '#lib/bits.ts';
import { invariant } from '#lib/invariant.ts';
import type { Field } from './arena.ts';
import type { Execution } from './execution.ts';

/** A piece of hypervisor code that can be paused at its acts. */
export type Step<T> = Generator<undefined, T, undefined>;

/** A word of a frame: which frame, which 64-bit word of it. */
export interface At {
  readonly mfn: number;
  readonly index: number;
}

/** Told of every load and store of memory by hypervisor code, before it happens (law ACT). */
export type ActWatcher = (who: Principal, verb: 'load' | 'store', at: At) => void;

/** Port of one machine. `lo` and `hi` hold the word that the last load gave. */
export class Port {
  readonly #memory: Field;
  readonly #wordsPerFrame: number;
  /** Whether acts yield: somebody is scheduled to act. */
  armed = false;
  /** The act that is about to happen. */
  pointClass: PointClass = 'load';
  pointObject: ObjectKind = 'guest';
  /** Slot of the execution that holds what is awaited; 0: nothing is awaited. */
  awaits = 0;
  lo = 0;
  hi = 0;
  watcher: ActWatcher | undefined = undefined;
  /** The execution that runs now. */
  current: Execution | undefined = undefined;

  constructor(memory: Field, wordsPerFrame: number) {
    this.#memory = memory;
    this.#wordsPerFrame = wordsPerFrame;
  }

  /** Back to how it was made. */
  reset(): void {
    this.armed = false;
    this.pointClass = 'load';
    this.pointObject = 'guest';
    this.awaits = 0;
    this.lo = 0;
    this.hi = 0;
    this.watcher = undefined;
    this.current = undefined;
  }

  /** Something of `pointClass` is about to happen to `object`: whoever is scheduled here acts first. */
  *point(pointClass: PointClass, object: ObjectKind): Step<void> {
    this.pointClass = pointClass;
    this.pointObject = object;
    this.current?.act();
    if (this.armed) yield;
  }

  /** Reads a 64-bit word into `lo` and `hi`; answers `lo`. */
  *load(who: Principal, object: ObjectKind, at: At): Step<number> {
    yield* this.point('load', object);
    return this.peek(who, at);
  }

  /** Writes a 64-bit word in one act. */
  *store(who: Principal, object: ObjectKind, to: At & { readonly lo: number; readonly hi: number }): Step<void> {
    yield* this.point('store', object);
    this.poke(who, to);
  }

  /** Replaces the low half of a word if it equals `expected`; answers what it was. */
  *compareExchange(
    who: Principal,
    object: ObjectKind,
    to: At & { readonly expected: number; readonly value: number },
  ): Step<number> {
    yield* this.point('compareExchange', object);
    this.watcher?.(who, 'store', to);
    const old = this.#read(to);
    if (old === low32(to.expected)) this.#write({ ...to, lo: to.value, hi: this.hi });
    return old;
  }

  /** Takes the lock at `index` of `locks`, waiting for its holder. Not recursive. */
  *lock(object: ObjectKind, locks: Field, index: number): Step<void> {
    yield* this.point('lock', object);
    while (locks.get(index) !== 0) {
      invariant(locks.get(index) !== this.#slot(), `${locks.name} is not awaited by its own holder`);
      yield* this.wait(locks.get(index));
    }
    locks.set(index, this.#slot());
  }

  /** Gives the lock back. */
  *unlock(object: ObjectKind, locks: Field, index: number): Step<void> {
    yield* this.point('unlock', object);
    invariant(locks.get(index) === this.#slot(), `${locks.name} is given back by its holder`);
    locks.set(index, 0);
  }

  /** Lets the execution in `slot` run on before this one does. */
  *wait(slot: number): Step<void> {
    this.awaits = slot;
    yield;
  }

  /** Reads a word at once, for acts composed elsewhere behind a `point`. Answers the low half. */
  peek(who: Principal, at: At): number {
    this.watcher?.(who, 'load', at);
    return this.#read(at);
  }

  /** Writes a word at once, for acts composed elsewhere behind a `point`. */
  poke(who: Principal, to: At & { readonly lo: number; readonly hi: number }): void {
    this.watcher?.(who, 'store', to);
    this.#write(to);
  }

  /** Tells the log of the running execution which way was taken. */
  choose(choice: Choice): void {
    this.#execution().choose(choice);
  }

  /** Whether fate makes the next request of a class fail; the caller says the rest with `refuse`. */
  fails(kind: FailureClass): boolean {
    return this.#execution().fails(kind);
  }

  /** Tells the log that a resource was refused. `done`: parts complete by then, where several could fail alike. */
  refuse(kind: FailureClass, done?: number): void {
    this.choose(done === undefined ? { kind: 'failed', class: kind } : { kind: 'failed', class: kind, done });
  }

  /** Whether the operation must stop at this preemption check, `done` parts complete; tells the log if so. */
  preempts(done: number): boolean {
    const execution = this.#execution();
    execution.acts = 0;
    if (!execution.preempts()) return false;
    this.choose({ kind: 'preempted', done });
    return true;
  }

  /** Whether the operation must stop within a table; tells the log if so. */
  preemptsWithin(within: WithinTable): boolean {
    const execution = this.#execution();
    if (!execution.stopsWithin) return false;
    execution.acts = 0;
    if (!execution.preempts()) return false;
    this.choose({ kind: 'preempted', within });
    return true;
  }

  #read({ mfn, index }: At): number {
    const at = this.#offset(mfn, index);
    this.lo = this.#memory.get(at);
    this.hi = this.#memory.get(at + 1);
    return this.lo;
  }

  #write({ mfn, index, lo, hi }: At & { readonly lo: number; readonly hi: number }): void {
    const at = this.#offset(mfn, index);
    this.#memory.set(at, lo);
    this.#memory.set(at + 1, hi);
  }

  #slot(): number {
    return this.#execution().slot;
  }

  #execution(): Execution {
    const { current } = this;
    invariant(current !== undefined, 'hypervisor code runs within an execution');
    return current;
  }

  #offset(mfn: number, index: number): number {
    // Checked per frame as well: an index past the frame would be the neighbour's word.
    if (!(index >= 0 && index < this.#wordsPerFrame)) return -1;
    return 2 * (mfn * this.#wordsPerFrame + index);
  }
}
