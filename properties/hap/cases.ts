// Nested walks judged one by one: a memory image, a root, one access. Images hold what no correct hypervisor writes
// (reserved bits, odd memory types, misaligned superpages, loops), so cases reach what traces cannot.
// Stored cases are about EPT; images of either format are made and judged alike, and the tests judge both.
// A first reader may skip `imageOf`, which makes images whose entries mostly lead somewhere.
// Sources: Intel SDM vol. 3C, "EPT Translation Mechanism", "EPT Misconfigurations", "EPT Violations"; AMD64 APM vol. 2,
// "Nested Paging", "Long-Mode Page Translation".

import type { Gfn, Mfn, Word } from '#abi/address.ts';
import { nptBits } from '#abi/hap.ts';
import { CASE_VERSION, type CaseOf, type Poke } from '#abi/case.ts';
import { geometries, gfnCount, tableEntries, type Geometry, type GeometryName } from '#abi/geometry.ts';
import { TRACE_VERSION, type Header } from '#abi/trace.ts';
import type { TableFormat } from '#abi/vendor.ts';
import { bit, or } from '#lib/bits.ts';
import type { Prng } from '#lib/prng.ts';
import type { Machine } from '#impl/machine.ts';
import { walkNested, type Walk } from '#model/hap/walk.ts';
import type { CaseLaw, Problem } from '../harness/law.ts';
import { clean, type Subject } from '../harness/subject.ts';

/** A case without saying of which format its tables are. */
type Image = Omit<CaseOf<'ept'>, 'version' | 'engine'>;

const headerFor = (format: TableFormat, geometry: GeometryName): Header => ({
  version: TRACE_VERSION,
  geometry,
  vendor: format === 'npt' ? 'amd' : 'intel',
  width: {},
  pcpus: 1,
  iommus: [],
  flush: 'eager',
  scrub: 'always',
  scrubAt: 'free',
  superpages: true,
  domains: [],
});

const ONES: Word = { lo: 0xffff_ffff, hi: 0xffff_ffff };
const ZERO: Word = { lo: 0, hi: 0 };

/** The image as the architecture's walker reads it: words not poked are 0, and where there is no memory there are ones. */
function readerOf(geometry: Geometry, image: readonly Poke[]): (mfn: Mfn, index: number) => Word {
  const words = new Map(image.map(({ mfn, index, word }) => [mfn * geometry.wordsPerFrame + index, word]));
  return (mfn, index) => (mfn < geometry.frameCount ? (words.get(mfn * geometry.wordsPerFrame + index) ?? ZERO) : ONES);
}

const wordOf = (walk: Walk): string =>
  walk.kind === 'frame'
    ? `frame ${walk.mfn}, rights ${walk.rights}, level ${walk.level}`
    : `${walk.kind} at level ${walk.level}`;

/** What the implementation's walker makes of a case. Memory is put back. */
function fastWalk(m: Machine, one: Image): string {
  const { memory } = m.f;
  const { wordsPerFrame, frameCount } = m.geometry;
  const pokes = one.image.filter(({ mfn, index }) => mfn < frameCount && index < wordsPerFrame);
  const put = ({ mfn, index, word }: Poke): void => {
    memory.set(2 * (mfn * wordsPerFrame + index), word.lo);
    memory.set(2 * (mfn * wordsPerFrame + index) + 1, word.hi);
  };
  for (const poke of pokes) put(poke);
  const { walker } = m;
  walker.walk(one.registers.root, one.access.frame);
  const { outcome, mfn, rights, level } = walker;
  for (const poke of pokes) put({ ...poke, word: ZERO });
  return outcome === 'frame' ? `frame ${mfn}, rights ${rights}, level ${level}` : `${outcome} at level ${level}`;
}

/** A machine whose memory is all zero: the hypervisor's own frame too. */
function blank(subject: Subject, format: TableFormat, name: GeometryName): Machine {
  const m = subject.create(headerFor(format, name));
  for (let i = 0; i < m.f.memory.length; i += 1) m.f.memory.set(i, 0);
  return m;
}

const machines = (subject: Subject, format: TableFormat): ((name: GeometryName) => Machine) => {
  const made = new Map<GeometryName, Machine>();
  return (name) => {
    const known = made.get(name) ?? blank(subject, format, name);
    made.set(name, known);
    return known;
  };
};

/** The architecture's walk of an image. */
function walkOf(format: TableFormat, { geometry: name, image, registers, access }: Image): Walk {
  const geometry = geometries[name];
  const from = { root: registers.root as Mfn, gfn: access.frame as Gfn };
  return walkNested({ format, geometry }, readerOf(geometry, image), from);
}

