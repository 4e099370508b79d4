// Small cases to state rules with: one access under a small set of tables, of which one thing is changed at a time. And
// `rules`, which makes a test of each. For tests of model/ only. A first reader may skip this file.
//
// All tables translate linear address 0x603010. Natively and for guests: root 0x10 (5-level: 0xf), then 0x11, 0x12, 0x13, page 0x200.
// Nested tables: root 0x80, then 0x81, 0x82; there entry 0 maps the first 2 MiB (where the guest's tables lie) to themselves, and
// entry 1 leads to 0x83, which maps gfn 0x200 to mfn 0x300. Accessed and dirty flags are set.

import type { Word } from '#abi/address.ts';
import type { AccessResult, Poke } from '#abi/case.ts';
import { describe, expect, test } from 'vitest';
import { type AccessCase, translateAccess } from './translate.ts';

/** What stands in the high half of a word is so many times larger. */
export const HIGH: bigint = 2n ** 32n;

export const word = (n: bigint): Word => ({
  lo: Number(BigInt.asUintN(32, n)),
  hi: Number(BigInt.asUintN(64, n) / HIGH),
});
export const poke = (mfn: number, index: number, value: bigint): Poke => ({ mfn, index, word: word(value) });
export const entry = (frame: number, flags: bigint): bigint => BigInt(frame) * 4096n + flags;

export const NX: bigint = 2n ** 63n;
export const bitAt = (n: number): bigint => 2n ** BigInt(n);
export const key = (n: number): bigint => BigInt(n) * 2n ** 59n;
/** Present, writable, user, accessed, dirty. */
export const ALL = 0x67n;
export const READ_ONLY = 0x65n;
export const SUPERVISOR = 0x63n;
export const SUPERVISOR_READ_ONLY = 0x61n;
export const PS = 0x80n;

/** Entries by level that a case changes. */
interface Change {
  readonly 5?: bigint;
  readonly 4?: bigint;
  readonly 3?: bigint;
  readonly 2?: bigint;
  readonly 1?: bigint;
}

export const tables4 = (change: Change): readonly Poke[] => [
  poke(0x10, 0, change[4] ?? entry(0x11, ALL)),
  poke(0x11, 0, change[3] ?? entry(0x12, ALL)),
  poke(0x12, 3, change[2] ?? entry(0x13, ALL)),
  poke(0x13, 3, change[1] ?? entry(0x200, ALL)),
];
export const tables5 = (change: Change): readonly Poke[] => [
  poke(0xf, 0, change[5] ?? entry(0x10, ALL)),
  ...tables4(change),
];
export const tablesPae = (change: Change): readonly Poke[] => [
  poke(0x10, 0, change[3] ?? entry(0x12, 1n)),
  poke(0x12, 3, change[2] ?? entry(0x13, ALL)),
  poke(0x13, 3, change[1] ?? entry(0x200, ALL)),
];
/** Entries 1 and 0x203 of tables of 4-byte entries: high halves of words. */
export const tables32 = (change: Change): readonly Poke[] => [
  poke(0x10, 0, (change[2] ?? entry(0x13, ALL)) * HIGH),
  poke(0x13, 0x101, (change[1] ?? entry(0x200, ALL)) * HIGH),
];
export const extended = (change: Change, first = 0xb7n): readonly Poke[] => [
  poke(0x80, 0, change[4] ?? entry(0x81, 7n)),
  poke(0x81, 0, change[3] ?? entry(0x82, 7n)),
  poke(0x82, 0, first),
  poke(0x82, 1, change[2] ?? entry(0x83, 7n)),
  poke(0x83, 0, change[1] ?? entry(0x300, 0x37n)),
];
export const nested = (change: Change, first = ALL + PS): readonly Poke[] => [
  poke(0x80, 0, change[4] ?? entry(0x81, ALL)),
  poke(0x81, 0, change[3] ?? entry(0x82, ALL)),
  poke(0x82, 0, first),
  poke(0x82, 1, change[2] ?? entry(0x83, ALL)),
  poke(0x83, 0, change[1] ?? entry(0x300, ALL)),
];

