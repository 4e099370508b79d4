// The guest above enumerated nested tables: none of its own translation, or 4-level tables that never refuse, in frames
// 0x2401..0x2404 of its memory, which nested entries of their own map one to one; its accesses; and what is enumerated of one
// nested entry alone. A first reader may skip this file.
// Sources: Intel SDM vol. 3C, "Extended-Page-Table Mechanism"; AMD APM vol. 2, "Nested Paging".

import type { Word } from '#abi/address.ts';
import { CASE_VERSION, type CaseOf, type Poke } from '#abi/case.ts';
import { bitOf, frameWord, linearOf, orWord, ZERO } from '../paging/cases-image.ts';
import { CR0 } from '../paging/cases-registers.ts';
import type { Family, Slot } from '../paging/exhaust.ts';
import { accessKinds, controlsFor, type Kind, withOneBitOff } from '../paging/exhaust-native.ts';
import { asPoke, combinations, guestTree, levelsDown, rootFrame, x86Slot } from '../paging/exhaust-slots.ts';

/** How the guest translates before the nested tables do. */
export const guests = ['none', 'user', 'supervisor'] as const;
export type GuestKind = (typeof guests)[number];

/** Width of physical addresses, unless it is what varies: enough for five digits. */
export const PHYS_BITS = 50;
const OFFSET = 0x120;

/** The guest's own tables, whole and full; its page is `gfn`. Flags of the leaf are set unless they are to be. */
export function guestTables(kind: GuestKind, gfn: number, flags: 'set' | 'clear' = 'set'): readonly Poke[] {
  if (kind === 'none') return [];
  return levelsDown(4, 1).map((level) => {
    const poke = asPoke(x86Slot('four', { level, leaf: 1, place: guestTree }, { bits: [] }));
    if (level > 1) return poke;
    const rights = kind === 'user' ? 7 : 3;
    return { ...poke, word: orWord(frameWord(gfn), { lo: rights + (flags === 'set' ? 0x60 : 0), hi: 0 }) };
  });
}

interface GuestOf {
  readonly kind: GuestKind;
  readonly access: Kind;
  readonly gfn: number;
  readonly ac: boolean;
}

/** Registers of the guest and its access. SMEP and SMAP are off, so that the guest's own tables never refuse. */
export function guestParts({ kind, access, gfn, ac }: GuestOf): Pick<CaseOf<'native'>, 'registers' | 'access'> {
  const hasPaging = kind !== 'none';
  return {
    registers: {
      ...(hasPaging ? controlsFor('four', { wp: true, nxe: true }) : { cr0: CR0.pe, cr4: 0, efer: 0 }),
      cr3: hasPaging ? frameWord(rootFrame(guestTree, 4)) : ZERO,
      pkru: 0,
      pkrs: 0,
      maxPhysAddr: PHYS_BITS,
      page1Gb: 'present',
      pdptes: [],
    },
    access: {
      ...access,
      ac: ac ? 'set' : 'clear',
      linear: linearOf(hasPaging ? guestTree.frame : gfn, OFFSET),
      size: 4,
    },
  };
}

/** Guests and accesses of theirs that the guest's own tables allow. */
export const guestAccesses = (guestKinds: readonly GuestKind[]): readonly { kind: GuestKind; access: Kind }[] =>
  guestKinds.flatMap((kind) =>
    accessKinds
      .filter(({ privilege }) => kind !== 'supervisor' || privilege !== 'user')
      .map((access) => ({ kind, access })),
  );

export const named = { version: CASE_VERSION, geometry: 'x86' } as const;
/** Walks are as long for every access of the same registers: the guest's own tables allow all of them. */
export const registersAlone = ({ registers }: { readonly registers: object }): string => JSON.stringify(registers);

const lowBits = Array.from({ length: 12 }, (_, n) => bitOf(n));
const withoutLow = ({ lo, hi }: Word): Word => ({ lo: lo - (lo % 4096), hi });
/** Kinds of access that find most of what one entry can say. */
export const fewKinds = accessKinds.filter(({ kind, privilege }) => privilege === 'user' && kind !== 'readModifyWrite');
const widths = Array.from({ length: 17 }, (_, n) => 36 + n);

/** Every value of the low 12 bits, and every other bit for every width of addresses that reaches the page. */
export function entryFamilies(
  slot: Slot,
  name: string,
  contextsOf: (width: number, page1Gb: boolean) => Family['contexts'],
): readonly Family[] {
  const low = [true, false].flatMap((page1Gb) => contextsOf(PHYS_BITS, page1Gb));
  const single = widths.flatMap((width) => contextsOf(width, true));
  return [
    {
      name: `low bits, ${name}`,
      contexts: low,
      slots: [{ ...slot, choices: combinations(withoutLow(slot.full), lowBits) }],
      signatureOf: registersAlone,
    },
    {
      name: `single bits, ${name}`,
      contexts: single,
      slots: [{ ...slot, choices: withOneBitOff(slot.full), flags: ZERO }],
      signatureOf: registersAlone,
    },
  ];
}

/** Every place of one entry, those of superpages up to level `large` too. */
export const placesIn = (top: number, large: number): readonly { readonly level: number; readonly leaf: number }[] => [
  ...levelsDown(top, 1).map((level) => ({ level, leaf: 1 })),
  ...levelsDown(large, 2).map((level) => ({ level, leaf: level })),
];
