// Trees of page tables laid along the way of an address: entries that exist are followed, those that do not are made.
// Two trees nest by their `place`: where a guest's table lies is where the nested tree leads, which is laid when asked.
// A first reader may skip the narrow entries. Source: Intel SDM vol. 3A, "Paging" (index bits of each mode).

import type { Word } from '#abi/address.ts';
import { pow2 } from '#lib/bits.ts';
import type { Prng } from '#lib/prng.ts';
import { type Frames, type Image, liesIn, type Role, ZERO } from './cases-image.ts';
import { type Format, isGibLeaf, orderAt } from './cases-formats.ts';

/** One tree: its format, its root, and whence its frames come. */
export interface Tree {
  readonly format: Format;
  readonly root: number;
  /** Words before the first entry of the root: PAE's root is 32 bytes somewhere in a frame. */
  readonly rootOffset: number;
  readonly frames: Frames;
  readonly image: Image;
  readonly prng: Prng;
  /** The mfn of a frame of this tree's space that holds a table; undefined if nothing leads there. */
  readonly place: (frame: number) => number | undefined;
  /** For emulators: entries that also serve the lowest frames are plain, and superpages of 1 GiB lead to memory. */
  readonly oracle: boolean;
  /** Frames below this are on the way of the emulator's code, where `oracle`. */
  readonly plainBelow: number;
  /** How often a table is an old one. */
  readonly reuse: readonly [number, number];
}

/** An entry in the image: its word, and for narrow ones which half of it. */
interface Place {
  readonly mfn: number;
  readonly index: number;
  readonly half: 'whole' | 'low' | 'high';
}

const indexIn = (format: Format, level: number, frame: number): number =>
  Math.floor(frame / pow2(orderAt(format, level))) % pow2(format.indexBits);

const placeIn = (tree: Tree, mfn: number, level: number, frame: number): Place => {
  const { format, rootOffset } = tree;
  const index = indexIn(format, level, frame);
  if (format.isNarrow) return { mfn, index: Math.floor(index / 2), half: index % 2 === 0 ? 'low' : 'high' };
  return { mfn, index: level === format.levels ? (rootOffset + index) % 512 : index, half: 'whole' };
};

function readEntry(image: Image, { mfn, index, half }: Place): Word | undefined {
  const word = image.read(mfn, index);
  if (word === undefined || half === 'whole') return word;
  const lo = half === 'low' ? word.lo : word.hi;
  // Of two narrow entries one may not be made yet; made ones are hardly ever 0.
  return lo === 0 ? undefined : { lo, hi: 0 };
}

function writeEntry(image: Image, { mfn, index, half }: Place, entry: Word): void {
  const old = image.read(mfn, index) ?? ZERO;
  const made = half === 'low' ? { lo: entry.lo, hi: old.hi } : { lo: old.lo, hi: entry.lo };
  image.write(mfn, index, half === 'whole' ? entry : made);
}

/** A new entry at `level` for `frame`, whose superpages have frames of `role`. */
function entryFor(tree: Tree, level: number, to: { readonly frame: number; readonly role: Role }): Word {
  const { format, prng, frames, oracle } = tree;
  const order = orderAt(format, level);
  const isPlain = oracle && level > 1 && Math.floor(to.frame / pow2(order)) * pow2(order) < tree.plainBelow;
  const mayBeLarge = !isPlain && (!oracle || !isGibLeaf(format, level) || liesIn(to.role, to.frame));
  const isLeaf = level === 1 || (mayBeLarge && prng.chance(format.leafOf(level), 16));
  // A leaf that leads to a table is how software edits its tables.
  const isSelfMap = !oracle && level === 1 && prng.chance(1, 24);
  const frame = isSelfMap ? frames.someTable() : isLeaf ? frames.fresh(to.role, order) : frames.table(tree.reuse);
  return format.make(prng, { level, isLeaf, frame, isPlain });
}

/** Lays the way of frame number `frame`; answers the frame it leads to, undefined if it ends before. */
export function lay(tree: Tree, frame: number, role: Role): number | undefined {
  const { format, image } = tree;
  let table = tree.root;
  for (let level = format.levels; level >= 1; level -= 1) {
    const mfn = tree.place(table);
    if (mfn === undefined) return undefined;
    const place = placeIn(tree, mfn, level, frame);
    const entry = readEntry(image, place) ?? entryFor(tree, level, { frame, role });
    writeEntry(image, place, entry);
    if (!format.isPresent(entry)) return undefined;
    const next = format.frameOf(entry, level);
    if (format.isLeaf(entry, level)) return next + (frame % pow2(orderAt(format, level)));
    table = next;
  }
  return undefined;
}
