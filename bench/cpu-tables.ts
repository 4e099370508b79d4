// Memory, registers and accesses of the bench `cpu`: a user's pages under four levels, in a guest over extended tables if wanted, and
// random accesses to them, about one in fifty of which faults. A first reader may skip how tables are laid.

import { Prng } from '#lib/prng.ts';
import { rulesOf, type Processor } from '#impl/paging/rules.ts';

/** What is walked: how many pages, how far apart, and whether guest-physical addresses are translated again. */
export interface Scene {
  readonly pages: number;
  /** Pages from one to the next. */
  readonly stride: number;
  readonly isNested: boolean;
  readonly faults: boolean;
  /** Accesses, and how often they are gone through in one round. */
  readonly count: number;
  readonly repeats: number;
}

/** A scene laid out. */
export interface Stage {
  readonly scene: Scene;
  readonly processor: Processor;
  readonly memory: Int32Array;
  /** The root of the extended tables, in its low half. */
  readonly eptRoot: number;
  /** Four cells for each access: halves of the address, access code, use. */
  readonly accesses: Int32Array;
}

const FIRST = 0x7f00_0000_0000;
const TABLE = 0x67;
const LEAF = 0x67;
const READ_ONLY = 0x65;
const EXTENDED_TABLE = 0x307;
const EXTENDED_LEAF = 0x337;

/** 46 bits of physical address, XD, no keys: what a 64-bit system runs with. */
export const processor: Processor = {
  cr0: 0x8001_0001,
  cr3: { lo: 0, hi: 0 },
  cr4: 2 ** 5 + 2 ** 20 + 2 ** 21,
  efer: 0x900,
  pkru: 0,
  pkrs: 0,
  maxPhysAddr: 46,
  page1Gb: 'present',
  pdptes: [],
};

/** Frames of memory handed out in order, and guest frames scattered over 4 GiB. */
class Ground {
  readonly memory: Int32Array;
  readonly scene: Scene;
  readonly prng: Prng;
  eptRoot = 0;
  #next = 0;
  readonly #taken = new Set<number>();
  readonly #guestTables = new Map<number, number>();

  constructor(scene: Scene, frames: number) {
    this.memory = new Int32Array(frames * 1024);
    this.scene = scene;
    this.prng = new Prng(scene.pages);
  }

  get frames(): number {
    return this.#next;
  }

  frame(): number {
    this.#next += 1;
    return this.#next - 1;
  }

  /** A guest frame for a table that lies in a frame of memory, or for a page; without nesting they are the same. */
  guestFrame(mfn: number): number {
    if (!this.scene.isNested) return mfn;
    let gfn = this.prng.below(2 ** 20);
    while (this.#taken.has(gfn)) gfn = this.prng.below(2 ** 20);
    this.#taken.add(gfn);
    this.#guestTables.set(gfn, mfn);
    this.lay(this.eptRoot, gfn * 4096, { target: mfn, table: EXTENDED_TABLE, leaf: EXTENDED_LEAF, isGuest: false });
    return gfn;
  }

  mfnOf(frame: number): number {
    return this.#guestTables.get(frame) ?? frame;
  }

  /** Lays a path from `root` to the frame `target`. */
  lay(root: number, address: number, of: { target: number; table: number; leaf: number; isGuest: boolean }): void {
    let table = root;
    for (const shift of [39, 30, 21, 12]) {
      const cell = (of.isGuest ? this.mfnOf(table) : table) * 1024 + (Math.floor(address / 2 ** shift) % 512) * 2;
      if (shift === 12) return this.put(cell, of.target, of.leaf);
      if (this.memory[cell] === 0) {
        const mfn = this.frame();
        this.put(cell, of.isGuest ? this.guestFrame(mfn) : mfn, of.table);
      }
      table = Math.floor((this.memory[cell] as number) / 4096);
      if (table < 0) table += 2 ** 20;
    }
  }

  put(cell: number, frame: number, flags: number): void {
    this.memory[cell] = Math.imul(frame, 4096) + flags;
    this.memory[cell + 1] = Math.floor(frame / 2 ** 20);
  }
}

const addressOf = (scene: Scene, page: number): number => FIRST + page * scene.stride * 4096;

/** Half reads, three eighths writes, one eighth fetches. */
const kinds = [0, 0, 0, 0, 1, 1, 1, 2] as const;

function accessesOf(scene: Scene): Int32Array {
  const prng = new Prng(scene.count);
  const accesses = new Int32Array(4 * scene.count);
  for (let at = 0; at < accesses.length; at += 4) {
    const address = addressOf(scene, prng.below(scene.pages)) + prng.below(4096);
    const kind = kinds[prng.below(8)] as number;
    accesses.set([address % 2 ** 32, Math.floor(address / 2 ** 32), 3 * kind, [1, 2, 4][kind] as number], at);
  }
  return accesses;
}

/** Lays a scene out. Pages lie beyond memory: nobody moves data. */
export function stageOf(scene: Scene): Stage {
  const tables = 16 + Math.ceil((scene.pages * scene.stride) / 512) + (scene.isNested ? 2200 : 0);
  const ground = new Ground(scene, 2 ** Math.ceil(Math.log2(tables)));
  ground.eptRoot = scene.isNested ? ground.frame() : 0;
  const root = ground.guestFrame(ground.frame());
  for (let page = 0; page < scene.pages; page += 1) {
    const odds = scene.faults ? ground.prng.below(100) : 99;
    const leaf = odds === 0 ? 0 : odds < 3 ? READ_ONLY : LEAF;
    const target = ground.guestFrame(0x10_0000 + page);
    ground.lay(root, addressOf(scene, page), { target, table: TABLE, leaf, isGuest: true });
  }
  return {
    scene,
    processor: { ...processor, cr3: { lo: Math.imul(root, 4096) + (root >= 2 ** 19 ? 2 ** 32 : 0), hi: 0 } },
    memory: ground.memory,
    eptRoot: ground.eptRoot * 4096,
    accesses: accessesOf(scene),
  };
}

/** The rules of the registers of a stage. */
export const rulesOfStage = ({ processor: registers }: Stage) => rulesOf(registers, false);
