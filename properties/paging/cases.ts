// Random cases of whole accesses, for all modes, registers and engines: tables are laid along the way of the access, so that
// most walks get deep, with faults strewn over the way. Without `oracle` also what no emulator can be asked: states that a
// processor refuses, frames where no memory is, odd sizes.
//
// With `oracle`: tables in frames 0x1000..0x2fff, data in 0x3000..0x3fff; linear addresses from 4 MiB up; the first entry of
// the top-level table is never written (32-bit: the first two). Guest-physical addresses start at 1 GiB; where nested entries
// on their way also serve address 0, those are present, not large, and allow everything, and below them no first entry is written.
//
// A first reader may skip this file. Sources: Intel SDM vol. 3A, "Paging", vol. 3C, "Extended-Page-Table Mechanism"; AMD APM vol. 2, "Nested Paging".

import type { Word } from '#abi/address.ts';
import { CASE_FRAMES, CASE_VERSION, type CaseOf } from '#abi/case.ts';
import { and, hasAll, low32, or, pow2 } from '#lib/bits.ts';
import type { Prng } from '#lib/prng.ts';
import { eptFormat, type Format, type FormatSetting, legacyFormat, type Mood, wideFormat } from './cases-formats.ts';
import {
  bitOf,
  Frames,
  frameWord,
  GIB_ORDER,
  Image,
  linearOf,
  type Manner,
  orWord,
  WORDS,
  ZERO,
} from './cases-image.ts';
import {
  CR4,
  cr3Flags,
  EFER,
  eptpFlags,
  hostOf,
  type How,
  isLong,
  type Mode,
  modeOf,
  type Processor,
  processorOf,
  spoiled,
  spoiledEptp,
} from './cases-registers.ts';
import { lay, type Tree } from './cases-tables.ts';

/** A case that is one access to a linear address. */
export type AccessCase = CaseOf<'native' | 'vmx' | 'svm'>;
type Access = AccessCase['access'];

/** vfns of a mode: how many there are, and whether they are sign-extended to 52 bits. */
const vfnBits: Readonly<Record<Mode, number>> = { none: 20, legacy: 20, pae: 20, four: 36, five: 45 };

/** A frame number of `bits` bits: each table index now and then the first or last. */
function indices(prng: Prng, bits: number, indexBits: number): number {
  let vfn = 0;
  for (let left = bits; left > 0; left -= indexBits) {
    const span = pow2(Math.min(indexBits, left));
    const n = prng.below(12);
    vfn = vfn * span + (n === 0 ? 0 : n === 1 ? span - 1 : prng.below(span));
  }
  return vfn;
}

/** The vfn of an access. Where `oracle`, the top index is neither the first nor the last. */
function vfnFor(prng: Prng, mode: Mode, oracle: boolean): number {
  const bits = vfnBits[mode];
  const inData = prng.chance(1, oracle ? 2 : 4);
  let vfn = indices(prng, bits, mode === 'legacy' ? 10 : 9);
  const low = pow2(GIB_ORDER);
  if (inData || (mode === 'none' && oracle)) vfn = Math.floor(vfn / low) * low + 0x3000 + prng.below(0x1000);
  if (oracle) {
    const topBits = mode === 'legacy' ? 10 : mode === 'pae' || mode === 'none' ? 2 : 9;
    const first = mode === 'legacy' ? 2 : 1;
    const span = pow2(bits - topBits);
    vfn = (vfn % span) + span * (first + prng.below(pow2(topBits) - 1 - first));
  }
  const isNegative = isLong(mode) && vfn >= pow2(bits - 1);
  return isNegative ? pow2(52) - pow2(bits) + vfn : vfn;
}

/** Pages behind which addresses end: those of the address space, those of its lower half where they have a canonical form. */
const vfnAtEnd = (prng: Prng, mode: Mode): number =>
  isLong(mode) ? prng.pick([pow2(52) - 1, pow2(vfnBits[mode] - 1) - 1]) : pow2(20) - 1;

const moodFor = (prng: Prng, of: { readonly user: boolean; readonly isNested: boolean }): Mood => ({
  present: of.isNested ? 992 : 955,
  writable: prng.chance(1, 8) ? 600 : of.isNested ? 988 : 940,
  user: of.user,
  executable: prng.chance(1, 8) ? 600 : 975,
  odd: prng.chance(1, 3) ? (of.isNested ? 20 : 40) : 5,
});

