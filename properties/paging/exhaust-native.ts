// What is enumerated of native paging: (a) every combination of present, writable, user and no-execute over all levels; (b)
// every combination of eight bits on each pair of neighbouring levels: those four, accessed, dirty, page size, and one that is
// reserved; both in every context of WP, SMEP, SMAP, AC, NXE, privilege and kind of access. Besides, protection keys with
// both key registers; every value of the low 12 bits of one entry; and each single bit of one entry for every width of
// physical addresses.
//
// A first reader may skip the making of registers. Source: Intel SDM vol. 3A, "Paging".

import type { Word } from '#abi/address.ts';
import { CASE_VERSION, type CaseOf, type Poke } from '#abi/case.ts';
import { or, pow2 } from '#lib/bits.ts';
import { bitOf, frameWord, hasBit, linearOf, orWord, withoutWord, ZERO } from './cases-image.ts';
import { CR0, CR4, EFER, isLong } from './cases-registers.ts';
import type { Family, Slot } from './exhaust.ts';
import {
  asPoke,
  combinations,
  levelsDown,
  levelsOf,
  NX,
  rootFrame,
  type TableMode,
  tableModes,
  treeOf,
  type Varying,
  x86Slot,
} from './exhaust-slots.ts';

type Native = CaseOf<'native'>;

/** The switches of a context. */
export interface Switches {
  readonly wp?: boolean;
  readonly smep?: boolean;
  readonly smap?: boolean;
  readonly nxe?: boolean;
  readonly pke?: boolean;
  readonly pks?: boolean;
  readonly pse?: boolean;
}

const when = (isSet: boolean | undefined, mask: number): number => (isSet === true ? mask : 0);

/** Control registers for a mode. */
export const controlsFor = (mode: TableMode, on: Switches): Pick<Native['registers'], 'cr0' | 'cr4' | 'efer'> => ({
  cr0: [CR0.pe, CR0.pg, when(on.wp, CR0.wp)].reduce(or),
  cr4: [
    when(mode !== 'legacy', CR4.pae),
    when(on.pse ?? true, CR4.pse),
    when(mode === 'five', CR4.la57),
    when(on.smep, CR4.smep),
    when(on.smap, CR4.smap),
    when(on.pke, CR4.pke),
    when(on.pks, CR4.pks),
  ].reduce(or),
  efer: or(when(isLong(mode), EFER.lme), when(on.nxe, EFER.nxe)),
});

type Access = Native['access'];
export type Kind = Pick<Access, 'kind' | 'privilege'>;

/** Explicit accesses of all kinds, and the data accesses that the processor makes by itself. */
export const accessKinds: readonly Kind[] = [
  ...(['supervisor', 'user'] as const).flatMap((privilege) =>
    (['read', 'write', 'fetch', 'readModifyWrite'] as const).map((kind) => ({ kind, privilege })),
  ),
  { kind: 'read', privilege: 'implicit' },
  { kind: 'write', privilege: 'implicit' },
];

/** All values of some switches. */
export const switched = <K extends string>(names: readonly K[]): readonly Readonly<Record<K, boolean>>[] =>
  names.reduce<readonly Readonly<Record<string, boolean>>[]>(
    (all, name) => all.flatMap((one) => [false, true].map((value) => ({ ...one, [name]: value }))),
    [{}],
  ) as readonly Readonly<Record<K, boolean>>[];

const OFFSET = 0x120;

interface ContextOf {
  readonly mode: TableMode;
  readonly on: Switches & { readonly ac?: boolean };
  readonly access: Kind;
  readonly image: readonly Poke[];
  readonly registers?: Partial<Native['registers']>;
}

function contextOf({ mode, on, access, image, registers }: ContextOf): Native {
  const place = treeOf(mode);
  return {
    engine: 'native',
    version: CASE_VERSION,
    geometry: 'x86',
    registers: {
      ...controlsFor(mode, on),
      cr3: frameWord(rootFrame(place, levelsOf[mode])),
      pkru: 0,
      pkrs: 0,
      maxPhysAddr: 46,
      page1Gb: 'present',
      pdptes: [],
      ...registers,
    },
    access: { ...access, ac: on.ac === true ? 'set' : 'clear', linear: linearOf(place.frame, OFFSET), size: 4 },
    image,
  };
}

const registersAlone = ({ registers }: { readonly registers: object }): string => JSON.stringify(registers);

const family = (name: string, contexts: readonly Native[], slots: readonly Slot[]): Family => ({
  name,
  contexts,
  slots,
  signatureOf: registersAlone,
});

/** 320 contexts: five switches and ten kinds of access. */
const everyContext = (mode: TableMode, image: readonly Poke[]): readonly Native[] =>
  switched(['wp', 'smep', 'smap', 'nxe', 'ac']).flatMap((on) =>
    accessKinds.map((access) => contextOf({ mode, on, access, image })),
  );

/** Levels at which a mode may have leaves. */
const leavesOf = (mode: TableMode): readonly number[] => (isLong(mode) ? [1, 2, 3] : [1, 2]);

/** Present, writable, user, and where entries have it no-execute. */
export const rightsBits = (mode: TableMode): readonly Word[] => [
  bitOf(0),
  bitOf(1),
  bitOf(2),
  ...(mode === 'legacy' ? [] : [NX]),
];

/** The eight bits that rules are about. Entries of 4 bytes have no NX, and other reserved ones: 21 where they are large. */
export const ruleBits = (mode: TableMode, physBits: number): readonly Word[] => [
  ...rightsBits(mode),
  bitOf(5),
  bitOf(6),
  bitOf(7),
  ...(mode === 'legacy' ? [bitOf(21), bitOf(8)] : [bitOf(physBits)]),
];

