// The way to the kernel's window (the lowest 2 MiB), added to the tables of a case: slot 0 of every root leads to tables of
// the kernel, or, where the case has tables of its own there, slot 0 of those. The words are part of the image from then on:
// model, implementation and emulator all run the case that has them. Accessed and dirty flags are set already.
// A case whose own tables stand in the way is skipped.

import type { Word } from '#abi/address.ts';
import { and, field, hasAll, hasAny, or } from '#lib/bits.ts';
import { CASE_FRAMES, type CaseOf, type Poke } from '#abi/case.ts';
import { type AccessCase, isLongMode } from './pack.ts';
import { CASE_FRAMES_FROM } from './pattern.ts';

/** A case with a way to the kernel, or why there is none. */
export type Routed = { readonly ok: true; readonly case: AccessCase } | { readonly ok: false; readonly reason: string };

const table = (n: number): number => 0x18_0000 + n * 0x1000;

/** A tree's format: tables of the kernel by the level of the entry that leads to them, and what such an entry says. */
interface Chain {
  readonly levels: number;
  /** The entry at level `i + 2` leads to `tables[i]`. */
  readonly tables: readonly number[];
  /** Flags of an entry of a table, and of one of a PAE root. */
  readonly flags: number;
  readonly rootFlags: number;
  /** Flags that an entry in the way must have. */
  readonly needs: number;
  readonly isNarrow: boolean;
}

const PATH = 0x27;
const wide = (levels: number): Chain => ({
  levels,
  tables: [table(0), table(1), table(2), table(3)],
  flags: PATH,
  rootFlags: levels === 3 ? 1 : PATH,
  needs: 7,
  isNarrow: false,
});
const narrow: Chain = { levels: 2, tables: [table(4)], flags: PATH, rootFlags: PATH, needs: 7, isNarrow: true };
const nestedWide = (levels: number): Chain => ({ ...wide(levels), tables: [table(5), table(6), table(7), table(8)] });
/** The nested tables of a host with 32-bit tables: the kernel's own page table does, all but its rights. */
const nestedNarrow: Chain = { ...narrow, tables: [table(9)] };
const ept = (levels: number): Chain => ({
  levels,
  tables: [table(10), table(11), table(12), table(13)],
  flags: 0x507,
  rootFlags: 0x507,
  needs: 0x407,
  isNarrow: false,
});

const CR0_PG = 2 ** 31;
const CR4 = { pse: 0x10, pae: 0x20, la57: 0x1000 } as const;
const EFER_LME = 0x100;

interface Controls {
  readonly cr0: number;
  readonly cr4: number;
  readonly efer: number;
}

/** Which format the controls select; undefined without paging. */
export function levelsOf({ cr0, cr4, efer }: Controls): 2 | 3 | 4 | 5 | undefined {
  if (!hasAny(cr0, CR0_PG)) return undefined;
  if (hasAny(efer, EFER_LME)) return hasAny(cr4, CR4.la57) ? 5 : 4;
  return hasAny(cr4, CR4.pae) ? 3 : 2;
}

/** The image while words are added. */
class Words {
  readonly #words: Map<number, Poke>;

  constructor(image: readonly Poke[]) {
    this.#words = new Map(image.map((poke) => [poke.mfn * 512 + poke.index, poke]));
  }

  get(mfn: number, index: number): Word {
    return this.#words.get(mfn * 512 + index)?.word ?? { lo: 0, hi: 0 };
  }

  set(mfn: number, index: number, word: Word): void {
    this.#words.set(mfn * 512 + index, { mfn, index, word });
  }

