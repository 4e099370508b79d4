// Random cases of whole accesses, small and quick: a path of tables for one address (two if it straddles pages), over nested tables if
// there are any, with entries that are mostly plain and here and there have a bit turned. It knows formats, not rules.
// A first reader may begin at `randomCase`.

import type { Word } from '#abi/address.ts';
import { CASE_VERSION, type CaseOf, type Poke } from '#abi/case.ts';
import { bit, field, hasAll, or, without } from '#lib/bits.ts';
import { Prng } from '#lib/prng.ts';

type AccessCase = CaseOf<'native' | 'vmx' | 'svm'>;
type Processor = CaseOf<'native'>['registers'];

/** Bits of index by level from the root, and bytes of an entry; the control registers that select the format. */
interface Format {
  readonly indexBits: readonly number[];
  readonly entryBytes: 4 | 8;
  readonly cr0: number;
  readonly cr4: number;
  readonly efer: number;
}

const paged = { cr0: 0x8000_0001, cr4: 0x20, efer: 0 };
const formats = {
  none: { ...paged, indexBits: [], entryBytes: 8, cr0: 1, cr4: 0 },
  legacy: { ...paged, indexBits: [10, 10], entryBytes: 4, cr4: 0 },
  pae: { ...paged, indexBits: [2, 9, 9], entryBytes: 8 },
  four: { ...paged, indexBits: [9, 9, 9, 9], entryBytes: 8, efer: 0x100 },
  five: { ...paged, indexBits: [9, 9, 9, 9, 9], entryBytes: 8, cr4: 0x1020, efer: 0x100 },
} as const satisfies Readonly<Record<string, Format>>;

type FormatName = keyof typeof formats;
const formatNames = Object.keys(formats) as readonly FormatName[];

const wordOf = (value: number): Word => ({ lo: value % 2 ** 32, hi: Math.floor(value / 2 ** 32) });
const turned = (half: number, n: number): number => (hasAll(half, bit(n)) ? without(half, bit(n)) : or(half, bit(n)));

/** Tables to be laid: their root in bytes, and the usual flags of entries. */
interface Tables {
  readonly format: Format;
  readonly root: number;
  readonly table: number;
  readonly leaf: number;
  readonly used: number;
}

/** Lays paths into an image. */
class Layer {
  readonly prng: Prng;
  readonly nested: Tables | undefined;
  readonly #image = new Map<number, Poke>();

  constructor(prng: Prng, nested: Tables | undefined) {
    this.prng = prng;
    this.nested = nested;
  }

