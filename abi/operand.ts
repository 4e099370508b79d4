// How a trace names things. Symbolic operands survive the deletion of other steps and the change of geometry;
// the harness resolves each once, for both sides, when its step starts. A dangling operand is a fixed invalid value.

import type { DomId, Gfn, GrantHandle, Mfn, Word } from './address.ts';
import type { FrameRole } from './roles.ts';

/** The permanent label of a step. */
export type Label = number;

/**
 * A guest frame number. path: index per level, root first; shorter than the geometry's levels means leading zeros,
 * digits beyond a level's range wrap. raw: any number, also one no table can map. at: the number of the machine frame that
 * is at that path of domain `of` at time of use, which is what paravirtual guests call a frame.
 */
export type GfnOperand =
  | { readonly path: readonly number[] }
  | { readonly raw: number }
  | { readonly at: readonly number[]; readonly of: DomId };

/** A machine frame: where a gfn leads at time of use, as handed out by a step, by special role, or any number. */
export type FrameOperand =
  | { readonly domain: DomId; readonly gfn: GfnOperand }
  | { readonly step: Label; readonly index: number }
  | { readonly special: FrameRole; readonly domain: DomId; readonly index: number }
  | { readonly raw: number };

/** A number that an earlier step's reply handed out (its index-th), or any number. */
export type HandedOut = { readonly step: Label; readonly index: number } | { readonly raw: number };

/** What an ordinary store writes. fresh: a tag unique to the step. The rest are literal words. */
export type Literal =
  | { readonly as: 'fresh' }
  | { readonly as: 'word'; readonly lo: number; readonly hi: number }
  | { readonly as: 'gfn'; readonly gfn: GfnOperand }
  | { readonly as: 'grantEntry'; readonly flags: number; readonly domain: DomId; readonly gfn: GfnOperand }
  /** An entry of a guest's own tables; `flags` as in abi/paging.ts, `tableFlags`. */
  | { readonly as: 'tableEntry'; readonly flags: number; readonly gfn: GfnOperand };

/** Where a hypercall finds or puts an array of 64-bit words: guest memory, or an address it must refuse. */
export type Buffer<P extends Phase> =
  | { readonly in: 'guest'; readonly gfn: Operands<P>['gfn']; readonly offset: number }
  | { readonly in: 'hypervisor' }
  | { readonly in: 'nonCanonical' }
  | { readonly in: 'null' };

/** A list of gfns: in registers (cannot fault or be raced), or an array in guest memory fetched element by element. */
export type Extents<P extends Phase> =
  | { readonly by: 'value'; readonly gfns: readonly Operands<P>['gfn'][] }
  | { readonly by: 'buffer'; readonly buffer: Buffer<P>; readonly count: number };

/** symbolic: as stored in a trace. concrete: as both sides execute it. */
export type Phase = 'symbolic' | 'concrete';

/** The types of operands that resolution changes. */
export interface Operands<P extends Phase> {
  readonly gfn: P extends 'symbolic' ? GfnOperand : Gfn;
  readonly frame: P extends 'symbolic' ? FrameOperand : Mfn;
  readonly handle: P extends 'symbolic' ? HandedOut : GrantHandle;
  readonly start: P extends 'symbolic' ? HandedOut : number;
  readonly word: P extends 'symbolic' ? Literal : Word;
}