const kinds = ['read', 'read', 'read', 'write', 'write', 'write', 'fetch', 'fetch', 'readModifyWrite'] as const;

/** An access without its address. */
function accessOf(prng: Prng, oracle: boolean, mode: Mode): Omit<Access, 'linear'> & { readonly straddles: boolean } {
  const kind = prng.pick(kinds);
  const isData = kind === 'read' || kind === 'write';
  const privilege = isData && prng.chance(1, 10) ? 'implicit' : prng.chance(9, 20) ? 'user' : 'supervisor';
  const sizes = oracle ? (isLong(mode) ? [1, 2, 4, 8] : [1, 2, 4]) : [1, 2, 3, 4, 5, 6, 7, 8];
  const size = oracle && kind === 'fetch' ? 1 : prng.pick(sizes);
  return {
    kind,
    privilege,
    ac: prng.chance(1, 2) ? 'set' : 'clear',
    size,
    straddles: size > 1 && prng.chance(1, 7),
  };
}

/** The format of the processor's own tables in `mode`. */
const formatOf = (mode: Exclude<Mode, 'none'>, setting: FormatSetting): Format =>
  mode === 'legacy' ? legacyFormat(setting) : wideFormat(mode === 'pae' ? 3 : mode === 'four' ? 4 : 5, setting);

/** Everything that a case is made from. */
interface Ground {
  readonly prng: Prng;
  readonly how: How;
  readonly oracle: boolean;
  readonly mode: Mode;
  readonly processor: Processor;
  readonly image: Image;
  readonly manner: Manner;
}

const settingFor = (ground: Ground, of: Processor, mood: Mood): FormatSetting => ({
  mood,
  physBits: of.maxPhysAddr,
  pse: hasAll(of.cr4, CR4.pse),
  page1Gb: of.page1Gb === 'present',
  nxe: hasAll(of.efer, EFER.nxe),
  oracle: ground.oracle,
});

const inMemory = (mfn: number | undefined): number | undefined =>
  mfn !== undefined && mfn < CASE_FRAMES ? mfn : undefined;

/** A tree of nested tables, or none; its register, too. */
interface Nested {
  readonly tree: Tree;
  /** What stands above the low 18 bits of gfns. */
  readonly highs: readonly number[];
}

/** Upper parts of gfns: few, so that nested tables are shared; within 32 bits where the tables say so. */
function highsFor(ground: Ground, bits: number): readonly number[] {
  const { prng, oracle } = ground;
  const span = pow2(Math.max(0, Math.min(bits, 28 + GIB_ORDER) - GIB_ORDER));
  const one = (): number => (oracle ? 1 + prng.below(Math.max(1, span - 1)) : prng.below(prng.chance(1, 2) ? 2 : span));
  return prng.chance(1, 2) ? [one()] : [one(), one()];
}

function treeFor(
  ground: Ground,
  of: { format: Format; frames: Frames; place: Tree['place']; rootOffset: number },
): Tree {
  const { prng, oracle, image } = ground;
  const isGuest = of.place !== inMemory;
  // Emulators' own routes start in the root, so it is no other table there.
  const root = oracle ? of.frames.fresh('table') : of.frames.table([0, 1]);
  const reuse: Tree['reuse'] = oracle && !isGuest && ground.how.engine !== 'native' ? [0, 1] : [1, 14];
  return { ...of, root, image, prng, oracle, plainBelow: 1024, reuse };
}

/** Gfns of a guest whose registers hold 32 bits of them lie below 2^20. */
const gfnBitsFor = (mode: Mode, physBits: number, hostBits: number): number =>
  Math.min(isLong(mode) ? physBits - 12 : 20, hostBits);

/** Offset of a PDPT in its frame, in words. */
const rootOffsetFor = (prng: Prng, mode: Mode): number =>
  mode === 'pae' && prng.chance(1, 2) ? 4 * prng.below(128) : 0;

interface Guest {
  readonly cr3: Word;
  readonly linear: Word;
  readonly pdptes: Processor['pdptes'];
}

/** The frames that an access touches, by their numbers. */
const touched = (mode: Mode, vfn: number, straddles: boolean): readonly number[] =>
  straddles ? [vfn, (vfn + 1) % (isLong(mode) ? pow2(52) : pow2(20))] : [vfn];

