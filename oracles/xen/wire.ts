// The shapes of Xen's public structures, as bytes. Every offset is that of the 64-bit interface.
// A first reader may skip this file. Sources: Xen public/memory.h, public/grant_table.h, public/domctl.h, public/hvm/save.h,
// public/arch-x86/hvm/save.h, as of 4.17.

import { bitsOf } from './quads.ts';

/** Numbers of hypercalls. */
export const HYPERCALL = { memoryOp: 12, grantTableOp: 20, domctl: 36 } as const;

/** Commands of HYPERVISOR_memory_op. */
export const MEMORY = {
  increase: 0, decrease: 1, reservation: 3, populate: 6, addToPhysmap: 7, exchange: 11, removeFromPhysmap: 15, addBatch: 23,
} as const; // prettier-ignore

/** Commands of HYPERVISOR_grant_table_op. */
export const GRANT = { map: 0, unmap: 1, setupTable: 2, copy: 5, query: 6 } as const;

/** Commands of HYPERVISOR_domctl. */
export const DOMCTL = {
  create: 1, destroy: 2, pause: 3, unpause: 4, maxMem: 11, maxVcpus: 15, setHvmContext: 34,
} as const; // prettier-ignore
const DOMCTL_VERSION = 0x15;

type Value = number | bigint;

/** A structure of so many bytes. Fields: width in bytes, offset, value (negative ones as they wrap). */
export function structure(
  bytes: number,
  fields: readonly (readonly [width: 1 | 2 | 4 | 8, at: number, value: Value])[],
): Buffer {
  const buffer = Buffer.alloc(bytes);
  for (const [width, at, value] of fields) {
    const wrapped = BigInt.asUintN(8 * width, BigInt(value));
    for (let i = 0; i < width; i += 1) buffer[at + i] = bitsOf(wrapped, 8 * i, 8);
  }
  return buffer;
}

/** struct xen_memory_reservation. */
export const reservation = (of: {
  readonly start: Value;
  readonly count: number;
  readonly order: number;
  readonly domain: number;
}): Buffer =>
  structure(32, [
    [8, 0, of.start],
    [8, 8, of.count],
    [4, 16, of.order],
    [2, 24, of.domain],
  ]);

/** struct xen_domctl with the fields of one command from byte 16 on. */
export const domctl = (command: number, domain: number, fields: Parameters<typeof structure>[1] = []): Buffer =>
  structure(144, [
    [4, 0, command],
    [4, 4, DOMCTL_VERSION],
    [2, 8, domain],
    ...fields.map(([width, at, value]) => [width, at + 16, value] as const),
  ]);

/** What a domain is created with. */
export interface Creation {
  readonly vcpus: number;
  readonly grantFrames: number;
  readonly maptrackFrames: number;
}

const FLAGS_HVM_HAP = 3;
const EMULATE_LOCAL_APIC = 1;
const EVENT_CHANNELS = 1023;

/** XEN_DOMCTL_createdomain of a PVH domain with grant tables of version 1. */
export const creation = (domain: number, of: Creation): Buffer =>
  domctl(DOMCTL.create, domain, [
    [4, 20, FLAGS_HVM_HAP],
    [4, 28, of.vcpus],
    [4, 32, EVENT_CHANNELS],
    [4, 36, of.grantFrames],
    [4, 40, of.maptrackFrames],
    [4, 44, 1],
    [4, 56, EMULATE_LOCAL_APIC],
  ]);

/** Bytes of HVM context: three records, each after 8 bytes that say what it is. */
const RECORD = { header: { code: 1, bytes: 24 }, cpu: { code: 2, bytes: 1032 } } as const;

const described = (code: number, body: Buffer): Buffer =>
  Buffer.concat([structure(8, [[2, 0, code], [4, 4, body.length]]), body]); // prettier-ignore

/** Access rights of segments as the context has them: present, code or data, 64-bit, 4 KiB units. */
const SEGMENT = { code64: 0xa9b, data: 0xc93, taskBusy: 0x8b, unusable: 0x82 } as const;
const CR0_PG_WP_NE_ET_PE = 0x8001_0031;
const CR4_PAE = 0x20;
const EFER_LMA_LME = 0x500;

/** The context of a vCPU that is about to run at `entry` in long mode, on the tables at guest-physical `root`. */
export function hvmContext(of: { readonly entry: number; readonly root: number }): Buffer {
  const header = structure(RECORD.header.bytes, [
    [4, 0, 0x5438_1286],
    [4, 4, 1],
  ]);
  const flat = [772, 776, 780, 784, 788].map((at) => [4, at, 0xffff_ffff] as const);
  const rights = [892, 896, 900, 904, 908].map((at) => [4, at, SEGMENT.data] as const);
  const cpu = structure(RECORD.cpu.bytes, [
    [8, 640, of.entry],
    [8, 648, 2],
    [8, 656, CR0_PG_WP_NE_ET_PE],
    [8, 672, of.root],
    [8, 680, CR4_PAE],
    [8, 720, 0xffff_0ff0],
    [8, 728, 0x400],
    [4, 736, 8],
    [4, 740, 16],
    [4, 768, 0xffff_ffff],
    [4, 888, SEGMENT.code64],
    ...flat,
    ...rights,
    [4, 792, 0x67],
    [4, 912, SEGMENT.taskBusy],
    [4, 916, SEGMENT.unusable],
    [8, 992, EFER_LMA_LME],
  ]);
  return Buffer.concat([
    described(RECORD.header.code, header),
    described(RECORD.cpu.code, cpu),
    described(0, Buffer.alloc(0)),
  ]);
}
