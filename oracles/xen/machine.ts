// QEMU with the hypervisor in it. The machine's memory is a file: what lies at an address of the machine lies there in the file,
// so that every frame can be read and written from outside, Xen's own among them. Snapshots are taken and loaded through QMP.
// A first reader may skip this file. Source: QEMU 7.2 documentation, "Invocation" (memory-backend-file), "QMP Reference Manual".

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Built } from './build.ts';

const MIB = 2 ** 20;
/** Memory of the machine, that of the control domain, and what snapshots may take. */
export const MEMORY_BYTES = 96 * MIB;
const CONTROL_MIB = 8;
const SNAPSHOT_MIB = 1024;

/** The machine's memory as a file. Addresses are the machine's, in bytes. */
export class Ram {
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, 'w+');
    ftruncateSync(this.#file, MEMORY_BYTES);
  }

  read(at: number, bytes: number): Buffer {
    const buffer = Buffer.allocUnsafe(bytes);
    readSync(this.#file, buffer, 0, bytes, at);
    return buffer;
  }

  write(at: number, bytes: Uint8Array): void {
    writeSync(this.#file, bytes, 0, bytes.length, at);
  }

  int(at: number): number {
    return this.read(at, 4).readUInt32LE();
  }

  putInt(at: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    this.write(at, bytes);
  }

  quad(at: number): bigint {
    return this.read(at, 8).readBigUInt64LE();
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** QMP: one command at a time, answers in order; events are not of interest. */
class Monitor {
  readonly #socket: Socket;
  readonly #waiting: ((answer: { readonly return?: unknown; readonly error?: unknown }) => void)[] = [];
  #rest = '';

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (data) => this.#take(data.toString()));
    socket.on('error', () => undefined);
  }

  static async open(path: string): Promise<Monitor> {
    for (;;) {
      const socket = await new Promise<Socket | undefined>((resolve) => {
        const one = connect(path);
        one.once('connect', () => resolve(one));
        one.once('error', () => resolve(undefined));
      });
      if (socket === undefined) await sleep(20);
      else {
        const monitor = new Monitor(socket);
        await monitor.run('qmp_capabilities');
        return monitor;
      }
    }
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const said = JSON.parse(line) as Record<string, unknown>;
      if ('return' in said || 'error' in said) this.#waiting.shift()?.(said);
    }
  }

  async run(command: string, args?: Record<string, unknown>): Promise<unknown> {
    const answer = new Promise<{ readonly return?: unknown; readonly error?: unknown }>((resolve) =>
      this.#waiting.push(resolve),
    );
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    const said = await answer;
    if (said.error !== undefined) throw new Error(`QEMU refuses ${command}: ${JSON.stringify(said.error)}`);
    return said.return;
  }

  /** A command of the human monitor, which says nothing unless something is wrong. */
  async say(line: string): Promise<void> {
    const said = await this.run('human-monitor-command', { 'command-line': line });
    if (said !== '') throw new Error(`QEMU on ${line}: ${String(said)}`);
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** What Xen is told. Freed frames are erased at once, so that new ones hold zeros whichever they are. */
const XEN_LINE = `com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all dom0_mem=${CONTROL_MIB}M scrub-domheap=1`;

/** The emulator's version as it says it. */
export function qemuVersion(): string {
  const text = execFileSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' });
  return /version ([\d.]+)/u.exec(text)?.[1] ?? 'unknown';
}

/** A running machine. */
export class Machine {
  readonly ram: Ram;
  readonly #folder: string;
  readonly #child: ChildProcess;
  #monitor: Monitor | undefined;
  #isOver = false;

  constructor(built: Built) {
    this.#folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'ringfence-xen-'));
    this.ram = new Ram(this.#path('memory'));
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', this.#path('snapshots'), `${SNAPSHOT_MIB}M`]);
    const backend = `memory-backend-file,id=m0,size=${MEMORY_BYTES},mem-path=${this.#path('memory')},share=on`;
    const args = [
      '-accel', 'tcg', '-cpu', 'EPYC,+svm,+npt', '-smp', '1', '-nodefaults', '-no-reboot', '-display', 'none',
      '-machine', 'pc,memory-backend=m0', '-object', backend, '-m', `${MEMORY_BYTES / MIB}`,
      '-serial', `file:${this.#path('console')}`, '-qmp', `unix:${this.#path('qmp')},server=on,wait=off`,
      '-drive', `if=none,format=qcow2,cache=unsafe,file=${this.#path('snapshots')}`,
      '-kernel', built.xen, '-append', XEN_LINE, '-initrd', built.control,
    ]; // prettier-ignore
    // In a process group of its own: Ctrl-C is ours to answer.
    this.#child = spawn('qemu-system-x86_64', args, { stdio: 'ignore', detached: true });
    this.#child.on('exit', () => (this.#isOver = true));
    this.#child.on('error', () => (this.#isOver = true));
    process.on('exit', this.#kill);
  }

  readonly #path = (name: string): string => join(this.#folder, name);

  readonly #kill = (): void => {
    this.#child.kill('SIGKILL');
    rmSync(this.#folder, { recursive: true, force: true });
  };

  get isOver(): boolean {
    return this.#isOver;
  }

  /** What Xen has said. */
  get console(): string {
    return readFileSync(this.#path('console'), 'utf8');
  }

  async #monitored(): Promise<Monitor> {
    this.#monitor ??= await Monitor.open(this.#path('qmp'));
    return this.#monitor;
  }

  /** Keeps the whole machine under a name. No nested guest may be running: QEMU could not load that. */
  async save(name: string): Promise<void> {
    await (await this.#monitored()).say(`savevm ${name}`);
  }

  async load(name: string): Promise<void> {
    await (await this.#monitored()).say(`loadvm ${name}`);
  }

  close(): void {
    process.off('exit', this.#kill);
    this.#monitor?.close();
    this.#kill();
    this.ram.close();
  }
}
