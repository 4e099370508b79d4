// The live oracle QEMU: one process per processor model, fed through a file that is the guest's memory. A batch is written at
// the mailbox, then its number; the kernel writes the number back when the results stand.
// A first reader may skip this file. Source: QEMU 7.2 documentation, "Invocation" (memory-backend-file, -cpu phys-bits).

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build, need } from './build.ts';
import {
  type Answers,
  type Emulator,
  fitting,
  type Job,
  layout,
  repliesBytes,
  repliesIn,
  requestsOf,
} from './emulator.ts';
import type { Raw } from './pack.ts';

const MEMORY_BYTES = 64 * 2 ** 20;
/** The version as the program says it. */
export function qemuVersion(): string {
  need('qemu-system-x86_64');
  const text = execFileSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' });
  return /version ([\d.]+)/u.exec(text)?.[1] ?? 'unknown';
}

const START_MS = 20_000;
/** A batch that takes longer has a case that hangs. */
const BATCH_MS = 10_000;

/**
 * No devices but one that switches the machine off. The second processor idles: it makes read-modify-writes atomic, which with one
 * processor are a read, then a write.
 */
const bare = [
  '-accel', 'tcg', '-smp', '2', '-nodefaults', '-no-reboot', '-display', 'none', '-serial', 'none', '-monitor', 'none',
  '-device', 'isa-debug-exit,iobase=0xf4,iosize=0x4',
] as const; // prettier-ignore

/** A running machine and the file that is its memory. */
class Machine {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #memory: number;
  #isOver = false;
  #asked = 0;

  constructor(physBits: number) {
    need('qemu-system-x86_64');
    const { kernel } = build();
    this.#folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'ringfence-qemu-'));
    const path = join(this.#folder, 'memory');
    this.#memory = openSync(path, 'w+');
    ftruncateSync(this.#memory, MEMORY_BYTES);
    const backend = `memory-backend-file,id=m0,size=${MEMORY_BYTES},mem-path=${path},share=on`;
    const cpu = `max,svm=on,npt=on,phys-bits=${physBits}`;
    const memory = ['-machine', 'pc,memory-backend=m0', '-object', backend, '-m', `${MEMORY_BYTES / 2 ** 20}`];
    const args = [...bare, ...memory, '-cpu', cpu, '-kernel', kernel];
    // In a process group of its own: Ctrl-C is ours to answer.
    this.#child = spawn('qemu-system-x86_64', args, { stdio: 'ignore', detached: true });
    this.#child.on('exit', () => (this.#isOver = true));
    this.#child.on('error', () => (this.#isOver = true));
    process.on('exit', this.#kill);
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  readonly #kill = (): void => {
    this.#child.kill('SIGKILL');
    rmSync(this.#folder, { recursive: true, force: true });
  };

  close(): void {
    process.off('exit', this.#kill);
    this.#kill();
    closeSync(this.#memory);
  }

  #int(at: number): number {
    const bytes = Buffer.alloc(4);
    readSync(this.#memory, bytes, 0, 4, at);
    return bytes.readUInt32LE();
  }

  #putInt(at: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    writeSync(this.#memory, bytes, 0, 4, at);
  }

  /** Waits until the mailbox says that `number` is answered; false if the machine died or hangs. */
  async #answered(number: number, milliseconds: number): Promise<boolean> {
    const until = performance.now() + milliseconds;
    while (this.#int(layout.mailbox + 4) !== number) {
      if (this.#isOver || performance.now() > until) return false;
      await sleep(1);
    }
    return true;
  }

  /** Waits for the kernel to be ready. */
  start(): Promise<boolean> {
    return this.#answered(0xffff_ffff, START_MS);
  }

  /** Runs what fits; answers results of the first ones, all of them unless the machine died. */
  async run(jobs: readonly Job[]): Promise<readonly Raw[]> {
    const bytes = requestsOf(jobs);
    writeSync(this.#memory, bytes, 0, bytes.length, layout.cases);
    this.#putInt(layout.mailbox + 8, jobs.length);
    this.#putInt(layout.mailbox + 16, 0);
    this.#asked += 1;
    this.#putInt(layout.mailbox, this.#asked);
    const done = await this.#answered(this.#asked, BATCH_MS);
    const survivors = done ? jobs : jobs.slice(0, this.#int(layout.mailbox + 16));
    const results = new Uint8Array(repliesBytes(survivors));
    readSync(this.#memory, results, 0, results.length, layout.results);
    return repliesIn(results, survivors);
  }
}

/** QEMU as an oracle. MAXPHYADDR is a property of the process, so there is one for each that is asked for. */
export class Qemu implements Emulator {
  readonly version = qemuVersion();
  readonly #machines = new Map<number, Machine>();

  async #machine(physBits: number): Promise<Machine> {
    const known = this.#machines.get(physBits);
    if (known !== undefined) return known;
    const machine = new Machine(physBits);
    this.#machines.set(physBits, machine);
    if (!(await machine.start())) throw new Error('QEMU does not start the kernel');
    return machine;
  }

  #drop(physBits: number): void {
    this.#machines.get(physBits)?.close();
    this.#machines.delete(physBits);
  }

  /** Runs jobs of one MAXPHYADDR; a job that the machine does not survive has no answer, those behind it run on a new one. */
  async #runAll(physBits: number, jobs: readonly Job[]): Promise<Answers> {
    const answers: (Raw | undefined)[] = [];
    while (answers.length < jobs.length) {
      const machine = await this.#machine(physBits);
      const rest = jobs.slice(answers.length);
      const part = rest.slice(0, fitting(rest));
      const results = await machine.run(part);
      answers.push(...results);
      if (results.length === part.length) continue;
      this.#drop(physBits);
      answers.push(undefined);
    }
    return answers;
  }

  async run(jobs: readonly Job[]): Promise<Answers> {
    const byBits = new Map<number, number[]>();
    for (const [i, { case: one }] of jobs.entries()) {
      const { maxPhysAddr } = one.registers;
      const indices = byBits.get(maxPhysAddr);
      if (indices === undefined) byBits.set(maxPhysAddr, [i]);
      else indices.push(i);
    }
    const answers: (Raw | undefined)[] = jobs.map(() => undefined);
    for (const [physBits, indices] of byBits) {
      const some = indices.flatMap((i) => jobs[i] ?? []);
      const found = await this.#runAll(physBits, some);
      indices.forEach((index, i) => (answers[index] = found[i]));
    }
    return answers;
  }

  close(): void {
    for (const machine of this.#machines.values()) machine.close();
    this.#machines.clear();
  }
}