/** How the architecture's walk of an image ends. */
export const endOf = (format: TableFormat, one: Image): Walk['kind'] => walkOf(format, one).kind;

/** A judge of images of one format with machines of its own, so that a law holds no state between suites. */
export function imageJudge(format: TableFormat, subject: Subject = clean): (one: Image) => Problem | undefined {
  const machineOf = machines(subject, format);
  return (one) => {
    const expected = wordOf(walkOf(format, one));
    const actual = fastWalk(machineOf(one.geometry), one);
    if (expected === actual) return undefined;
    const sentence = `the fast walker comes to ${actual}, the architecture's to ${expected}`;
    return { invariant: 'WALK', mechanism: 'hap', field: 'case.walk', sentence, expected, actual };
  };
}

/** Where an entry leads: mostly to another frame of the image, else to where a superpage could lie, or just anywhere. */
function targetOf(prng: Prng, geometry: Geometry, frames: readonly number[]): number {
  const aligned = Math.floor(prng.below(geometry.frameCount) / tableEntries(geometry)) * tableEntries(geometry);
  if (prng.chance(3, 4)) return prng.pick(frames);
  return prng.chance(1, 2) ? aligned : prng.below(geometry.frameCount + 2);
}

/** An EPT entry with bits that matter set at random. */
function eptEntry(prng: Prng, target: number): Word {
  const rights = prng.chance(3, 4) ? 7 : prng.below(8);
  let low = or(target * 4096, rights);
  if (prng.chance(1, 4)) low = or(low, bit(7));
  if (prng.chance(1, 4)) low = or(low, prng.chance(2, 3) ? 6 * 8 : prng.below(8) * 8);
  if (prng.chance(1, 16)) low = or(low, bit(prng.below(12)));
  return { lo: low, hi: prng.chance(1, 16) ? bit(prng.below(32)) : 0 };
}

/** An NPT entry with bits that matter set at random: present, writable and for users mostly, and the reserved ones seldom. */
function nptEntry(prng: Prng, target: number): Word {
  const flags = prng.chance(3, 4) ? 7 : prng.below(8);
  let low = or(target * 4096, flags);
  if (prng.chance(1, 4)) low = or(low, bit(nptBits.superpage));
  if (prng.chance(1, 8)) low = or(low, bit(nptBits.superpageMemoryType));
  if (prng.chance(1, 16)) low = or(low, bit(nptBits.global));
  if (prng.chance(1, 16)) low = or(low, bit(prng.below(14)));
  const high = prng.chance(1, 16) ? bit(prng.below(32)) : 0;
  return { lo: low, hi: prng.chance(1, 4) ? or(high, bit(nptBits.noExecute)) : high };
}

const entryMakers: Readonly<Record<TableFormat, (prng: Prng, target: number) => Word>> = {
  ept: eptEntry,
  npt: nptEntry,
};

/** A random case of an EPT walk. */
export const caseOf = (prng: Prng): CaseOf<'ept'> => ({
  version: CASE_VERSION,
  engine: 'ept',
  ...imageOf(prng, 'ept'),
});

/** A random image of tables of one format, and an access through them. */
export function imageOf(prng: Prng, format: TableFormat): Image {
  const entryOf = entryMakers[format];
  const name: GeometryName = prng.chance(1, 4) ? 'x86' : 'tiny';
  const geometry = geometries[name];
  const frames = Array.from({ length: 2 + prng.below(5) }, () => prng.below(geometry.frameCount));
  const indices = Array.from({ length: 3 }, () => prng.below(tableEntries(geometry)));
  const image = frames.flatMap((mfn) =>
    indices.map((index) => ({ mfn, index, word: entryOf(prng, targetOf(prng, geometry, frames)) })),
  );
  const path = Array.from({ length: geometry.levels }, () => prng.pick(indices));
  const frame = path.reduce((sum, digit) => sum * tableEntries(geometry) + digit, 0);
  return {
    geometry: name,
    registers: { root: prng.pick(frames), accessedDirty: prng.chance(1, 2) ? 'on' : 'off' },
    image,
    access: {
      kind: prng.pick(['read', 'write', 'fetch'] as const),
      frame: prng.chance(1, 32) ? gfnCount(geometry) + prng.below(4) : frame,
    },
  };
}

export const caseLaws: readonly CaseLaw[] = [
  {
    kind: 'case',
    id: 'hap/walkersAgree',
    invariant: 'WALK',
    statement: 'On any memory image the fast walker and the architecture\'s walker come to the same end.', // prettier-ignore
    judge: (one) => (one.engine === 'ept' ? imageJudge('ept')(one) : undefined),
  },
];
