// What is enumerated of EPT: every combination of read, write, execute and user-mode execute over all levels, and of nine bits
// on each pair of neighbouring levels (those four, page size, memory type, a reserved bit, accessed, dirty), with mode-based
// execute control and accessed and dirty flags off and on, below guests without paging and with it, for the page and for a
// table of the guest. Besides, every value of the low 12 bits and each single bit of one entry.
// A first reader may skip the entries for the guest's tables. Source: Intel SDM vol. 3C, "EPT Translation Mechanism", "EPT Violations".

import type { Word } from '#abi/address.ts';
import type { CaseOf, Poke } from '#abi/case.ts';
import { pow2 } from '#lib/bits.ts';
import { bitOf, frameWord, orWord, ZERO } from '../paging/cases-image.ts';
import type { Family, Slot } from '../paging/exhaust.ts';
import { type Kind, switched } from '../paging/exhaust-native.ts';
import {
  asPoke,
  EPT_FULL,
  eptSlot,
  levelsDown,
  type Place,
  rootFrame,
  treeOf,
  type Varying,
  X86_FULL,
} from '../paging/exhaust-slots.ts';
import {
  entryFamilies,
  fewKinds,
  guestAccesses,
  type GuestKind,
  guestParts,
  guests,
  guestTables,
  named,
  PHYS_BITS,
  placesIn,
  registersAlone,
} from './exhaust-guests.ts';

type EptLevels = 4 | 5;

/** A guest without paging has addresses of 32 bits: its frame has only the two lowest digits. */
const eptPlace = (levels: EptLevels, kind: GuestKind): Place => {
  const place = treeOf(levels === 4 ? 'four' : 'five');
  return kind === 'none' ? { ...place, frame: (place.frame % pow2(18)) + pow2(18) } : place;
};

/** Nested entries for the guest's tables: one superpage of 2 MiB, one to one, below the first entries of the upper levels. */
const eptForTables = (levels: EptLevels): readonly Poke[] => {
  const root = rootFrame(treeOf('five'), levels);
  const chain = [root, ...[0x2501, 0x2502, 0x2503].slice(0, levels - 2)];
  return chain.map((mfn, i) => {
    const next = chain[i + 1];
    const leaf = orWord(frameWord(0x2400), { lo: 0xb0, hi: 0 });
    return {
      mfn,
      index: next === undefined ? 0x12 : 0,
      word: orWord(next === undefined ? leaf : frameWord(next), EPT_FULL),
    };
  });
};

interface EptContext {
  readonly levels: EptLevels;
  readonly kind: GuestKind;
  readonly access: Kind;
  readonly on: { readonly accessedDirty: boolean; readonly modeBased: boolean };
  readonly image: readonly Poke[];
  readonly gfn: number;
  readonly maxPhysAddr?: number;
  readonly page1Gb?: boolean;
}

function eptContext(of: EptContext): CaseOf<'vmx'> {
  const { levels, on, image } = of;
  const { registers, access } = guestParts({ ...of, ac: false });
  const eptp = { lo: 6 + (levels - 1) * 8 + (on.accessedDirty ? 64 : 0), hi: 0 };
  return {
    ...named,
    engine: 'vmx',
    registers: {
      ...registers,
      maxPhysAddr: of.maxPhysAddr ?? PHYS_BITS,
      page1Gb: of.page1Gb === false ? 'absent' : 'present',
      eptp: orWord(frameWord(rootFrame(treeOf('five'), levels)), eptp),
      modeBasedExecute: on.modeBased ? 'on' : 'off',
    },
    access,
    image,
  };
}

const EPT_RIGHTS: readonly Word[] = [bitOf(0), bitOf(1), bitOf(2), bitOf(10)];
const EPT_RULES: readonly Word[] = [...EPT_RIGHTS, bitOf(7), bitOf(4), bitOf(51), bitOf(8), bitOf(9)];

const modesOfEpt = switched(['accessedDirty', 'modeBased']);

/** A family of one tree: some levels vary, the others are full. */
function eptFamily(
  name: string,
  tree: {
    readonly levels: EptLevels;
    readonly leaf: number;
    readonly kinds: readonly GuestKind[];
    readonly at: readonly number[];
  },
  varying: Varying,
): readonly Family[] {
  const { levels, leaf, kinds, at } = tree;
  return kinds.map((kind) => {
    const place = eptPlace(levels, kind);
    const slotAt = (level: number, bits: Varying): Slot => eptSlot({ level, leaf, place }, bits);
    const full = levelsDown(levels, leaf).filter((level) => !at.includes(level));
    const image = [
      ...full.map((level) => asPoke(slotAt(level, { bits: [] }))),
      ...(kind === 'none' ? [] : eptForTables(levels)),
      ...guestTables(kind, place.frame),
    ];
    const contexts = modesOfEpt.flatMap((on) =>
      guestAccesses([kind]).map(({ access }) => eptContext({ levels, kind, access, on, image, gfn: place.frame })),
    );
    const slots = at.map((level) => slotAt(level, varying));
    const guest = kind === 'none' ? 'guest without paging' : `${kind} page of a guest`;
    return { name: `${name}, ${guest}`, contexts, slots, signatureOf: registersAlone };
  });
}

