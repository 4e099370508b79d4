// The second shape beside Trace: a memory image, registers, and one access. Malformed entries cannot be reached through
// a correct hypervisor; cases reach them. Oracles of hardware speak Case.

import type { Word } from './address.ts';
import type { GeometryName } from './geometry.ts';

/** A word of the image: frame, index in the frame, value. */
export interface Poke {
  readonly mfn: number;
  readonly index: number;
  readonly word: Word;
}

/** One access to be translated against an image. */
export interface Case {
  readonly version: 1;
  readonly geometry: GeometryName;
  /** Which translation: an EPT walk of a guest-physical address so far. */
  readonly engine: 'ept';
  /** The root as the hardware register holds it: root table and its flags. */
  readonly root: { readonly mfn: number; readonly accessedDirty: boolean };
  readonly image: readonly Poke[];
  readonly access: { readonly kind: 'read' | 'write' | 'fetch'; readonly frame: number };
}

/** What the translation of a case comes to. */
export type CaseResult =
  | {
      readonly kind: 'frame';
      readonly mfn: number;
      readonly rights: number;
      readonly level: number;
      readonly image: readonly Poke[];
    }
  | { readonly kind: 'violation'; readonly level: number; readonly qualification: number }
  | { readonly kind: 'misconfiguration'; readonly level: number };
