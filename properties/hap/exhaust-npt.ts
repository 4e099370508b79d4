// What is enumerated of nested paging on AMD's processors: present, writable, user, no-execute over all levels and eight bits
// on each pair of neighbouring levels as of native paging, for every mode of the host, with NXE and SMEP of the host off and
// on, below guests without paging and with it. Besides, every value of the low 12 bits and each single bit of one entry.
// A first reader may skip the entries for the guest's tables. Source: AMD APM vol. 2, "Nested Paging".

import type { CaseOf, Poke } from '#abi/case.ts';
import { or, pow2 } from '#lib/bits.ts';
import { bitOf, frameWord, orWord } from '../paging/cases-image.ts';
import { CR4, EFER } from '../paging/cases-registers.ts';
import type { Family, Slot } from '../paging/exhaust.ts';
import { controlsFor, type Kind, rightsBits, ruleBits, switched } from '../paging/exhaust-native.ts';
import {
  asPoke,
  levelsDown,
  levelsOf,
  type Place,
  rootFrame,
  type TableMode,
  tableModes,
  treeOf,
  type Varying,
  X86_FULL,
  x86Slot,
} from '../paging/exhaust-slots.ts';
import {
  entryFamilies,
  fewKinds,
  guestAccesses,
  type GuestKind,
  guestParts,
  guestTables,
  named,
  PHYS_BITS,
  placesIn,
  registersAlone,
} from './exhaust-guests.ts';

interface NptContext {
  readonly host: TableMode;
  readonly kind: GuestKind;
  readonly access: Kind;
  readonly nxe: boolean;
  readonly smep: boolean;
  readonly image: readonly Poke[];
  readonly gfn: number;
  readonly maxPhysAddr?: number;
  readonly page1Gb?: boolean;
}

function nptContext(of: NptContext): CaseOf<'svm'> {
  const { host, image } = of;
  const { registers, access } = guestParts({ ...of, ac: false });
  const { cr0, cr4, efer } = controlsFor(host, { wp: true, nxe: of.nxe, smep: of.smep, pse: true });
  return {
    ...named,
    engine: 'svm',
    registers: {
      ...registers,
      efer: or(registers.efer, EFER.svme),
      maxPhysAddr: of.maxPhysAddr ?? PHYS_BITS,
      page1Gb: of.page1Gb === false ? 'absent' : 'present',
      nestedCr3: frameWord(rootFrame(treeOf(host), levelsOf[host])),
      hostCr0: cr0,
      hostCr4: or(cr4, CR4.pge),
      hostEfer: or(efer, EFER.svme),
    },
    access,
    image,
  };
}

const nptPlace = (host: TableMode, kind: GuestKind): Place => {
  const place = treeOf(host);
  const isLong = host === 'four' || host === 'five';
  return kind === 'none' && isLong ? { ...place, frame: (place.frame % pow2(18)) + pow2(18) } : place;
};

/** As `eptForTables`, in the host's format; the legacy one has superpages of 4 MiB, and the entry in the high half of a word. */
function nptForTables(host: TableMode): readonly Poke[] {
  const root = rootFrame(treeOf(host), levelsOf[host]);
  const leaf = orWord(frameWord(0x2400), { lo: 0xe7, hi: 0 });
  if (host === 'legacy') return [{ mfn: root, index: 4, word: { lo: 0, hi: leaf.lo } }];
  const chain = [root, ...[0x2501, 0x2502, 0x2503].slice(0, levelsOf[host] - 2)];
  return chain.map((mfn, i) => {
    const next = chain[i + 1];
    if (next === undefined) return { mfn, index: 0x12, word: leaf };
    return { mfn, index: 0, word: orWord(frameWord(next), host === 'pae' ? bitOf(0) : X86_FULL) };
  });
}

function nptFamily(
  name: string,
  tree: { readonly host: TableMode; readonly leaf: number; readonly at: readonly number[] },
  varying: Varying,
): readonly Family[] {
  const { host, leaf, at } = tree;
  return (['none', 'user'] as const).map((kind) => {
    const place = nptPlace(host, kind);
    const slotAt = (level: number, bits: Varying): Slot => x86Slot(host, { level, leaf, place }, bits);
    const full = levelsDown(levelsOf[host], leaf).filter((level) => !at.includes(level));
    const image = [
      ...full.map((level) => asPoke(slotAt(level, { bits: [] }))),
      ...(kind === 'none' ? [] : nptForTables(host)),
      ...guestTables(kind, place.frame),
    ];
    const contexts = switched(['nxe', 'smep']).flatMap((on) =>
      guestAccesses([kind]).map(({ access }) => nptContext({ host, kind, access, ...on, image, gfn: place.frame })),
    );
    const guest = kind === 'none' ? 'guest without paging' : `${kind} page of a guest`;
    return {
      name: `${name}, ${guest}`,
      contexts,
      slots: at.map((level) => slotAt(level, varying)),
      signatureOf: registersAlone,
    };
  });
}

const nptTrees = (): readonly Family[] =>
  tableModes.flatMap((host) => [
    ...(host === 'four' || host === 'five' ? [1, 2, 3] : [1, 2]).flatMap((leaf) => {
      const at = levelsDown(levelsOf[host], leaf);
      return nptFamily(`NPT rights, ${host}, leaf at level ${leaf}`, { host, leaf, at }, { bits: rightsBits(host) });
    }),
    ...levelsDown(levelsOf[host], 2).flatMap((level) => {
      const at = [level, level - 1];
      const name = `NPT pairs, ${host}, levels ${level} and ${level - 1}`;
      return nptFamily(name, { host, leaf: 1, at }, { bits: ruleBits(host, 51) });
    }),
  ]);

const nptEntries = (): readonly Family[] =>
  tableModes.flatMap((host) =>
    placesIn(levelsOf[host], host === 'four' || host === 'five' ? 3 : 2).flatMap((at) => {
      const place = nptPlace(host, 'none');
      const image = levelsDown(levelsOf[host], at.leaf)
        .filter((level) => level !== at.level)
        .map((level) => asPoke(x86Slot(host, { level, leaf: at.leaf, place }, { bits: [] })));
      const contextsOf = (maxPhysAddr: number, page1Gb: boolean): Family['contexts'] =>
        [false, true].flatMap((nxe) =>
          fewKinds.map((access) =>
            nptContext({ host, kind: 'none', access, nxe, smep: false, image, gfn: place.frame, maxPhysAddr, page1Gb }),
          ),
        );
      const name = `NPT, ${host}, level ${at.level}${at.leaf === at.level ? ', leaf' : ''}`;
      return entryFamilies(x86Slot(host, { ...at, place }, { bits: [] }), name, contextsOf);
    }),
  );

/** Everything that is enumerated of NPT. */
export const nptFamilies = (): readonly Family[] => [...nptTrees(), ...nptEntries()];
