// Builds the kernel with the compiler at hand, once per state of its sources, and says what is missing. A first reader may
// skip this file.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Something that this machine lacks; the message names the packages. */
export class Missing extends Error {}

const isCommand = (name: string): boolean =>
  (process.env['PATH'] ?? '').split(delimiter).some((folder) => folder !== '' && existsSync(join(folder, name)));

/** Which package of Debian has each command. */
const packageOf = {
  gcc: 'gcc',
  ld: 'binutils',
  objcopy: 'binutils',
  'qemu-system-x86_64': 'qemu-system-x86',
  'bochs-bin': 'bochs bochs-term',
  script: 'bsdutils',
  'qemu-img': 'qemu-utils',
} as const;

/** Refuses in one sentence unless all of `commands` are there. */
export function need(...commands: readonly (keyof typeof packageOf)[]): void {
  const missing = new Set(commands.filter((name) => !isCommand(name)).map((name) => packageOf[name]));
  if (missing.size === 0) return;
  throw new Missing(
    `The live oracle needs what is not here; install it with: apt-get install ${[...missing].join(' ')}`,
  );
}

const folder = (): string => {
  // Compiled, this file lies in dist/oracles/cpu; the sources of the kernel stay where they were.
  const here = fileURLToPath(new URL('kernel', import.meta.url));
  return existsSync(here) ? here : fileURLToPath(new URL('../../../oracles/cpu/kernel', import.meta.url));
};

const C_FLAGS = [
  '-O2', '-m64', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-ffreestanding', '-mno-red-zone', '-mgeneral-regs-only',
  '-mcmodel=small', '-fno-pic', '-fno-pie', '-fno-stack-protector', '-fno-asynchronous-unwind-tables',
  '-fno-tree-loop-distribute-patterns', '-fcf-protection=none',
] as const; // prettier-ignore

const run = (command: string, args: readonly string[]): void => {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
};

/** Compiles and links `sources` in `from` by `script` into a flat file. */
function link(
  from: string,
  into: string,
  of: { readonly sources: readonly string[]; readonly script: string },
): string {
  const objects = of.sources.map((source) => {
    const object = join(into, `${source}.o`);
    run('gcc', [...(source.endsWith('.c') ? C_FLAGS : []), '-c', '-o', object, join(from, source)]);
    return object;
  });
  const linked = join(into, `${of.script}.elf`);
  run('ld', ['-n', '-z', 'noexecstack', '-T', join(from, of.script), '-o', linked, ...objects]);
  const flat = join(into, of.script.replace('.ld', '.bin'));
  run('objcopy', ['-O', 'binary', linked, flat]);
  return flat;
}

/** The flat files that emulators load: the kernel, and the code at the reset vector for those without firmware. */
export interface Built {
  readonly kernel: string;
  readonly rom: string;
}

/** Builds what is not built yet. Throws `Missing` without a compiler. */
export function build(): Built {
  need('gcc', 'ld', 'objcopy');
  const from = folder();
  const names = readdirSync(from).toSorted();
  const hash = createHash('sha256');
  for (const name of names) hash.update(name).update(readFileSync(join(from, name)));
  const cache = join(tmpdir(), `ringfence-oracle-${hash.digest('hex').slice(0, 16)}`);
  const built = { kernel: join(cache, 'kernel.bin'), rom: join(cache, 'rom.bin') };
  if (existsSync(built.kernel) && existsSync(built.rom)) return built;
  const work = mkdtempSync(join(tmpdir(), 'ringfence-build-'));
  try {
    const sources = names.filter((name) => /\.[cS]$/u.test(name) && name !== 'rom.S');
    const made = [
      [link(from, work, { sources, script: 'kernel.ld' }), built.kernel],
      [link(from, work, { sources: ['rom.S'], script: 'rom.ld' }), built.rom],
    ] as const;
    mkdirSync(cache, { recursive: true });
    for (const [file, place] of made) renameSync(file, place);
    return built;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
