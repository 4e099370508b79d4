// What can be seen in Xen's own tables: for every frame its record (owner, counts, type), the machine-to-physical table, and a
// domain's nested tables. Nothing is asked of Xen for it. Addresses of the tables are those of the 4.17 layout; where a domain's
// root lies is found by trying, because it is no part of any interface.
// A first reader may skip `Roots`. Sources: Xen asm/config.h (layout), asm/mm.h (struct page_info, PGC_*, PGT_*), mm/p2m-pt.c (types).

import { FRAME } from './mailbox.ts';
import { MEMORY_BYTES, type Ram } from './machine.ts';
import { bitsOf } from './quads.ts';

const FRAMES = MEMORY_BYTES / FRAME;

/** Slots of the root table: of Xen's linear map of tables, and where the tables that are read here begin. */
const SLOT = { linear: 258, inverse: 261, direct: 262 } as const;
const slotStart = (slot: number): bigint => 0xffff_0000_0000_0000n + BigInt(slot) * 2n ** 39n;
const INVERSE_MAP = slotStart(SLOT.inverse);
const DIRECT_MAP = slotStart(SLOT.direct);
const FRAME_TABLE = DIRECT_MAP - 2n ** 37n;
const RECORD_BYTES = 32;

/** Entries of page tables. */
const isPresent = (entry: bigint): boolean => bitsOf(entry, 0, 1) === 1;
const isLarge = (entry: bigint): boolean => bitsOf(entry, 7, 1) === 1;
const frameIn = (entry: bigint): number => bitsOf(entry, 12, 40);

/** One frame as its record has it. */
export interface FrameSeen {
  readonly mfn: number;
  readonly owner: number;
  readonly allocated: boolean;
  /** Whether it comes from the hypervisor's own heap: shared info, grant frames. */
  readonly special: boolean;
  readonly count: number;
  readonly type: number;
  readonly typeCount: number;
  /** Where the inverse map says that its owner sees it; -1: nowhere. */
  readonly gfn: number;
}

/** Types of entries by their number in Xen (asm/p2m.h, p2m_type_t), those that occur here. */
const p2mNames: Readonly<Record<number, string>> = {
  0: 'ramRw', 2: 'ramLogDirty', 3: 'ramRo', 5: 'mmioDirect', 7: 'grantRw', 8: 'grantRo', 14: 'foreign',
}; // prettier-ignore

/** One entry of a domain's nested tables. */
export interface EntrySeen {
  readonly gfn: number;
  readonly mfn: number;
  readonly type: string;
}

/** Aligned for arrays of wider elements, whatever the pool of buffers gives. */
const aligned = (bytes: Uint8Array): ArrayBuffer => {
  const copy = new Uint8Array(bytes.length);
  copy.set(bytes);
  return copy.buffer;
};

const ints = (bytes: Uint8Array): Uint32Array => new Uint32Array(aligned(bytes));
const readQuads = (ram: Ram, at: number, bytes: number): BigUint64Array =>
  new BigUint64Array(aligned(ram.read(at, bytes)));

/** The root table of some PV domain: it maps itself in the slot of the linear map. */
function someRoot(ram: Ram): number {
  for (let frame = 1; frame < FRAMES; frame += 1) {
    const entry = ram.quad(frame * FRAME + 8 * SLOT.linear);
    if (isPresent(entry) && frameIn(entry) === frame) return frame;
  }
  throw new Error('no root table is found in the memory of the machine');
}

/** The machine address behind an address of Xen's; undefined: none. */
function translate(ram: Ram, root: number, address: bigint): number | undefined {
  let table = root;
  for (let level = 4; level >= 1; level -= 1) {
    const shift = 12 + 9 * (level - 1);
    const entry = ram.quad(table * FRAME + 8 * bitsOf(address, shift, 9));
    if (!isPresent(entry)) return undefined;
    if (level === 1 || isLarge(entry)) {
      const first = frameIn(entry) - (frameIn(entry) % 2 ** (shift - 12));
      return first * FRAME + bitsOf(address, 0, shift);
    }
    table = frameIn(entry);
  }
  return undefined;
}

/** A run of memory that is one piece for Xen, and perhaps several in the machine. */
class Pieces {
  readonly #ram: Ram;
  readonly #runs: { readonly at: number; bytes: number }[] = [];

  constructor(ram: Ram, root: number, of: { readonly address: bigint; readonly bytes: number }) {
    this.#ram = ram;
    for (let done = 0; done < of.bytes; done += FRAME) {
      const at = translate(ram, root, of.address + BigInt(done));
      if (at === undefined) throw new Error('a table of the hypervisor is not where it should be');
      const last = this.#runs.at(-1);
      if (last !== undefined && last.at + last.bytes === at) last.bytes += FRAME;
      else this.#runs.push({ at, bytes: FRAME });
    }
  }

  read(): Buffer {
    return Buffer.concat(this.#runs.map(({ at, bytes }) => this.#ram.read(at, bytes)));
  }
}

const bit = (n: number): number => 2 ** n;
/** Bits of a record's words, as numbers of their high halves (bits 32 to 63). */
const COUNT = { allocated: bit(63 - 32), special: bit(62 - 32), lowBits: 57 - 32 } as const;
const TYPE = { from: 61 - 32, lowBits: 55 - 32 } as const;

const has = (word: number, flag: number): boolean => Math.floor(word / flag) % 2 === 1;

/** What is seen at one moment. `structures`: where each owner's domain structure lies, by domain. */
export interface Seen {
  /** Frames of all domains but the control domain, ascending. */
  readonly frames: readonly FrameSeen[];
  readonly structures: ReadonlyMap<number, number>;
}

const FIRST_RESERVED = 0x7ff0;

/** Sees the tables of one machine. The frame table stays where it is from one snapshot to the next. */
export class Sight {
  readonly #ram: Ram;
  readonly #records: Pieces;
  readonly #inverse: Pieces;
  #roots: { readonly domain: number; readonly p2m: number } | undefined;

