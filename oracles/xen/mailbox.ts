// How a domain is asked: its mailbox lies in the machine's memory, one request at a time (kernel/mailbox.h).
// A first reader may skip this file.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Machine } from './machine.ts';

export const FRAME = 4096;
/** Where every guest sees its mailbox, then the frames of its arguments, then its code; and how many frames that is. */
export const IMAGE = {
  linear: 0x4000_0000,
  argumentsAt: 0x4000_1000,
  argumentFrames: 4,
  entry: 0x4000_5000,
  frames: 7,
} as const;

const MAGIC = Buffer.from('Rmailbox', 'latin1');
const AT = { asked: 8, answered: 12, kind: 16, size: 20, words: 24, result: 72 } as const;
const KIND = { hypercall: 1, load: 2, store: 3, compareExchange: 4 } as const;

export type Wanted = {
  readonly kind: keyof typeof KIND;
  readonly size?: number;
  readonly words: readonly (number | bigint)[];
};

/** A domain did not answer. */
export class Silent extends Error {}

/** A hypercall takes so long if what it wants is to be done in pieces, and the machine is busy. */
const ANSWER_MS = 10_000;

const unsigned = (value: number | bigint): bigint => BigInt.asUintN(64, BigInt(value));

/** One domain that can be asked. `frames`: where its image lies, by machine frame. */
export class Mailbox {
  readonly #machine: Machine;
  readonly frames: readonly number[];
  #asked = 0;

  constructor(machine: Machine, frames: readonly number[]) {
    this.#machine = machine;
    this.frames = frames;
    this.#asked = machine.ram.int(this.#at(AT.asked));
  }

  #at(offset: number): number {
    return (this.frames[0] ?? 0) * FRAME + offset;
  }

  /** Where byte `offset` of the arguments lies. */
  #argument(offset: number): number {
    return (this.frames[1 + Math.floor(offset / FRAME)] ?? 0) * FRAME + (offset % FRAME);
  }

  /** Lays arguments ready, which may go over several frames. */
  putArguments(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; done += FRAME)
      this.#machine.ram.write(this.#argument(done), bytes.subarray(done, done + FRAME));
  }

  /** What has become of the first `count` bytes of the arguments. */
  arguments(count: number): Buffer {
    const parts: Buffer[] = [];
    for (let done = 0; done < count; done += FRAME)
      parts.push(this.#machine.ram.read(this.#argument(done), Math.min(FRAME, count - done)));
    return Buffer.concat(parts);
  }

  post({ kind, size = 8, words }: Wanted): void {
    const bytes = Buffer.alloc(AT.result - AT.kind);
    bytes.writeUInt32LE(KIND[kind], 0);
    bytes.writeUInt32LE(size, AT.size - AT.kind);
    words.forEach((word, i) => bytes.writeBigUInt64LE(unsigned(word), AT.words - AT.kind + 8 * i));
    this.#machine.ram.write(this.#at(AT.kind), bytes);
    this.#asked += 1;
    this.#machine.ram.putInt(this.#at(AT.asked), this.#asked);
  }

  get isAnswered(): boolean {
    return this.#machine.ram.int(this.#at(AT.answered)) === this.#asked;
  }

  /** Carries out one request; the result as Xen or the memory gave it. Throws `Silent` if the domain says nothing. */
  async ask(wanted: Wanted, milliseconds = ANSWER_MS): Promise<bigint> {
    this.post(wanted);
    const until = performance.now() + milliseconds;
    for (let tries = 0; !this.isAnswered; tries += 1) {
      if (this.#machine.isOver || performance.now() > until) throw new Silent('a domain does not answer');
      if (tries > 20) await sleep(1);
    }
    return this.#machine.ram.quad(this.#at(AT.result));
  }

  /** A hypercall with arguments in the guest's memory. The result is signed, as hypercalls have it. */
  async call(number: number, words: readonly (number | bigint)[], bytes?: Uint8Array): Promise<number> {
    if (bytes !== undefined) this.putArguments(bytes);
    return Number(BigInt.asIntN(64, await this.ask({ kind: 'hypercall', words: [number, ...words] })));
  }
}

const START_MS = 60_000;

/** The mailbox of the control domain, once it runs. Its image lies in one piece; copies of it do not answer. */
export async function controlMailbox(machine: Machine, bytes: number): Promise<Mailbox> {
  const until = performance.now() + START_MS;
  const tried = new Map<number, Mailbox>();
  while (!machine.isOver && performance.now() < until) {
    for (const box of tried.values()) if (box.isAnswered) return box;
    const memory = machine.ram.read(0, bytes);
    for (let at = 0; at < bytes; at += FRAME) {
      if (!memory.subarray(at, at + MAGIC.length).equals(MAGIC) || tried.has(at)) continue;
      const frames = Array.from({ length: IMAGE.frames }, (_, i) => at / FRAME + i);
      const box = new Mailbox(machine, frames);
      box.post({ kind: 'load', words: [IMAGE.linear] });
      tried.set(at, box);
    }
    await sleep(50);
  }
  throw new Silent(`the hypervisor does not start:\n${machine.console.split('\n').slice(-5).join('\n')}`);
}