/** The four words of a PDPT, the three that the access does not use at random. */
function pdptesOf(tree: Tree, mfn: number): Processor['pdptes'] {
  const { prng, image, rootOffset } = tree;
  return [0, 1, 2, 3].map((i) => {
    const index = (rootOffset + i) % WORDS;
    const known = image.read(mfn, index);
    if (known !== undefined) return { entry: known };
    const isMade = !(tree.oracle && i === 0) && prng.chance(1, 4);
    const slot = { level: 3, isLeaf: false, frame: tree.frames.someTable(), isPlain: prng.chance(3, 4) };
    const entry = isMade ? tree.format.make(prng, slot) : ZERO;
    if (isMade) image.write(mfn, index, entry);
    return { entry };
  });
}

/** What is accessed, but for the frame number. */
interface Target {
  readonly user: boolean;
  readonly straddles: boolean;
  readonly offset: number;
}

/** Whether a PDPTE has no bit that keeps it from being loaded. */
const isPdpteLoadable = ({ lo, hi }: Word, physBits: number): boolean =>
  and(lo, 1) === 0 || (and(lo, 0x1e6) === 0 && hi < pow2(physBits - 32));

/** Lays the processor's own tables for an access; below them the nested ones. */
function guestOf(ground: Ground, nested: Nested | undefined, at: Target): Guest {
  const { prng, how, oracle, mode, processor, manner } = ground;
  let vfn = vfnFor(prng, mode, oracle);
  if (!oracle && at.straddles && prng.chance(1, 6)) vfn = vfnAtEnd(prng, mode);
  const pages = touched(mode, vfn, at.straddles);
  const linear = linearOf(vfn, at.offset);
  if (mode === 'none') {
    if (nested !== undefined) for (const gfn of pages) lay(nested.tree, gfn, 'data');
    return { cr3: ZERO, linear, pdptes: [] };
  }
  const mood = moodFor(prng, { user: at.user, isNested: false });
  const frames = new Frames(prng, manner, nested?.highs ?? [0]);
  const place = nested === undefined ? inMemory : (gfn: number) => inMemory(lay(nested.tree, gfn, 'table'));
  const format = formatOf(mode, settingFor(ground, processor, mood));
  const tree = treeFor(ground, { format, frames, place, rootOffset: rootOffsetFor(prng, mode) });
  const bits = vfnBits[mode];
  for (const page of pages) {
    const frame = lay(tree, page % pow2(bits), 'data');
    if (frame !== undefined && nested !== undefined) lay(nested.tree, frame, 'data');
  }
  const flags = mode === 'pae' ? tree.rootOffset * 8 : cr3Flags(prng, processor.cr4);
  const isNonCanonical = isLong(mode) && prng.chance(1, 50);
  if (isNonCanonical) vfn = (vfn + pow2(bits) * (1 + prng.below(pow2(52 - bits) - 1))) % pow2(52);
  const top = mode === 'pae' ? place(tree.root) : undefined;
  const entries = top === undefined ? [] : pdptesOf(tree, top);
  // An emulator has to load what is latched, so that must be possible.
  const isLoadable = entries.every(({ entry }) => isPdpteLoadable(entry, processor.maxPhysAddr));
  const mayBeLatched = how.engine === 'native' && (!oracle || isLoadable);
  const isLatched = how.engine === 'vmx' || (mayBeLatched && prng.chance(1, 4));
  return {
    cr3: orWord(frameWord(tree.root), { lo: flags, hi: 0 }),
    linear: linearOf(vfn, at.offset),
    pdptes: isLatched ? entries : [],
  };
}

/** Whether the page should be a user page, so that most accesses are allowed. */
const isUserPage = (prng: Prng, privilege: Access['privilege']): boolean =>
  privilege === 'user' ? prng.chance(9, 10) : prng.chance(3, 10);

/** What all engines share: mode, processor, access, and the guest's tables above `nested`. */
function partsOf(ground: Ground, nested: Nested | undefined) {
  const { prng, oracle } = ground;
  const { straddles, ...access } = accessOf(prng, oracle, ground.mode);
  const room = 4096 - access.size;
  const aligned = access.kind === 'fetch' && oracle ? 8 : 1;
  const offset = straddles
    ? room + 1 + prng.below(access.size - 1)
    : Math.floor(prng.below(room + 1) / aligned) * aligned;
  const user = isUserPage(prng, access.privilege);
  const guest = guestOf(ground, nested, { user, straddles, offset });
  const plain: Processor = { ...ground.processor, cr3: guest.cr3, pdptes: guest.pdptes };
  const registers = !oracle && prng.chance(1, 32) ? spoiled(prng, plain) : plain;
  return { registers, access: { ...access, linear: guest.linear }, image: ground.image.pokes() };
}