export type Registers = Partial<
  Extract<AccessCase, { engine: 'svm' }>['registers'] & Extract<AccessCase, { engine: 'vmx' }>['registers']
>;
export type Access = Partial<AccessCase['access']>;

export const WP = 0x8001_0001;
export const NO_WP = 0x8000_0001;
export const PAE = 0x20;
export const PSE = 0x10;
export const LA57 = 0x1000;
export const SMEP = 0x10_0000;
export const SMAP = 0x20_0000;
export const PKE = 0x40_0000;
export const PKS = 0x100_0000;
export const LONG = 0x900;
export const LONG_NO_NX = 0x100;
export const NXE = 0x800;

const base = {
  cr0: WP,
  cr3: word(0x10000n),
  cr4: PAE,
  efer: LONG,
  pkru: 0,
  pkrs: 0,
  maxPhysAddr: 40,
  page1Gb: 'present',
  pdptes: [],
} as const;
export const mode4 = {};
export const mode5 = { cr3: word(0xf000n), cr4: PAE + LA57 };
export const modePae = { efer: NXE };
export const mode32 = { efer: NXE, cr4: PSE };
export const unpaged = { cr0: 1, cr4: 0, efer: 0 };

const accessOf = (change: Access): AccessCase['access'] => ({
  kind: 'read',
  privilege: 'user',
  ac: 'clear',
  linear: word(0x60_3010n),
  size: 4,
  ...change,
});

export const native = (image: readonly Poke[], registers: Registers = {}, access: Access = {}): AccessCase => ({
  engine: 'native',
  version: 1,
  geometry: 'x86',
  registers: { ...base, ...registers },
  access: accessOf(access),
  image,
});
export const vmx = (image: readonly Poke[], registers: Registers = {}, access: Access = {}): AccessCase => ({
  engine: 'vmx',
  version: 1,
  geometry: 'x86',
  registers: { ...base, eptp: word(0x8001en), modeBasedExecute: 'off', ...registers },
  access: accessOf(access),
  image,
});
export const hostLong = { nestedCr3: word(0x80000n), hostCr0: WP, hostCr4: PAE, hostEfer: LONG };
export const svm = (image: readonly Poke[], registers: Registers = {}, access: Access = {}): AccessCase => ({
  engine: 'svm',
  version: 1,
  geometry: 'x86',
  registers: { ...base, ...hostLong, ...registers },
  access: accessOf(access),
  image,
});

export const done = (maddr: number, count = 4): AccessResult => ({ kind: 'done', bytes: [{ maddr, count }] });
export const fault = (errorCode: number, linear = 0x60_3010n): AccessResult => ({
  kind: 'pageFault',
  errorCode,
  linear: word(linear),
});
export const violation = (qualification: number, guestPhysical = 0x20_0010, linear = 0x60_3010n): AccessResult => ({
  kind: 'eptViolation',
  qualification,
  guestPhysical,
  linear: word(linear),
});
export const misconfigured = (guestPhysical = 0x20_0010): AccessResult => ({
  kind: 'eptMisconfiguration',
  guestPhysical,
});
export const nestedFault = (lo: number, hi: 1 | 2, guestPhysical = 0x20_0010): AccessResult => ({
  kind: 'nestedPageFault',
  info: { lo, hi },
  guestPhysical,
});
export const protection: AccessResult = { kind: 'generalProtection' };
export const invalid: AccessResult = { kind: 'invalidState' };

export const supervisor = { privilege: 'supervisor' } as const;
export const implicit = { privilege: 'implicit', ac: 'set' } as const;
export const write = { kind: 'write' } as const;
export const fetch = { kind: 'fetch' } as const;
export const modify = { kind: 'readModifyWrite' } as const;

/** A rule in words, a case that it decides, and what the case comes to. */
export type Row = readonly [rule: string, one: AccessCase, result: AccessResult];

/** A test for each rule. */
export const rules = (title: string, rows: readonly Row[]): void => {
  describe(title, () => {
    test.each(rows)('%s', (_rule, one, result) => {
      expect(translateAccess(one).result).toEqual(result);
    });
  });
};