  get image(): readonly Poke[] {
    return [...this.#words.values()];
  }
}

const addressIn = (word: Word): number => Math.floor(word.lo / 4096) + field(word.hi, 0, 20) * 2 ** 20;
const isCaseFrame = (mfn: number): boolean => mfn >= CASE_FRAMES_FROM && mfn < CASE_FRAMES;

/** Where a tree begins: frame and word, and how its frames are found in the machine. */
interface Root {
  readonly chain: Chain;
  readonly frame: number;
  readonly index: number;
  readonly place: (frame: number) => number | undefined;
}

const TOO_LARGE = 0x80;

/** Leads slot 0 of the tree at `root` to the kernel; answers what is in the way, if anything is. */
function lead(words: Words, { chain, frame, index, place }: Root): string | undefined {
  let at = frame;
  for (let level = chain.levels; level > 1; level -= 1) {
    const mfn = place(at);
    const isRoot = level === chain.levels;
    // What nested tables do not lead to, the kernel cannot be led through either: the model will say so.
    if (mfn === undefined && isRoot) return undefined;
    // Any other way would have flags set in tables of the kernel that are not meant for this.
    if (mfn === undefined || !isCaseFrame(mfn)) return 'the way to the kernel leads elsewhere';
    const word = words.get(mfn, isRoot ? index : 0);
    const entry = chain.isNarrow ? { lo: word.lo, hi: 0 } : word;
    const isEmpty = entry.lo === 0 && entry.hi === 0;
    if (isEmpty) {
      const target = chain.tables[level - 2] ?? 0;
      const made = or(target, isRoot ? chain.rootFlags : chain.flags);
      words.set(mfn, isRoot ? index : 0, { lo: made, hi: chain.isNarrow ? word.hi : 0 });
      return undefined;
    }
    const needs = isRoot && chain.rootFlags === 1 ? 1 : chain.needs;
    const isFree = hasAll(entry.lo, needs) && field(entry.hi, 8, 24) === 0 && and(entry.lo, TOO_LARGE) === 0;
    if (!isFree) return 'the case has an entry of its own where the way to the kernel begins';
    at = addressIn(entry);
    if (at * 4096 === chain.tables[level - 2]) return undefined;
  }
  return 'the case maps the lowest addresses itself';
}

/** The frame that a nested tree gives to gfn `frame`, as far as its own entries tell: rights are not looked at. */
function follow(words: Words, { chain, frame: root, index: first, place }: Root, frame: number): number | undefined {
  let at: number | undefined = root;
  const bits = chain.isNarrow ? 10 : 9;
  for (let level = chain.levels; level >= 1; level -= 1) {
    const mfn: number | undefined = at === undefined ? undefined : place(at);
    if (mfn === undefined || !isCaseFrame(mfn)) return undefined;
    const slot = Math.floor(frame / 2 ** (bits * (level - 1))) % 2 ** bits;
    const word = words.get(mfn, chain.isNarrow ? Math.floor(slot / 2) : (level === chain.levels ? first : 0) + slot);
    const entry = chain.isNarrow ? { lo: slot % 2 === 0 ? word.lo : word.hi, hi: 0 } : word;
    if (!hasAny(entry.lo, chain.needs === 7 ? 1 : 0x407)) return undefined;
    const span = 2 ** (bits * (level - 1));
    if (level === 1 || hasAny(entry.lo, TOO_LARGE)) {
      const base =
        chain.isNarrow && level === 2
          ? field(entry.lo, 22, 10) * 2 ** 10 + field(entry.lo, 13, 8) * 2 ** 20
          : addressIn(entry);
      return Math.floor(base / span) * span + (frame % span);
    }
    at = addressIn(entry);
  }
  return undefined;
}

const identity = (frame: number): number => frame;

/** The nested tree of a case; undefined for native ones. */
function nestedRoot(one: AccessCase): Root | undefined {
  if (one.engine === 'vmx') {
    const { eptp } = one.registers;
    return { chain: ept(field(eptp.lo, 3, 3) + 1), frame: addressIn(eptp), index: 0, place: identity };
  }
  if (one.engine !== 'svm') return undefined;
  const { nestedCr3 } = one.registers;
  const levels = hostLevels(one);
  if (levels === undefined) return undefined;
  const chain = levels === 2 ? nestedNarrow : nestedWide(levels);
  return {
    chain,
    frame: addressIn(nestedCr3),
    index: levels === 3 ? field(nestedCr3.lo, 5, 7) * 4 : 0,
    place: identity,
  };
}

/** Levels of the host's tables under SVM; undefined without paging. */
export const hostLevels = ({ registers }: CaseOf<'svm'>): 2 | 3 | 4 | 5 | undefined =>
  levelsOf({ cr0: registers.hostCr0, cr4: registers.hostCr4, efer: registers.hostEfer });

/** A place in the machine's memory: frame and word. */
export interface Place {
  readonly mfn: number;
  readonly index: number;
}

/** Where page-directory-pointer tables of PAE paging begin, the guest's and the host's; four words each. */
export function pdptPlaces(one: AccessCase): readonly Place[] {
  const nested = nestedRoot(one);
  const host = nested?.chain.levels === 3 ? [{ mfn: nested.frame, index: nested.index }] : [];
  if (levelsOf(one.registers) !== 3) return host;
  const { lo } = one.registers.cr3;
  const frame = Math.floor(lo / 4096);
  const mfn = nested === undefined ? frame : follow(new Words(one.image), nested, frame);
  return mfn === undefined ? host : [...host, { mfn, index: field(lo, 5, 7) * 4 }];
}

/** Whether a word is a PDPTE of one of the tables at `places`. */
export const isPdpte = (places: readonly Place[], { mfn, index }: Place): boolean =>
  places.some((place) => place.mfn === mfn && index >= place.index && index < place.index + 4);

/** Whether a PDPTE, present or latched, has a reserved bit: 2:1, 8:5, or one from MAXPHYADDR up. */
export function hasReservedPdpte(one: AccessCase): boolean {
  const { pdptes, maxPhysAddr } = one.registers;
  const places = pdptPlaces(one);
  const inMemory = one.image.flatMap((poke) => (isPdpte(places, poke) ? [poke.word] : []));
  return [...pdptes.map(({ entry }) => entry), ...inMemory].some(
    ({ lo, hi }) => hasAny(lo, 1) && (hasAny(lo, 0x1e6) || field(hi, maxPhysAddr - 32, 64 - maxPhysAddr) !== 0),
  );
}

/** A case's image and latched PDPTEs with the way to the kernel in them. */
export function route(one: AccessCase): Routed {
  const { registers } = one;
  const words = new Words(one.image);
  const nested = nestedRoot(one);
  const levels = levelsOf(registers);
  let { pdptes } = registers;
  const blocked: string[] = [];
  const toKernel = (root: Root): void => {
    const reason = lead(words, root);
    if (reason !== undefined) blocked.push(reason);
  };
  const isLatched = levels === 3 && (one.engine === 'vmx' || (one.engine === 'native' && pdptes.length > 0));
  if (nested !== undefined) toKernel(nested);
  if (isLatched) {
    const [first, ...rest] = [
      ...pdptes,
      ...Array.from({ length: 4 - pdptes.length }, () => ({ entry: { lo: 0, hi: 0 } })),
    ];
    const own = { lo: or(table(1), 1), hi: 0 };
    const isFree = first !== undefined && (!hasAny(first.entry.lo, 1) || first.entry.lo === own.lo);
    if (!isFree) blocked.push('the case has a first PDPTE of its own');
    pdptes = [{ entry: own }, ...rest];
  } else if (levels !== undefined) {
    const chain = levels === 2 ? narrow : wide(levels);
    const index = levels === 3 ? field(registers.cr3.lo, 5, 7) * 4 : 0;
    const frame = isLongMode(one) ? addressIn(registers.cr3) : Math.floor(registers.cr3.lo / 4096);
    toKernel({ chain, frame, index, place: nested === undefined ? identity : (gfn) => follow(words, nested, gfn) });
  }
  const [reason] = blocked;
  if (reason !== undefined) return { ok: false, reason };
  return { ok: true, case: { ...one, registers: { ...registers, pdptes }, image: words.image } as AccessCase };
}