  constructor(ram: Ram) {
    this.#ram = ram;
    const root = someRoot(ram);
    this.#records = new Pieces(ram, root, { address: FRAME_TABLE, bytes: FRAMES * RECORD_BYTES });
    this.#inverse = new Pieces(ram, root, { address: INVERSE_MAP, bytes: FRAMES * 8 });
  }

  see(): Seen {
    const records = ints(this.#records.read());
    const inverse = ints(this.#inverse.read());
    const ids = new Map<number, number>();
    const structures = new Map<number, number>();
    const frames: FrameSeen[] = [];
    for (let mfn = 0, at = 0; mfn < FRAMES; mfn += 1, at += RECORD_BYTES / 4) {
      const domain = records[at + 6] ?? 0;
      if (domain === 0 || domain >= FRAMES) continue;
      const [low = 0, high = 0, typeLow = 0, typeHigh = 0] = records.subarray(at + 2, at + 6);
      const count = low + (high % bit(COUNT.lowBits)) * bit(32);
      if (count === 0) continue;
      const owner = ids.get(domain) ?? this.#ram.read(domain * FRAME, 2).readUInt16LE();
      ids.set(domain, owner);
      if (owner === 0 || owner >= FIRST_RESERVED) continue;
      structures.set(owner, domain);
      const [gfnLow = 0, gfnHigh = 0] = inverse.subarray(2 * mfn, 2 * mfn + 2);
      frames.push({
        mfn,
        owner,
        allocated: has(high, COUNT.allocated),
        special: has(high, COUNT.special),
        count,
        type: Math.floor(typeHigh / bit(TYPE.from)),
        typeCount: typeLow + (typeHigh % bit(TYPE.lowBits)) * bit(32),
        gfn: gfnHigh < bit(20) ? gfnLow + gfnHigh * bit(32) : -1,
      });
    }
    return { frames, structures };
  }

  /** Finds where domain structures have their nested root, by one of them and an entry that the domain is known to have. */
  learn(structure: number, known: { readonly gfn: number; readonly mfn: number }): void {
    const words = readQuads(this.#ram, structure * FRAME, FRAME);
    let best = Infinity;
    for (const [i, pointer] of words.entries()) {
      const at = Number(pointer - DIRECT_MAP);
      if (pointer < DIRECT_MAP || at >= MEMORY_BYTES - 256 || at % 8 !== 0) continue;
      const inside = readQuads(this.#ram, at, 256);
      // It names its domain before its root. Other pointers lead into what lies before it: from the right one it is nearest.
      const owner = inside.indexOf(DIRECT_MAP + BigInt(structure * FRAME));
      const found = inside.findIndex(
        (root) => root > 0n && root < FRAMES && this.#look(Number(root), known.gfn) === known.mfn,
      );
      if (owner < 0 || found < owner || owner >= best) continue;
      best = owner;
      this.#roots = { domain: 8 * i, p2m: 8 * found };
    }
    if (this.#roots === undefined) throw new Error('the nested tables of a domain are not found');
  }

  get hasLearnt(): boolean {
    return this.#roots !== undefined;
  }

  #look(root: number, gfn: number): number | undefined {
    let table = root;
    for (let level = 4; level >= 1; level -= 1) {
      const span = 512 ** (level - 1);
      const entry = this.#ram.quad(table * FRAME + 8 * (Math.floor(gfn / span) % 512));
      if (!isPresent(entry) || frameIn(entry) >= FRAMES) return undefined;
      if (level === 1 || isLarge(entry)) return frameIn(entry) + (level === 1 ? 0 : gfn % span);
      table = frameIn(entry);
    }
    return undefined;
  }

  /** Everything that the nested tables of a domain map, ascending. A dying domain may have none. */
  entries(structure: number): EntrySeen[] {
    if (this.#roots === undefined) return [];
    const pointer = this.#ram.quad(structure * FRAME + this.#roots.domain);
    const at = Number(pointer - DIRECT_MAP);
    const root = pointer < DIRECT_MAP || at >= MEMORY_BYTES ? 0 : Number(this.#ram.quad(at + this.#roots.p2m));
    const found: EntrySeen[] = [];
    if (root > 0 && root < FRAMES) this.#walk({ table: root, level: 4, gfn: 0 }, found);
    return found;
  }

  #walk(at: { readonly table: number; readonly level: number; readonly gfn: number }, found: EntrySeen[]): void {
    const span = 512 ** (at.level - 1);
    const table = readQuads(this.#ram, at.table * FRAME, FRAME);
    for (const [i, entry] of table.entries()) {
      if (!isPresent(entry)) continue;
      const gfn = at.gfn + i * span;
      const mfn = frameIn(entry);
      if (at.level > 1 && !isLarge(entry)) {
        if (mfn < FRAMES) this.#walk({ table: mfn, level: at.level - 1, gfn }, found);
        continue;
      }
      const type = p2mNames[bitsOf(entry, 52, 7)];
      if (type === undefined) continue;
      const first = at.level === 1 ? mfn : mfn - (mfn % span);
      for (let page = 0; page < span; page += 1) found.push({ gfn: gfn + page, mfn: first + page, type });
    }
  }
}