const rightsFamilies = (): readonly Family[] =>
  tableModes.flatMap((mode) =>
    leavesOf(mode).map((leaf) => {
      const varying: Varying = { bits: rightsBits(mode) };
      const slots = levelsDown(levelsOf[mode], leaf).map((level) => x86Slot(mode, { level, leaf }, varying));
      return family(`rights, ${mode}, leaf at level ${leaf}`, everyContext(mode, []), slots);
    }),
  );

/** All entries of a way but those at some levels, full. */
const rest = (mode: TableMode, leaf: number, but: readonly number[]): readonly Poke[] =>
  levelsDown(levelsOf[mode], leaf)
    .filter((level) => !but.includes(level))
    .map((level) => asPoke(x86Slot(mode, { level, leaf }, { bits: [] })));

const pairFamilies = (): readonly Family[] =>
  tableModes.flatMap((mode) =>
    levelsDown(levelsOf[mode], 2).map((level) => {
      const varying: Varying = { bits: ruleBits(mode, 46) };
      const slots = [level, level - 1].map((at) => x86Slot(mode, { level: at, leaf: 1 }, varying));
      const image = rest(mode, 1, [level, level - 1]);
      return family(`pairs, ${mode}, levels ${level} and ${level - 1}`, everyContext(mode, image), slots);
    }),
  );

/** The key that is used; its two bits in a key register. */
const KEY = 5;

/** A key register that forbids access (1), writing (2), both or neither for the key, and everything for its neighbours. */
const keyRegister = (forbids: number): number =>
  forbids * pow2(2 * KEY) + pow2(2 * KEY - 2) * 3 + pow2(2 * KEY + 2) * 3;

const keyFamilies = (): readonly Family[] =>
  (['four', 'five'] as const).flatMap((mode) =>
    (mode === 'four' ? [1, 2, 3] : [1]).map((leaf) => {
      const contexts = switched(['wp', 'smap', 'ac', 'smep', 'pke', 'pks']).flatMap((on) =>
        Array.from({ length: 16 }, (_, n) => ({
          pkru: keyRegister(n % 4),
          pkrs: keyRegister(Math.floor(n / 4)),
        })).flatMap((registers) =>
          accessKinds.map((access) =>
            contextOf({ mode, on: { ...on, nxe: true }, access, image: rest(mode, leaf, [leaf]), registers }),
          ),
        ),
      );
      const fixed: Word = { lo: 0, hi: KEY * pow2(27) };
      const slots = [x86Slot(mode, { level: leaf, leaf }, { bits: rightsBits(mode), fixed })];
      return family(`keys, ${mode}, leaf at level ${leaf}`, contexts, slots);
    }),
  );

/** Kinds of access that find most of what one entry can say. */
const fewKinds: readonly Kind[] = [
  { kind: 'read', privilege: 'supervisor' },
  { kind: 'write', privilege: 'supervisor' },
  { kind: 'fetch', privilege: 'user' },
  { kind: 'readModifyWrite', privilege: 'user' },
];

/** Every place of one entry: its level, and whether it is a leaf. */
const entryPlaces = (mode: TableMode): readonly { readonly level: number; readonly leaf: number }[] => [
  ...levelsDown(levelsOf[mode], 1).map((level) => ({ level, leaf: 1 })),
  ...leavesOf(mode)
    .filter((leaf) => leaf > 1)
    .map((leaf) => ({ level: leaf, leaf })),
];

const lowBits = Array.from({ length: 12 }, (_, n) => bitOf(n));

/** Words that differ from `full` in one bit. */
export const withOneBitOff = (full: Word): readonly Word[] =>
  Array.from({ length: 64 }, (_, n) => (hasBit(full, n) ? withoutWord(full, bitOf(n)) : orWord(full, bitOf(n))));

const withoutLow = (word: Word): Word => ({ lo: word.lo - (word.lo % 4096), hi: word.hi });

const entryFamilies = (): readonly Family[] =>
  tableModes.flatMap((mode) =>
    entryPlaces(mode).flatMap(({ level, leaf }) => {
      const slot = x86Slot(mode, { level, leaf }, { bits: [] });
      const image = rest(mode, leaf, [level]);
      const low = switched(['wp', 'pse', 'smap']).flatMap((on) =>
        fewKinds.map((access) => contextOf({ mode, on, access, image })),
      );
      const wide = Array.from({ length: 17 }, (_, n) => 36 + n).flatMap((maxPhysAddr) =>
        switched(['nxe', 'pse', 'page1Gb']).flatMap(({ page1Gb, ...on }) =>
          fewKinds.map((access) =>
            contextOf({ mode, on, access, image, registers: { maxPhysAddr, page1Gb: page1Gb ? 'present' : 'absent' } }),
          ),
        ),
      );
      const where = `${mode}, level ${level}${leaf === level ? ', leaf' : ''}`;
      return [
        family(`low bits, ${where}`, low, [{ ...slot, choices: combinations(withoutLow(slot.full), lowBits) }]),
        family(`single bits, ${where}`, wide, [{ ...slot, choices: withOneBitOff(slot.full), flags: ZERO }]),
      ];
    }),
  );

/** Everything that is enumerated of native paging. */
export const nativeFamilies = (): readonly Family[] => [
  ...rightsFamilies(),
  ...pairFamilies(),
  ...keyFamilies(),
  ...entryFamilies(),
];
