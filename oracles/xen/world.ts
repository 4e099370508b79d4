// Xen with a control domain that can be asked, and the domains that it makes by hypercalls alone. A running domain has frames
// that the model knows nothing of: the image that does what it is asked, and the tables that it runs on. They lie far away from
// everything that sequences name, and are taken off all counts.
// Source: Xen common/domctl.c, arch/x86/domctl.c (what creates a domain).

import { MEMORY_BYTES, Machine } from './machine.ts';
import type { Built } from './build.ts';
import { controlMailbox, FRAME, IMAGE, Mailbox, Silent } from './mailbox.ts';
import type { Words } from './compare.ts';
import { HIDDEN_FRAMES, HIDDEN_GFN, TABLES } from './place.ts';
import { addressOf } from './quads.ts';
import { type EntrySeen, type FrameSeen, type Seen, Sight } from './sight.ts';
import {
  type Creation,
  creation,
  DOMCTL,
  domctl,
  GRANT,
  HYPERCALL,
  hvmContext,
  MEMORY,
  reservation,
  structure,
} from './wire.ts';

const ENTRY = { table: 0x7n, page: 0x67n, large: 0xe7n } as const;

/** A domain that can be asked, and its frames that count for nothing. */
interface Guest {
  readonly box: Mailbox;
  readonly hidden: ReadonlySet<number>;
}

/** What can be compared with the model. */
export interface Look {
  readonly frames: readonly FrameSeen[];
  readonly entries: readonly (EntrySeen & { readonly domain: number })[];
}

/** The machine frames of the hidden gfns of `domain`, in order. */
function hiddenFrames({ frames }: Seen, domain: number): readonly number[] {
  const byGfn = new Map(frames.flatMap(({ owner, gfn, mfn }) => (owner === domain ? [[gfn, mfn] as const] : [])));
  return Array.from({ length: HIDDEN_FRAMES }, (_, i) => byGfn.get(HIDDEN_GFN + i) ?? 0);
}

export class World {
  readonly machine: Machine;
  readonly sight: Sight;
  readonly control: Mailbox;
  readonly guests = new Map<number, Guest>();
  readonly #image: Uint8Array;

  private constructor(of: { machine: Machine; control: Mailbox; image: Uint8Array }) {
    this.machine = of.machine;
    this.control = of.control;
    this.#image = of.image;
    this.sight = new Sight(of.machine.ram);
  }

  /** Starts the machine and keeps it as it stands before there is a domain. */
  static async start(built: Built): Promise<World> {
    const machine = new Machine(built);
    try {
      const control = await controlMailbox(machine, MEMORY_BYTES);
      await machine.save('fresh');
      return new World({ machine, control, image: built.guest });
    } catch (error) {
      machine.close();
      throw error;
    }
  }

