// Builds the guest with gcc and ld, once for each version of its sources, and finds the hypervisor that the distribution has.
// A first reader may skip this file.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { Missing, need } from '../cpu/build.ts';

/** Files that the emulator loads: the hypervisor, the control domain, and what a PVH guest has in its first frames. */
export interface Built {
  readonly xen: string;
  readonly control: string;
  readonly guest: Uint8Array;
}

const folder = (): string => {
  // Compiled, this file lies in dist/oracles/xen; the sources of the guest stay where they were.
  const here = fileURLToPath(new URL('kernel', import.meta.url));
  return existsSync(here) ? here : fileURLToPath(new URL('../../../oracles/xen/kernel', import.meta.url));
};

/** Where Debian's package puts the hypervisor. */
const XEN = '/boot/xen-4.17-amd64.gz';

/** The hypervisor's file: `named`, or that of the package. Throws `Missing` if there is none. */
function hypervisorFile(named: string | undefined): string {
  const file = named ?? XEN;
  if (existsSync(file)) return file;
  throw new Missing(
    named === undefined
      ? 'The live oracle needs the hypervisor; install it with: apt-get install xen-hypervisor-4.17-amd64 (or name its file with --xen)'
      : `There is no file ${named}`,
  );
}

const C_FLAGS = [
  '-O2', '-m64', '-std=gnu11', '-Wall', '-Wextra', '-Werror', '-ffreestanding', '-mno-red-zone', '-mgeneral-regs-only',
  '-mcmodel=small', '-fno-pic', '-fno-pie', '-fno-stack-protector', '-fno-asynchronous-unwind-tables', '-fcf-protection=none',
] as const; // prettier-ignore

const run = (command: string, args: readonly string[]): void => {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
};

/** Compiles guest.c and the entry of `kind` of domain into an ELF file. */
function link(from: string, into: string, kind: 'pv' | 'hvm'): string {
  const objects = ['guest.c', 'entry.S'].map((source) => {
    const object = join(into, `${source}.o`);
    const flags = source.endsWith('.c') ? C_FLAGS : kind === 'pv' ? ['-DPV'] : [];
    run('gcc', [...flags, '-c', '-o', object, join(from, source)]);
    return object;
  });
  const linked = join(into, `${kind}.elf`);
  run('ld', ['-z', 'noexecstack', '--no-warn-rwx-segments', '-T', join(from, 'guest.ld'), '-o', linked, ...objects]);
  return linked;
}

/** gzip's first two bytes; some distributions leave the file unpacked. */
const isPacked = (file: Uint8Array): boolean => file[0] === 0x1f && file[1] === 0x8b;

/** Builds what is not built yet. Throws `Missing` if something has to be installed first. */
export function build(xenFile: string | undefined): Built {
  need('gcc', 'ld', 'objcopy', 'qemu-system-x86_64', 'qemu-img');
  const from = folder();
  const packed = readFileSync(hypervisorFile(xenFile));
  const hash = createHash('sha256').update(packed);
  for (const name of readdirSync(from).toSorted()) hash.update(name).update(readFileSync(join(from, name)));
  const cache = join(tmpdir(), `ringfence-oracle-xen-${hash.digest('hex').slice(0, 16)}`);
  const files = { xen: join(cache, 'xen.elf'), control: join(cache, 'pv.elf'), guest: join(cache, 'hvm.bin') };
  if (!existsSync(files.guest)) {
    const work = mkdtempSync(join(tmpdir(), 'ringfence-build-'));
    try {
      const pv = link(from, work, 'pv');
      run('objcopy', ['-O', 'binary', link(from, work, 'hvm'), join(work, 'hvm.bin')]);
      mkdirSync(cache, { recursive: true });
      writeFileSync(files.xen, isPacked(packed) ? gunzipSync(packed) : packed);
      renameSync(pv, files.control);
      renameSync(join(work, 'hvm.bin'), files.guest);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  return { ...files, guest: readFileSync(files.guest) };
}
