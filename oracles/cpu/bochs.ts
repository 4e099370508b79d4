// The live oracle Bochs: one process per batch. Cases come to the kernel on a disk, and results go back on it; the kernel itself
// lies in memory at the start, and a ROM of our own leads to it, so that no firmware is needed.
// A first reader may skip this file. Source: Bochs 2.7 user manual, "The configuration file bochsrc".

import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build, need } from './build.ts';
import { type Answers, type Emulator, fitting, type Job, repliesBytes, repliesIn, requestsOf } from './emulator.ts';
import type { Raw, Vehicle } from './pack.ts';

const SECTOR = 512;
const TRACK_SECTORS = 16 * 63;
/** A batch that takes longer has a case that hangs. */
const BATCH_MS = 60_000;

/** Which processor does what: Intel's has VMX, AMD's has SVM. */
const modelOf = (vehicle: Vehicle): string =>
  vehicle === 'svm' || vehicle === 'svmNested' ? 'ryzen' : 'corei7_skylake_x';

/** A file of a dummy display adapter: 32 KiB that begin with a signature and end the first call at once. */
function displayRom(): Uint8Array {
  const rom = new Uint8Array(32 * 1024);
  rom.set([0x55, 0xaa, 0x40, 0xcb]);
  rom[rom.length - 1] = 256 - (rom.reduce((sum, byte) => sum + byte, 0) % 256);
  return rom;
}

/** The disk: a sector that says what follows, the cases, room for the results. */
function diskOf(jobs: readonly Job[]): { readonly disk: Buffer; readonly results: number } {
  const cases = requestsOf(jobs);
  const caseSectors = Math.ceil(cases.length / SECTOR);
  const results = 1 + caseSectors;
  const sectors = results + Math.ceil(repliesBytes(jobs) / SECTOR);
  const cylinders = Math.ceil(sectors / TRACK_SECTORS);
  const disk = Buffer.alloc(cylinders * TRACK_SECTORS * SECTOR);
  disk.writeUInt32LE(jobs.length, 0);
  disk.writeUInt32LE(caseSectors, 4);
  disk.writeUInt32LE(results, 8);
  disk.set(cases, SECTOR);
  return { disk, results };
}

const settings = (model: string, cylinders: number): string =>
  [
    'display_library: term',
    'config_interface: textconfig',
    `cpu: model=${model}, count=1, ips=100000000, reset_on_triple_fault=0`,
    'memory: guest=64, host=64',
    'clock: sync=none',
    'romimage: file=rom.bin',
    'vgaromimage: file=vga.bin',
    'optramimage1: file=kernel.bin, address=0x100000',
    'ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14',
    `ata0-master: type=disk, mode=flat, path=disk.img, cylinders=${cylinders}, heads=16, spt=63`,
    'log: log.txt',
    'panic: action=fatal',
    // The default logs a line for every exit.
    'error: action=ignore',
    'info: action=ignore',
    'debug: action=ignore',
  ].join('\n');

/** Runs the program on a pseudo-terminal, which its display wants, until it ends or is ended. */
function runProgram(folder: string): Promise<void> {
  const command = 'bochs-bin -q -f bochsrc -rc rc';
  const child = spawn('script', ['-qfc', command, 'tty.txt'], {
    cwd: folder,
    stdio: 'ignore',
    detached: true,
    env: { ...process.env, TERM: 'vt100' },
  });
  const stop = (): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It is gone already.
    }
  };
  const timer = setTimeout(stop, BATCH_MS);
  process.on('exit', stop);
  return new Promise((resolve) => {
    child.on('close', () => {
      clearTimeout(timer);
      process.off('exit', stop);
      resolve();
    });
    child.on('error', () => resolve());
  });
}

/** The version as the program says it. */
export function bochsVersion(): string {
  need('bochs-bin', 'script');
  let text = '';
  try {
    text = execFileSync('bochs-bin', ['--help'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    text = String(error);
  }
  return /Bochs x86 Emulator ([\d.]+)/u.exec(text)?.[1] ?? 'unknown';
}

/** Bochs as an oracle. MAXPHYADDR is 40 in all its processors. */
export class Bochs implements Emulator {
  readonly version: string;

  constructor() {
    this.version = bochsVersion();
  }

  /** Runs jobs of one processor in one process; undefined if it did not come to the end. */
  async #runOnce(model: string, jobs: readonly Job[]): Promise<readonly Raw[] | undefined> {
    const { kernel, rom } = build();
    const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'ringfence-bochs-'));
    try {
      const { disk, results } = diskOf(jobs);
      copyFileSync(kernel, join(folder, 'kernel.bin'));
      copyFileSync(rom, join(folder, 'rom.bin'));
      writeFileSync(join(folder, 'vga.bin'), displayRom());
      writeFileSync(join(folder, 'disk.img'), disk);
      writeFileSync(join(folder, 'bochsrc'), settings(model, disk.length / TRACK_SECTORS / SECTOR));
      writeFileSync(join(folder, 'rc'), 'c\n');
      await runProgram(folder);
      const after = readFileSync(join(folder, 'disk.img'));
      if (after.readUInt32LE(12) !== repliesBytes(jobs)) return undefined;
      return repliesIn(after.subarray(results * SECTOR), jobs);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  /** Halves a batch that does not come to the end until the case is found that does it. */
  async #runAll(model: string, jobs: readonly Job[]): Promise<Answers> {
    if (jobs.length === 0) return [];
    const count = fitting(jobs);
    const part = jobs.slice(0, count);
    const rest = jobs.slice(count);
    const answers = await this.#runOnce(model, part);
    if (answers !== undefined) return [...answers, ...(await this.#runAll(model, rest))];
    if (part.length === 1) return [undefined, ...(await this.#runAll(model, rest))];
    const half = Math.ceil(part.length / 2);
    return [
      ...(await this.#runAll(model, part.slice(0, half))),
      ...(await this.#runAll(model, part.slice(half))),
      ...(await this.#runAll(model, rest)),
    ];
  }

  async run(jobs: readonly Job[]): Promise<Answers> {
    const answers: (Raw | undefined)[] = jobs.map(() => undefined);
    for (const model of new Set(jobs.map(({ manner }) => modelOf(manner.vehicle)))) {
      const indices = jobs.flatMap(({ manner }, i) => (modelOf(manner.vehicle) === model ? [i] : []));
      const found = await this.#runAll(
        model,
        indices.flatMap((i) => jobs[i] ?? []),
      );
      indices.forEach((index, i) => (answers[index] = found[i]));
    }
    return answers;
  }

  close(): void {
    // Every batch has ended its process.
  }
}