  get image(): readonly Poke[] {
    return [...this.#image.values()];
  }

  word(mfn: number, index: number): Word {
    return this.#image.get(mfn * 512 + index)?.word ?? { lo: 0, hi: 0 };
  }

  /** The frame of memory that a frame of the guest lies in, a path for it laid first. */
  frameBehind(frame: number): number {
    return this.nested === undefined ? frame : Math.floor(this.lay(this.nested, frame) / 4096);
  }

  /** Lays a path for the page `page` where there is none yet, and follows it; answers where it seems to lead, in bytes. */
  lay({ format, root, ...flags }: Tables, page: number): number {
    let frame = Math.floor(root / 4096);
    let within = root % 4096;
    let below = format.indexBits.reduce((sum: number, bits) => sum + bits, 0);
    for (const [depth, bits] of format.indexBits.entries()) {
      const level = format.indexBits.length - depth;
      below -= bits;
      const mfn = flags.used === EXTENDED.used || this.nested?.root === root ? frame : this.frameBehind(frame);
      const byte = within + (Math.floor(page / 2 ** below) % 2 ** bits) * format.entryBytes;
      within = 0;
      const entry = this.entryAt(mfn, byte, format, () => this.fresh(level, bits, below, flags));
      frame = field(entry.hi, 0, 20) * 2 ** 20 + Math.floor(entry.lo / 4096);
      if (level > 1 && level < 4 && bits !== 2 && hasAll(entry.lo, 0x80))
        return (frame - (frame % 2 ** below) + (page % 2 ** below)) * 4096;
    }
    return (format.indexBits.length === 0 ? page : frame) * 4096;
  }

  entryAt(mfn: number, byte: number, { entryBytes }: Format, make: () => Word): Word {
    const index = Math.floor(byte / 8);
    const old = this.word(mfn, index);
    const isUpper = entryBytes === 4 && byte % 8 === 4;
    const there = entryBytes === 8 ? old : { lo: isUpper ? old.hi : old.lo, hi: 0 };
    if (there.lo !== 0 || there.hi !== 0) return there;
    const made = make();
    const word = entryBytes === 8 ? made : isUpper ? { lo: old.lo, hi: made.lo } : { lo: made.lo, hi: old.hi };
    this.#image.set(mfn * 512 + index, { mfn, index, word });
    return entryBytes === 8 ? made : { lo: made.lo, hi: 0 };
  }

  fresh(level: number, bits: number, below: number, flags: Pick<Tables, 'table' | 'leaf' | 'used'>): Word {
    const { prng } = this;
    const isLarge = level > 1 && level < 4 && bits > 2 && prng.chance(1, 6);
    const frame = isLarge ? prng.below(64) * 2 ** below : prng.chance(1, 40) ? prng.below(0x4010) : 1 + prng.below(40);
    const plain = bits === 2 ? 1 : isLarge ? flags.leaf + 0x80 : level === 1 ? flags.leaf : flags.table;
    const used = bits !== 2 && prng.chance(1, 3) ? flags.used : 0;
    let { lo, hi } = wordOf(frame * 4096 + plain + used);
    if (prng.chance(1, 12)) lo = turned(lo, prng.below(32));
    if (prng.chance(1, 12)) hi = turned(hi, prng.below(32));
    if (prng.chance(1, 12)) lo = turned(lo, prng.below(12));
    return { lo, hi };
  }
}

const PLAIN = { table: 7, leaf: 7, used: 0x60 };
const EXTENDED = { table: 7, leaf: 0x37, used: 0x300 };

/** A page of linear addresses: mostly low ones, some in the upper half, a few that are not canonical. */
function pageIn(prng: Prng, name: FormatName): number {
  const some = prng.chance(1, 3) ? prng.next() * 2 ** 20 + prng.below(2 ** 20) : prng.below(2 ** 12);
  const width = name === 'five' ? 45 : name === 'four' ? 36 : 20;
  if (width === 20 || prng.chance(1, 40)) return width === 20 ? some % 2 ** 20 : some;
  const low = some % 2 ** (width - 1);
  return prng.chance(1, 2) ? low : 2 ** 52 - 2 ** (width - 1) + low;
}

const controlBits = [4, 7, 20, 21, 22, 24] as const;

function processorOf(prng: Prng, format: Format, cr3: Word): Processor {
  const cr4 = controlBits.reduce((sum, n) => sum + (prng.chance(1, 2) ? 2 ** n : 0), format.cr4);
  return {
    cr0: format.cr0 + (prng.chance(1, 2) ? 0x1_0000 : 0),
    cr3: { lo: cr3.lo, hi: prng.chance(1, 60) ? turned(cr3.hi, prng.below(32)) : cr3.hi },
    cr4: cr4 + (prng.chance(1, 60) ? 2 ** 17 : 0),
    efer: format.efer + (prng.chance(3, 4) ? 0x800 : 0),
    pkru: prng.chance(1, 2) ? 0 : prng.next(),
    pkrs: prng.chance(1, 2) ? 0 : prng.next(),
    maxPhysAddr: prng.pick([36, 39, 40, 46, 52]),
    page1Gb: prng.chance(3, 4) ? 'present' : 'absent',
    pdptes: [],
  };
}

const rootIn = (prng: Prng, format: Format, first: number): number =>
  (first + prng.below(40)) * 4096 + (format.indexBits[0] === 2 ? 32 * prng.below(4) : 0);

/** The case of a seed. */
export function randomCase(seed: number): AccessCase {
  const prng = new Prng(seed);
  const engine = prng.pick(['native', 'vmx', 'svm'] as const);
  const name = prng.pick(formatNames);
  const format = formats[name];
  const host =
    formats[
      engine === 'vmx' ? prng.pick(['four', 'five'] as const) : prng.pick(['legacy', 'pae', 'four', 'five'] as const)
    ];
  const nested =
    engine === 'native'
      ? undefined
      : { format: host, root: rootIn(prng, host, 41), ...(engine === 'vmx' ? EXTENDED : PLAIN) };
  const layer = new Layer(prng, nested);
  const tables = { format, root: rootIn(prng, format, 1), ...PLAIN, leaf: prng.chance(1, 3) ? 3 : 7 };
  const straddles = prng.chance(1, 4);
  const page = pageIn(prng, name);
  const pages = straddles ? [page, (page + 1) % 2 ** 52] : [page];
  for (const one of pages) layer.frameBehind(Math.floor(layer.lay(tables, one) / 4096));
  const processor = processorOf(prng, format, wordOf(tables.root));
  const mfn = name === 'pae' ? layer.frameBehind(Math.floor(tables.root / 4096)) : 0;
  const entries = [0, 1, 2, 3].map((i) => ({ entry: layer.word(mfn, Math.floor((tables.root % 4096) / 8) + i) }));
  const pdptes = name === 'pae' && (engine === 'vmx' || prng.chance(1, 3)) ? entries : [];
  const offset = straddles ? 0xffc : prng.below(0xff8);
  const shared = {
    version: CASE_VERSION,
    geometry: 'x86',
    access: {
      kind: prng.pick(['read', 'write', 'fetch', 'readModifyWrite'] as const),
      privilege: prng.pick(['supervisor', 'user', 'implicit'] as const),
      ac: prng.pick(['clear', 'set'] as const),
      linear: { lo: (page % 2 ** 20) * 4096 + offset, hi: Math.floor(page / 2 ** 20) },
      size: straddles ? 8 : 1 + prng.below(8),
    },
    image: layer.image,
  } as const;
  const base = { ...processor, pdptes };
  if (nested === undefined || engine === 'native') return { engine: 'native', ...shared, registers: base };
  const nestedRoot = wordOf(nested.root);
  if (engine === 'vmx') {
    const lo = nestedRoot.lo + (host.indexBits.length === 5 ? 0x26 : 0x1e) + (prng.chance(1, 2) ? 0x40 : 0);
    const modeBasedExecute = prng.pick(['off', 'on'] as const);
    return { engine, ...shared, registers: { ...base, eptp: { lo, hi: 0 }, modeBasedExecute } };
  }
  const hostCr4 = host.cr4 + (prng.chance(3, 4) ? 0x10 : 0) + (prng.chance(1, 2) ? 2 ** 20 : 0);
  const hostEfer = host.efer + (prng.chance(1, 2) ? 0x800 : 0);
  return { engine, ...shared, registers: { ...base, nestedCr3: nestedRoot, hostCr0: host.cr0, hostCr4, hostEfer } };
}
