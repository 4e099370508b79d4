// What an act of direct paging comes to, and the tables of functions that perform acts: one for each that there is.
// A first reader may skip this file.

import type { Mfn, Word } from '#abi/address.ts';
import type { Errno } from '#abi/reply.ts';
import type { State } from '../state.ts';
import type { Halt, Item, Todo } from './work.ts';

/** The state after it, what is to be done first now, or that it has failed. */
export interface Effect {
  readonly state: State;
  readonly first?: Todo;
  readonly failed?: Errno | Halt;
  /** What was left partial by that. */
  readonly parked?: Mfn | undefined;
  /** What its caller will hear that it came upon. */
  readonly seen?: Word;
}

/** One function for each of these acts and plans. */
export type Performers<K extends Item['do']> = {
  readonly [D in K]: (state: State, item: Extract<Item, { readonly do: D }>) => Effect;
};
