// Which entries of their own tables guests have changed lately, and what goes through them: whoever walks next should go there.
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

/** What guests have changed lately, oldest first. */
export class Changes {
  readonly #list: { readonly change: Change; readonly at: number }[] = [];
  #now = 0;

  get isEmpty(): boolean {
    return this.#list.length === 0;
  }

  /** Another step. */
  tick(): void {
    this.#now += 1;
    if (this.#now - (this.#list[0]?.at ?? this.#now) > STEPS) this.#list.shift();
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
