// What a use of a grant rests on, put down for isolation: the granter's entry as it stood when it was asked and when its gfn
// was looked up. Nothing here judges: who may use what is said twice already (entry.ts, and impl/grants), and a slip in both
// would agree with itself. entitlement.ts decodes these words on its own.
// Who wrote the word is not put down: whoever may write to a grant frame, by the granter's own grants too, speaks for it.

import { ZERO_WORD, type DomId, type GrantRef, type Mfn, type Word } from '#abi/address.ts';
import { grantsPerFrame } from '#abi/geometry.ts';
import { entryOf, frameOf, isParavirtual, type Ground, type State } from '../state.ts';
import { wordAt } from '../words.ts';

/** A reference of a granter. */
export interface Referred {
  readonly granter: DomId;
  readonly ref: GrantRef;
}

/** The entry as it stands in the granter's table; zero beyond it. */
export function entryWord(state: State, { granter, ref }: Referred): Word {
  const perFrame = grantsPerFrame(state.geometry);
  const mfn = state.domains.get(granter)?.grants.frames[Math.floor(ref / perFrame)];
  return mfn === undefined ? ZERO_WORD : wordAt(state, mfn, ref % perFrame);
}

/** What the granter means by `gfn` now: a paravirtual guest the frame of that number. */
function meaningOf(state: State, granter: DomId, gfn: number): Ground['meant'] {
  const mfn = isParavirtual(state, granter) ? (gfn as Mfn) : entryOf(state, granter, gfn)?.mfn;
  if (mfn === undefined || mfn >= state.geometry.frameCount) return undefined;
  const { owner, incarnation } = frameOf(state, mfn);
  return { mfn, owner, incarnation };
}

/**
 * What a further use rests on. `asked`: the entry when its status bits were set for this use; undefined: it was not asked.
 * The first use lays the ground, a first writer adds to it.
 */
export function groundAfter(
  state: State,
  use: Referred & { readonly asked: Word | undefined; readonly writes: boolean },
  before: Ground | undefined,
): Ground {
  const writing = use.writes ? (use.asked ?? before?.writing) : before?.writing;
  if (before !== undefined) return writing === before.writing ? before : { ...before, writing };
  const named = entryWord(state, use);
  return { given: use.asked ?? ZERO_WORD, writing, named, meant: meaningOf(state, use.granter, named.hi) };
}
