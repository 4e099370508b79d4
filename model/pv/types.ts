// What a frame is used as, and by how many. Only with a count of 0 can that be changed; who takes the first use of a frame as
// something else has all processors forget what they knew of it, and then finds what it holds fit, before anybody else may use it.
// A first reader may skip `validate`. Sources: Xen arch/x86/mm.c (_get_page_type, _put_page_type, _put_final_page_type,
// validate_page, devalidate_page).

import type { Mfn } from '#abi/address.ts';
import { levelOfType } from '#abi/pv.ts';
import { tableEntries } from '#abi/geometry.ts';
import { invariant } from '#lib/invariant.ts';
import { wait } from '../cut.ts';
import { rightsOfFrame } from '../entitlement.ts';
import { frameOf, withFrame, type State, type TableProgress } from '../state.ts';
import { flushType, rememberType } from './flush.ts';
import { countMax, linearMax, usesOf } from './references.ts';
import type { Effect, Performers } from './effect.ts';
import type { Item } from './work.ts';

type TypeActs =
  | 'getType' | 'flushType' | 'setValidated' | 'putType' | 'putPartial' | 'park' | 'clearCount' | 'validate' | 'useLinear' | 'addLinear' | 'dropLinear'; // prettier-ignore

/** A partial table is gone on with; who asks for it holds it, so the reference that it has by itself goes at once. */
function takeUp(state: State, mfn: Mfn, { entries, holds }: TableProgress): Effect {
  const { type, refs } = frameOf(state, mfn);
  return {
    state: withFrame(state, mfn, { partial: undefined, refs: refs - 1 }),
    first: [{ do: 'takeRest', mfn, level: levelOfType(type), index: entries, holds, isFirst: true }],
  };
}

export const types: Performers<TypeActs> = {
  getType: (state, { mfn, type }): Effect => {
    const frame = frameOf(state, mfn);
    const uses = usesOf(frame);
    if (uses === countMax(state)) return { state, failed: 'EINVAL' };
    if (uses > 0) {
      if (frame.type !== type) return { state, failed: 'EINVAL' };
      if (frame.partial !== undefined) return takeUp(state, mfn, frame.partial);
      return frame.validated ? { state: withFrame(state, mfn, { typeCount: frame.typeCount + 1 }) } : wait();
    }
    const validate: Item = { do: 'validate', mfn };
    if (frame.type === type) return { state: withFrame(state, mfn, { typeCount: 1 }), first: [validate] };
    const typed = withFrame(state, mfn, { type, typeCount: 1, validated: false });
    return {
      state: rememberType(typed, mfn, rightsOfFrame(frame.type, state.policies)),
      first: [{ do: 'flushType', mfn }, validate],
    };
  },

  flushType: (state, { mfn }) => ({ state: flushType(state, mfn) }),

  setValidated: (state, { mfn }) => ({ state: withFrame(state, mfn, { validated: true }) }),

  validate: (state, { mfn }): Effect => {
    const { validated, type } = frameOf(state, mfn);
    const level = levelOfType(type);
    if (validated) return { state };
    if (type === 'descriptors') return { state, first: [{ do: 'checkDescriptors', mfn }] };
    if (level === 0) return { state, first: [{ do: 'setValidated', mfn }] };
    return { state, first: [{ do: 'takeRest', mfn, level, index: 0, isFirst: true }] };
  },

  // A frame that others of its level lead to is only ever used as what it is by then, and has no such entries itself.
  useLinear: (state, { mfn, type }): Effect => {
    const frame = frameOf(state, mfn);
    const isFit = frame.type === type && frame.validated && frame.typeCount < countMax(state);
    if (!isFit || frame.linear > 0 || frame.linear === -linearMax(state) - 1) return { state, failed: 'EINVAL' };
    return { state: withFrame(state, mfn, { typeCount: frame.typeCount + 1, linear: frame.linear - 1 }) };
  },

  addLinear: (state, { mfn }): Effect => {
    const { linear } = frameOf(state, mfn);
    if (linear < 0 || linear === linearMax(state)) return { state, failed: 'EINVAL' };
    return { state: withFrame(state, mfn, { linear: linear + 1 }) };
  },

  dropLinear: (state, { mfn }) => ({ state: withFrame(state, mfn, { linear: frameOf(state, mfn).linear - 1 }) }),

  putType: (state, { mfn, isLinear }): Effect => {
    const { locked, type, typeCount, linear: old } = frameOf(state, mfn);
    const linear = isLinear === true ? old + 1 : old;
    invariant(typeCount > 0, 'only a type that was taken is let go of');
    if (locked && typeCount === 1) return wait();
    const level = levelOfType(type);
    if (level === 0 || typeCount > 1) return { state: withFrame(state, mfn, { typeCount: typeCount - 1, linear }) };
    const last = tableEntries(state.geometry) - 1;
    const order = level === 1 ? ({ index: 0, by: 1 } as const) : ({ index: last, by: -1, isFirst: true } as const);
    return {
      state: withFrame(state, mfn, { validated: false, linear }),
      first: [
        { do: 'dropRest', mfn, level, ...order },
        { do: 'clearCount', mfn, forgets: false },
      ],
    };
  },

  // Whoever took it up meanwhile has the use that it had by itself.
  putPartial: (state, { mfn }): Effect => {
    const { partial, type } = frameOf(state, mfn);
    if (partial === undefined) return { state };
    const { entries, holds } = partial;
    const first = { mfn, level: levelOfType(type), index: holds ? entries : entries - 1, holds };
    return {
      state: withFrame(state, mfn, { partial: undefined }),
      first: [
        { do: 'dropRest', ...first, by: -1, isFirst: true, keeps: true },
        { do: 'clearCount', mfn, forgets: false },
        { do: 'putPage', mfn },
      ],
    };
  },

  park: (state, { mfn, entries, holds, keeps, errno }) => ({
    state: withFrame(state, mfn, {
      partial: { entries, holds },
      refs: frameOf(state, mfn).refs + (keeps ? 0 : 1),
    }),
    failed: errno,
    parked: errno === 'restart' ? undefined : mfn,
  }),

  // No processor walks a table that nobody refers to: whoever let go of it has had them flushed, or has left their root.
  clearCount: (state, { mfn, forgets }) => ({
    state: withFrame(state, mfn, forgets ? { type: 'none', typeCount: 0 } : { typeCount: 0 }),
  }),
};
