// The native side of the bench `cpu`: compiles native/walk.c if there is a C compiler, hands it a stage in a file, and reads what it
// measured. A first reader may skip the layout of the file, which the C source draws.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { extendedOf, type Arrangement } from './cpu-contestants.ts';
import { rulesOfStage, type Stage } from './cpu-tables.ts';
import { Marks } from '#impl/paging/marks.ts';

const source = fileURLToPath(new URL('./native/walk.c', import.meta.url));

/** What one process measured: nanoseconds of CPU time for all accesses, and the checksum of a pass. */
export interface Measured {
  readonly nanoseconds: number;
  readonly sum: number;
}

/** A folder of our own for compiled code and stages; whoever makes it disposes of it. */
export class Workshop {
  readonly folder = mkdtempSync(join(tmpdir(), 'bench-cpu-'));
  /** The compiled program; undefined: no compiler was found. */
  readonly program: string | undefined;
  readonly compiler: string | undefined;

  constructor() {
    const program = join(this.folder, 'walk');
    this.compiler = ['gcc', 'cc', 'clang'].find(
      (name) => spawnSync(name, ['-O2', '-o', program, source], { stdio: 'ignore' }).status === 0,
    );
    this.program = this.compiler === undefined ? undefined : program;
  }

  dispose(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Writes a stage for the native side. */
export function writeStage(file: string, stage: Stage): void {
  const rules = rulesOfStage(stage);
  const { scene, memory, accesses, processor, eptRoot } = stage;
  const { needs, wants } = extendedOf(stage, new Marks(memory)).uses();
  const registers = new Int32Array(48);
  registers.set([memory.length / 1024, scene.count, scene.repeats, processor.cr3.lo, processor.cr3.hi, eptRoot, 0]);
  registers.set([rules.reservedHigh, rules.reservedUpper, rules.reserved1Gb, ...rules.permitted, ...rules.denied], 7);
  registers.set([...needs, ...wants], 28);
  const whole = new Int32Array(registers.length + memory.length + accesses.length);
  whole.set(registers);
  whole.set(memory, registers.length);
  whole.set(accesses, registers.length + memory.length);
  writeFileSync(file, new Uint8Array(whole.buffer));
}

/** Runs the native side once. */
export function runNative(program: string, arrangement: Arrangement, file: string): Measured {
  const { stdout, status } = spawnSync(program, [arrangement, file], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the native side failed with status ${status}`);
  const [nanoseconds = Number.NaN, sum = Number.NaN] = stdout.trim().split(' ').map(Number);
  return { nanoseconds, sum };
}
