// Which machine frame a trace means by a place or a role: looked up in the live model once, when a step starts, for both sides.
// A first reader may skip it.

import type { Mfn } from '#abi/address.ts';
import type { Geometry } from '#abi/geometry.ts';
import type { FrameOperand, GfnOperand, Label } from '#abi/operand.ts';
import type { Op } from '#abi/operation.ts';
import type { Reply } from '#abi/reply.ts';
import type { ActStep } from '#abi/trace.ts';
import { entryOf, frameOf, type State } from '#model/state.ts';
import { answersFrom, gfnOfPath, resolveOp } from './resolve.ts';

type AtPlace = Extract<FrameOperand, { readonly gfn: GfnOperand }>;

const gfnIn = (geometry: Geometry, gfn: GfnOperand): number | undefined =>
  'path' in gfn ? gfnOfPath(geometry, gfn.path) : 'raw' in gfn ? gfn.raw : undefined;

/** The lowest frame of a paravirtual guest that is said to be at one of its gfns. */
function lowestAt(state: State, domain: number, gfn: number): Mfn | undefined {
  return state.frames
    .keys()
    .map((mfn) => mfn as Mfn)
    .find((mfn) => frameOf(state, mfn).owner === domain && frameOf(state, mfn).pseudo === gfn);
}

function atPlace(state: State, { domain, gfn: operand }: AtPlace): Mfn | undefined {
  const gfn = gfnIn(state.geometry, operand);
  if (gfn === undefined) return undefined;
  return state.domains.get(domain)?.kind === 'pv' ? lowestAt(state, domain, gfn) : entryOf(state, domain, gfn)?.mfn;
}

/** The frame that an operand means in `state`; undefined: none. */
export function frameIn(state: State, frame: FrameOperand): Mfn | undefined {
  if ('gfn' in frame) return atPlace(state, frame);
  if (!('special' in frame)) return undefined;
  const domain = state.domains.get(frame.domain);
  if (frame.special === 'sharedInfo') return domain?.sharedInfo;
  if (frame.special === 'grantFrame') return domain?.grants.frames[frame.index];
  return frame.special === 'xen' ? domain?.structure : undefined;
}

/** The operation of a step as both sides execute it in `state`. */
export const resolvedIn = (
  state: State,
  { op, label }: ActStep,
  replyTo: (label: Label) => Reply | undefined,
): Op<'concrete'> =>
  resolveOp(op, {
    geometry: state.geometry,
    label,
    ...answersFrom(replyTo),
    frameAt: (frame) => frameIn(state, frame),
  });