const eptRights = (): readonly Family[] =>
  ([4, 5] as const).flatMap((levels) =>
    [1, 2, 3].flatMap((leaf) =>
      eptFamily(
        `EPT rights, ${levels} levels, leaf at level ${leaf}`,
        { levels, leaf, kinds: guests, at: levelsDown(levels, leaf) },
        { bits: EPT_RIGHTS },
      ),
    ),
  );

const eptPairs = (): readonly Family[] =>
  ([4, 5] as const).flatMap((levels) =>
    levelsDown(levels, 2).flatMap((level) =>
      eptFamily(
        `EPT pairs, ${levels} levels, levels ${level} and ${level - 1}`,
        { levels, leaf: 1, kinds: guests, at: [level, level - 1] },
        { bits: EPT_RULES },
      ),
    ),
  );

/** The nested rights of the guest's lowest table, with the flags of its entry set and clear. */
function eptGuestTable(): readonly Family[] {
  const place: Place = { ...treeOf('four'), frames: [0x2401, 0x1000, 0, 0x2000, 0x2001] };
  const page: readonly Poke[] = [
    { mfn: rootFrame(treeOf('five'), 4), index: 1, word: orWord(frameWord(0x2504), EPT_FULL) },
    { mfn: 0x2504, index: 0, word: orWord(frameWord(0x2505), EPT_FULL) },
    { mfn: 0x2505, index: 0, word: orWord(frameWord(0x3000), orWord(EPT_FULL, { lo: 0xb0, hi: 0 })) },
  ];
  const slots = levelsDown(4, 1).map((level) => eptSlot({ level, leaf: 1, place }, { bits: EPT_RIGHTS }));
  return (['set', 'clear'] as const).map((flags) => {
    // The guest's entry at level 2 leads to its lowest table by the gfn whose nested entries are enumerated.
    const tables = guestTables('user', pow2(27), flags).map((poke) =>
      poke.mfn === 0x2402 ? { ...poke, word: orWord(frameWord(place.frame), X86_FULL) } : poke,
    );
    const contexts = modesOfEpt.flatMap((on) =>
      guestAccesses(['user']).map(({ kind, access }) => {
        const image = [...eptForTables(4), ...page, ...tables];
        return eptContext({ levels: 4, kind, access, on, image, gfn: 0 });
      }),
    );
    // Flags of the guest's entry change in memory: it is a slot of one value, as no other walk reads it later.
    const leaf = tables.find(({ mfn }) => mfn === 0x2401);
    const without = contexts.map((context) => ({
      ...context,
      image: context.image.filter(({ mfn }) => mfn !== 0x2401),
    }));
    const last: readonly Slot[] =
      leaf === undefined ? [] : [{ ...leaf, choices: [leaf.word], full: leaf.word, flags: ZERO, rightsOf: () => 15 }];
    return {
      name: `EPT rights of a guest's table, flags ${flags}`,
      contexts: without,
      slots: [...slots, ...last],
      signatureOf: ({ registers, access }) => JSON.stringify([registers, access]),
    };
  });
}

const eptEntries = (): readonly Family[] =>
  ([4, 5] as const).flatMap((levels) =>
    placesIn(levels, 3).flatMap((at) => {
      const place = eptPlace(levels, 'none');
      const image = levelsDown(levels, at.leaf)
        .filter((level) => level !== at.level)
        .map((level) => asPoke(eptSlot({ level, leaf: at.leaf, place }, { bits: [] })));
      const contextsOf = (maxPhysAddr: number, page1Gb: boolean): Family['contexts'] =>
        modesOfEpt.flatMap((on) =>
          fewKinds.map((access) =>
            eptContext({ levels, kind: 'none', access, on, image, gfn: place.frame, maxPhysAddr, page1Gb }),
          ),
        );
      const name = `EPT, ${levels} levels, level ${at.level}${at.leaf === at.level ? ', leaf' : ''}`;
      return entryFamilies(eptSlot({ ...at, place }, { bits: [] }), name, contextsOf);
    }),
  );

/** Everything that is enumerated of EPT. */
export const eptFamilies = (): readonly Family[] => [
  ...eptRights(),
  ...eptPairs(),
  ...eptGuestTable(),
  ...eptEntries(),
];
