// Entries of paravirtual tables that operations look at: whoever goes through a table above the lowest asks at each entry but the first
// whether to stop. Law WORK counts both. A first reader may skip it.

import { frameTypes, levelOfType } from '#abi/pv.ts';
import type { Call, Execution } from '#impl/execution.ts';
import type { Machine } from '#impl/machine.ts';
import type { At } from '#impl/port.ts';
import { isDirect } from './direct-reach.ts';
import { withinParts } from './points.ts';

/** Of the entries of a table so many ask for nothing: it may be gone through twice, each time from an entry on. */
const FREE = 2;

/** Levels whose tables are stopped in. Lowest ones are gone through at once, those above the third stop where others do. */
const isDivided = (level: number): boolean => level === 2 || level === 3;

/** What the operations in flight on one machine have looked at: different entries that lead somewhere, by table. */
export class EntriesAsked {
  readonly #m: Machine;
  readonly #entries = new WeakMap<Execution, Map<number, Set<number>>>();

  constructor(m: Machine) {
    this.#m = m;
  }

  /** Whether a call is to stop within tables: those of paravirtual vCPUs, and the end of a domain. */
  #stops({ op, agent }: Call): boolean {
    if (op.kind === 'memory.killDomain') return true;
    return op.kind in withinParts && agent.kind === 'vcpu' && isDirect(this.#m, agent.domain);
  }

  /** The hypervisor reads a word of a table. */
  note({ mfn, index }: At): void {
    const { f, geometry, port } = this.#m;
    const { current } = port;
    if (current === undefined || !(mfn < geometry.frameCount && index < geometry.wordsPerFrame)) return;
    if (!this.#stops(current.call)) return;
    const level = levelOfType(frameTypes[f.frameType.get(mfn)] ?? 'none');
    if (!isDivided(level) || f.memory.get(2 * (mfn * geometry.wordsPerFrame + index)) % 2 === 0) return;
    const { from, count } = geometry.rootSlots;
    if (level === geometry.levels && index >= from && index < from + count) return;
    let tables = this.#entries.get(current);
    if (tables === undefined) this.#entries.set(current, (tables = new Map()));
    const indices = tables.get(mfn);
    if (indices === undefined) tables.set(mfn, new Set([index]));
    else indices.add(index);
  }

  /** How often an operation should have asked at least. */
  due(execution: Execution): number {
    let due = 0;
    for (const indices of this.#entries.get(execution)?.values() ?? []) due += Math.max(0, indices.size - FREE);
    return due;
  }
}