  /** Xen's version as its console says it: the distribution's, if there is one. */
  get version(): string {
    const said = /Xen version ([\d.]+)(?: \(Debian ([^)]+)\))?/u.exec(this.machine.console);
    return said?.[2] ?? said?.[1] ?? 'unknown';
  }

  /** Back to where there is no domain. */
  async reset(): Promise<void> {
    await this.machine.load('fresh');
    this.guests.clear();
  }

  close(): void {
    this.machine.close();
  }

  domctl(command: number, domain: number, fields?: Parameters<typeof domctl>[2], by = this.control): Promise<number> {
    return by.call(HYPERCALL.domctl, [IMAGE.argumentsAt], domctl(command, domain, fields));
  }

  /** Creates a domain with its vCPUs and limits, still paused. What Xen answers; 0: done. */
  async create(domain: number, of: Creation & { readonly maxPages: number }, by = this.control): Promise<number> {
    const created = await by.call(HYPERCALL.domctl, [IMAGE.argumentsAt], creation(domain, of));
    if (created !== 0) return created;
    const given = await this.domctl(DOMCTL.maxVcpus, domain, [[4, 0, of.vcpus]], by);
    return given === 0 ? this.limit(domain, of.maxPages, by) : given;
  }

  limit(domain: number, pages: number, by = this.control): Promise<number> {
    return this.domctl(DOMCTL.maxMem, domain, [[8, 0, (pages + this.hiddenIn(domain)) * 4]], by);
  }

  /** Lets the grant table of a domain have so many frames. */
  async growGrants(domain: number, frames: number): Promise<void> {
    const call = structure(24, [
      [2, 0, domain],
      [4, 4, frames],
      [8, 16, IMAGE.argumentsAt + 64],
    ]);
    this.#check(await this.control.call(HYPERCALL.grantTableOp, [GRANT.setupTable, IMAGE.argumentsAt, 1], call));
  }

  /** How many frames of a domain sequences know nothing of. */
  hiddenIn(domain: number): number {
    return this.guests.has(domain) ? HIDDEN_FRAMES : 0;
  }

  /** A domain has been torn down: its hidden frames are anybody's. */
  buried(domain: number): void {
    this.guests.delete(domain);
  }

  /** The words of a frame that are not zero. */
  words(mfn: number): Words {
    const bytes = this.machine.ram.read(mfn * FRAME, FRAME);
    const found: [number, number, number][] = [];
    for (let i = 0; i < FRAME / 8; i += 1) {
      const lo = bytes.readUInt32LE(8 * i);
      const hi = bytes.readUInt32LE(8 * i + 4);
      if (lo !== 0 || hi !== 0) found.push([i, lo, hi]);
    }
    return found;
  }

  /** What there is to see, hidden frames left out, and what every domain's nested tables map. */
  look(): Look {
    const seen = this.sight.see();
    const isHidden = (domain: number, mfn: number): boolean => this.guests.get(domain)?.hidden.has(mfn) === true;
    const entries = [...seen.structures].flatMap(([domain, at]) =>
      this.sight
        .entries(at)
        .filter(({ gfn }) => gfn < HIDDEN_GFN || gfn >= HIDDEN_GFN + HIDDEN_FRAMES)
        .map((entry) => ({ ...entry, domain })),
    );
    return { frames: seen.frames.filter(({ owner, mfn }) => !isHidden(owner, mfn)), entries };
  }

  /** Gives a domain that was just created what it runs on, and lets vCPU 0 begin there. */
  async inhabit(domain: number, maxPages: number): Promise<void> {
    this.#check(await this.domctl(DOMCTL.maxMem, domain, [[8, 0, (maxPages + HIDDEN_FRAMES) * 4]]));
    const list = Buffer.alloc(8 * HIDDEN_FRAMES);
    for (let i = 0; i < HIDDEN_FRAMES; i += 1) list.writeBigUInt64LE(BigInt(HIDDEN_GFN + i), 8 * i);
    const head = reservation({ start: IMAGE.argumentsAt + 32, count: HIDDEN_FRAMES, order: 0, domain });
    const words = [MEMORY.populate, IMAGE.argumentsAt];
    const populated = await this.control.call(HYPERCALL.memoryOp, words, Buffer.concat([head, list]));
    if (populated !== HIDDEN_FRAMES) throw new Silent(`Xen populates ${populated} hidden frames of domain ${domain}`);
    const seen = this.sight.see();
    const mfns = hiddenFrames(seen, domain);
    const structure = seen.structures.get(domain) ?? 0;
    if (!this.sight.hasLearnt) this.sight.learn(structure, { gfn: HIDDEN_GFN, mfn: mfns[0] ?? 0 });
    this.#furnish(mfns);
    const context = hvmContext({ entry: IMAGE.entry, root: (HIDDEN_GFN + IMAGE.frames) * FRAME });
    const call = domctl(DOMCTL.setHvmContext, domain, [
      [4, 0, context.length],
      [8, 8, IMAGE.argumentsAt + FRAME],
    ]);
    const both = Buffer.concat([call, Buffer.alloc(FRAME - call.length), context]);
    this.#check(await this.control.call(HYPERCALL.domctl, [IMAGE.argumentsAt], both));
    this.guests.set(domain, { box: new Mailbox(this.machine, mfns.slice(0, IMAGE.frames)), hidden: new Set(mfns) });
  }

  #check(answer: number): void {
    if (answer !== 0) throw new Silent(`Xen answers ${answer} where a domain is made`);
  }

  /** Writes image and tables. */
  #furnish(mfns: readonly number[]): void {
    const { ram } = this.machine;
    for (let i = 0; i < IMAGE.frames; i += 1) {
      const page = Buffer.alloc(FRAME);
      page.set(this.#image.subarray(i * FRAME, (i + 1) * FRAME));
      ram.write((mfns[i] ?? 0) * FRAME, page);
    }
    const gpa = (i: number): bigint => addressOf(HIDDEN_GFN + i);
    const at = (name: (typeof TABLES)[number]): number => IMAGE.frames + TABLES.indexOf(name);
    const put = (
      name: (typeof TABLES)[number],
      entries: readonly (readonly [index: number, entry: bigint])[],
    ): void => {
      const page = Buffer.alloc(FRAME);
      for (const [index, entry] of entries) page.writeBigUInt64LE(entry, 8 * index);
      ram.write((mfns[at(name)] ?? 0) * FRAME, page);
    };
    put('root', [
      [0, gpa(at('low')) + ENTRY.table],
      [1, gpa(at('flat')) + ENTRY.table],
    ]);
    put('low', [[1, gpa(at('level2')) + ENTRY.table]]);
    put('level2', [[0, gpa(at('level1')) + ENTRY.table]]);
    put(
      'level1',
      Array.from({ length: IMAGE.frames }, (_, i) => [i, gpa(i) + ENTRY.page] as const),
    );
    put(
      'flat',
      Array.from({ length: 512 }, (_, i) => [i, addressOf(i * 2 ** 18) + ENTRY.large] as const),
    );
  }
}
