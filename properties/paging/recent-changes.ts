// Which entries of their own tables guests have changed lately, and what goes through them, and which pages they had under a root that
// they have left: whoever walks next should go there.
// A first reader may skip this file.

import type { DomId, Gfn, Word } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { linearContext } from '#model/paging/context.ts';
import type { State } from '#model/state.ts';
import type { Table } from './tables.ts';

/** An entry: in a table, at an index. */
export interface Place {
  readonly table: Table;
  readonly index: number;
}

/** An entry that has been changed. */
export interface Change {
  readonly domain: DomId;
  /** The root of the tree that it is part of. */
  readonly root: Gfn;
  readonly place: Place;
  /** What stood there. */
  readonly was: Word;
  /** Linear frames whose ways pass or passed it. Never empty. */
  readonly pages: readonly number[];
}

/** So many changes are remembered, each for so many steps: time for a few by whoever goes by those tables. */
const CHANGES = 4;
const STEPS = 16;

/** Linear frames of a domain that a processor of it had translated under the root that it has left. */
interface Left {
  readonly domain: DomId;
  readonly pages: readonly number[];
}

/** What guests have changed lately, oldest first. */
export class Changes {
  readonly #list: { readonly change: Change; readonly at: number }[] = [];
  readonly #left: { readonly left: Left; readonly at: number }[] = [];
  #now = 0;

  get isEmpty(): boolean {
    return this.#list.length === 0;
  }

  /** Another step. */
  tick(): void {
    this.#now += 1;
    if (this.#now - (this.#list[0]?.at ?? this.#now) > STEPS) this.#list.shift();
    if (this.#now - (this.#left[0]?.at ?? this.#now) > STEPS) this.#left.shift();
  }

  /** A root is about to be left. */
  leave(left: Left): void {
    if (left.pages.length === 0) return;
    this.#left.push({ left, at: this.#now });
    if (this.#left.length > CHANGES) this.#left.shift();
  }

  /** Pages that an agent's domain has left so; none if it has paging off. */
  leftBy(state: State, agent: Agent): readonly number[] {
    if (this.#left.length === 0 || agent.kind !== 'vcpu' || linearContext(state, agent) === undefined) return [];
    return this.#left.filter(({ left }) => left.domain === agent.domain).flatMap(({ left }) => left.pages);
  }

  note(change: Change): void {
    this.#list.push({ change, at: this.#now });
    if (this.#list.length > CHANGES) this.#list.shift();
  }

  /** Changes of the tree that an agent goes by now; none if it has paging off. */
  of(state: State, agent: Agent): readonly Change[] {
    if (this.#list.length === 0 || agent.kind !== 'vcpu') return NONE;
    const context = linearContext(state, agent);
    return context === undefined ? NONE : this.#of(agent.domain, context.root);
  }

  /** The last change of a tree. */
  lastOf(domain: DomId, root: Gfn): Change | undefined {
    return this.#of(domain, root).at(-1);
  }

  readonly #of = (domain: DomId, root: Gfn): readonly Change[] =>
    this.#list.filter(({ change }) => change.domain === domain && change.root === root).map(({ change }) => change);
}

const NONE: readonly Change[] = [];