const named = { version: CASE_VERSION, geometry: 'x86' } as const;

const nativeCase = (ground: Ground): CaseOf<'native'> => ({
  ...named,
  engine: 'native',
  ...partsOf(ground, undefined),
});

const machineFrames = ({ prng, manner }: Ground): Frames => new Frames(prng, manner, [0]);

function vmxCase(ground: Ground): CaseOf<'vmx'> {
  const { prng, oracle, mode, processor } = ground;
  const levels = !oracle && prng.chance(1, 3) ? 5 : 4;
  const setting = settingFor(ground, processor, moodFor(prng, { user: prng.chance(3, 4), isNested: true }));
  const format = eptFormat(levels, setting);
  const tree = treeFor(ground, { format, frames: machineFrames(ground), place: inMemory, rootOffset: 0 });
  const highs = highsFor(ground, gfnBitsFor(mode, processor.maxPhysAddr, levels === 4 ? 36 : 40));
  const eptp = orWord(frameWord(tree.root), { lo: eptpFlags(prng, levels), hi: 0 });
  const parts = partsOf(ground, { tree, highs });
  const isSpoiled = !oracle && prng.chance(1, 64);
  return {
    ...named,
    engine: 'vmx',
    ...parts,
    registers: {
      ...parts.registers,
      eptp: isSpoiled ? spoiledEptp(prng, eptp, processor.maxPhysAddr) : eptp,
      modeBasedExecute: prng.chance(1, 3) ? 'on' : 'off',
    },
  };
}

function svmCase(ground: Ground): CaseOf<'svm'> {
  const { prng, oracle, mode, processor } = ground;
  const host = hostOf(prng, oracle);
  const nestedMode = host.mode === 'none' ? 'four' : host.mode;
  const asHost: Processor = { ...processor, cr4: host.hostCr4, efer: host.hostEfer };
  const mood = { ...moodFor(prng, { user: true, isNested: true }), user: true };
  const format = formatOf(nestedMode, settingFor(ground, asHost, mood));
  const rootOffset = rootOffsetFor(prng, nestedMode);
  const tree = treeFor(ground, { format, frames: machineFrames(ground), place: inMemory, rootOffset });
  const isNarrow = nestedMode === 'legacy' || nestedMode === 'pae';
  // Above 4 GiB there is nothing for a host with 32-bit addresses; a guest may ask all the same.
  const reach = isNarrow && (oracle || prng.chance(7, 8)) ? 20 : 40;
  const highs = highsFor(ground, gfnBitsFor(mode, processor.maxPhysAddr, reach));
  const parts = partsOf(ground, { tree, highs });
  const flags = nestedMode === 'pae' ? rootOffset * 8 : prng.chance(1, 4) ? 0x18 : 0;
  const nestedCr3 = orWord(frameWord(tree.root), { lo: flags, hi: 0 });
  const { hostCr0, hostCr4, hostEfer } = host;
  const isSpoiled = !oracle && prng.chance(1, 64);
  return {
    ...named,
    engine: 'svm',
    ...parts,
    registers: {
      ...parts.registers,
      nestedCr3: isSpoiled ? orWord(nestedCr3, bitOf(Math.min(63, processor.maxPhysAddr + prng.below(4)))) : nestedCr3,
      hostCr0,
      hostCr4: isSpoiled ? or(hostCr4, low32(pow2(prng.below(32)))) : hostCr4,
      hostEfer,
    },
  };
}

/** A random case. `oracle`: one that an emulator with 64 MiB can be asked. */
export function accessCaseOf(prng: Prng, how: How): AccessCase {
  const oracle = how.oracle === true;
  const mode = modeOf(prng, oracle);
  const processor = processorOf(prng, mode, how);
  const manner: Manner = { oracle, frameBits: processor.maxPhysAddr - 12 };
  const ground: Ground = { prng, how, oracle, mode, processor, image: new Image(), manner };
  switch (how.engine) {
    case 'native':
      return nativeCase(ground);
    case 'vmx':
      return vmxCase(ground);
    case 'svm':
      return svmCase(ground);
  }
}
