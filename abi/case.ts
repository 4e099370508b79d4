// The second shape beside Trace: a memory image, registers, and one access. Malformed entries cannot be reached through
// a correct hypervisor; cases reach them. Oracles of hardware speak Case.
// Which registers there are and what an access says is a table, as operations are: a new engine (a paging mode, an IOMMU)
// is one row, and decoding, printing and types follow.

import type { Word } from './address.ts';
import type { Arguments, Fields } from './field.ts';
import type { GeometryName } from './geometry.ts';

/** Raised whenever the meaning of a stored case changes; decoding refuses every other version. */
export const CASE_VERSION = 1;

/** A word of the image: frame, index in the frame, value. */
export interface Poke {
  readonly mfn: number;
  readonly index: number;
  readonly word: Word;
}

/** One kind of translation: the registers it depends on and what an access names, as numbers and names. */
export interface Engine {
  /** A sentence with registers and access in braces. */
  readonly says: string;
  readonly registers: Fields;
  readonly access: Fields;
}

/** Every translation that cases can be about. */
export const engines = {
  /** An EPT walk of a guest-physical frame. Source: Intel SDM vol. 3C, "EPT Translation Mechanism", EPTP. */
  ept: {
    says: '{kind} of guest frame {frame} through EPT with root table {root}, accessed and dirty flags {accessedDirty}',
    registers: {
      /** The mfn of the root table. */
      root: { type: 'int', min: 0, max: 2 ** 40 - 1 },
      accessedDirty: { type: 'oneOf', values: ['off', 'on'] },
    },
    access: {
      kind: { type: 'oneOf', values: ['read', 'write', 'fetch'] },
      frame: { type: 'int', min: 0, max: 2 ** 52 - 1 },
    },
  },
} as const satisfies Readonly<Record<string, Engine>>;

export type EngineName = keyof typeof engines;

/** One access to be translated against an image, by engine. */
export type Case = {
  readonly [E in EngineName]: {
    /** Which translation. */
    readonly engine: E;
    readonly version: typeof CASE_VERSION;
    readonly geometry: GeometryName;
    readonly registers: Arguments<(typeof engines)[E]['registers'], 'concrete'>;
    readonly access: Arguments<(typeof engines)[E]['access'], 'concrete'>;
    /** Words that are not 0. The last of several pokes of one word holds. */
    readonly image: readonly Poke[];
  };
}[EngineName];

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
