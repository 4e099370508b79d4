// How entries of lowest tables are changed for grants: what is still to be done, as data.
// A first reader may skip this file and begin with granted.ts.

import type { DomId, Gfn, Mfn, Word } from '#abi/address.ts';

/** What an entry must be to be taken for the mapping of a grant: a present one of this frame, writable or not. */
export interface Expected {
  readonly mfn: Mfn;
  /** In which life of the frame: what has been made of it since is not what was granted. */
  readonly incarnation: number;
  readonly writes: boolean;
}

/** What comes of an entry that has been replaced: it lets go of what it held, its holds are in hand, or it comes to stand elsewhere. */
export type Fate =
  | { readonly kind: 'letGo' }
  | { readonly kind: 'inHand' }
  | { readonly kind: 'moved'; readonly root: Mfn; readonly page: Gfn; readonly expects: Expected };

/** An entry of a lowest table of `domain` is to become `word`, which holds what it leads to already. */
export interface Edit {
  readonly domain: DomId;
  readonly word: Word;
  readonly expects: Expected | undefined;
  readonly fate: Fate;
}

/** An entry, by the table in which it lies. */
interface EditAt {
  readonly mfn: Mfn;
  readonly index: number;
  readonly edit: Edit;
}

/** Indivisible parts. */
export type GrantedAct =
  /** The entry of a linear frame is sought: the table that is read next. */
  | { readonly do: 'approach'; readonly mfn: Mfn; readonly level: number; readonly page: Gfn; readonly edit: Edit }
  /** It is loaded, and held against what is expected. */
  | ({ readonly do: 'match' } & EditAt)
  /** Processors that run a domain forget a frame of somebody else's which a table of the domain's is about to let go of. */
  | { readonly do: 'forgetLent'; readonly domain: DomId; readonly mfn: Mfn };

/** What is worked out between two acts: whether what has been locked is a lowest table. */
export type GrantedPlan = { readonly do: 'edit' } & EditAt;
