// Registers are derived from again when they differ from those loaded last: here they differ in one alone, each in turn, and an access
// is decided by it. PDPTEs that lie in memory are read for every access. A first reader may skip the tables that are walked.

import { expect, it } from 'vitest';
import { CASE_VERSION, type AccessResult, type CaseOf } from '#abi/case.ts';
import { AccessUnit } from './access.ts';

type Any = CaseOf<'native' | 'vmx' | 'svm'>;
type Registers<E extends Any['engine']> = CaseOf<E>['registers'];
type Cell = readonly [mfn: number, index: number, lo: number, hi?: number];

const memory = new Int32Array(0x40 * 1024);
const PAE = 0x20;

/** What `unit` makes of a case in a memory that holds nothing but `image`. */
function run(unit: AccessUnit, one: Any, image: readonly Cell[]): AccessResult {
  memory.fill(0);
  for (const [mfn, index, lo, hi = 0] of image) memory.set([lo, hi], 2 * (512 * mfn + index));
  return unit.run(one);
}

const processor: Registers<'native'> = {
  cr0: 0x8001_0001,
  cr3: { lo: 0x1000, hi: 0 },
  cr4: PAE,
  efer: 0x900,
  pkru: 0,
  pkrs: 0,
  maxPhysAddr: 40,
  page1Gb: 'present',
  pdptes: [],
};

const common = { version: CASE_VERSION, geometry: 'x86', image: [] } as const;
const reading = { kind: 'read', privilege: 'user', ac: 'clear', linear: { lo: 0x1008, hi: 0 }, size: 8 } as const;

/** Four levels for linear 0x1000, the page's entry with these halves. */
const levels = (lo: number, hi = 0): readonly Cell[] => [
  [1, 0, 0x2027],
  [2, 0, 0x3027],
  [3, 0, 0x4027],
  [4, 1, lo, hi],
];
/** Nested tables for those, in frames 0x20 to 0x23: every frame below 0x20 is itself. */
const nested = (flags: number): readonly Cell[] => [
  [0x20, 0, 0x2_1007],
  [0x21, 0, 0x2_2007],
  [0x22, 0, 0x2_3007],
  ...Array.from({ length: 0x20 }, (_, gfn): Cell => [0x23, gfn, gfn * 0x1000 + flags]),
];

interface Change<R> {
  readonly image: readonly Cell[];
  readonly before?: Partial<R>;
  readonly after: Partial<R>;
  readonly access?: Partial<Any['access']>;
}
type Changes<R> = { readonly [K in keyof R]: Change<R> };
/** Those of an engine that others do not have, and CR3. */
type Own<E extends Any['engine']> = Changes<Omit<Registers<E>, Exclude<keyof Registers<'native'>, 'cr3'>>>;

const supervisor = { privilege: 'supervisor' } as const;
const native: Changes<Registers<'native'>> = {
  cr0: { image: levels(0x1_0005), after: { cr0: 0x8000_0001 }, access: { kind: 'write', ...supervisor } },
  cr3: { image: levels(0x1_0007), after: { cr3: { lo: 0x8000, hi: 0 } } },
  cr4: { image: levels(0x1_0007), after: { cr4: PAE + 2 ** 21 }, access: supervisor },
  efer: { image: levels(0x1_0007, 2 ** 31), after: { efer: 0x100 } },
  pkru: { image: levels(0x1_0007, 2 ** 27), before: { cr4: PAE + 2 ** 22 }, after: { pkru: 4 } },
  pkrs: {
    image: levels(0x1_0003, 2 ** 27),
    before: { cr4: PAE + 2 ** 24 },
    after: { pkrs: 4 },
    access: supervisor,
  },
  maxPhysAddr: { image: levels(0x1_0007, 0x80), after: { maxPhysAddr: 38 } },
  page1Gb: {
    image: [
      [1, 0, 0x2027],
      [2, 0, 0x87],
    ],
    after: { page1Gb: 'absent' },
  },
  pdptes: {
    image: levels(0x1_0007),
    before: { efer: 0, pdptes: [{ entry: { lo: 0x3001, hi: 0 } }] },
    after: { pdptes: [{ entry: { lo: 0x5001, hi: 0 } }] },
  },
};
const elsewhere = { cr3: { lo: 0x8000, hi: 0 } };
const ept = [...levels(0x1_0007), ...nested(0x37)];
const npt = [...levels(0x1_0007), ...nested(0x7)];
const vmx: Own<'vmx'> = {
  cr3: { image: ept, after: elsewhere },
  eptp: { image: ept, after: { eptp: { lo: 0x2_501e, hi: 0 } } },
  modeBasedExecute: { image: ept, after: { modeBasedExecute: 'on' }, access: { kind: 'fetch' } },
};
const svm: Own<'svm'> = {
  cr3: { image: npt, after: elsewhere },
  nestedCr3: { image: npt, after: { nestedCr3: { lo: 0x2_5000, hi: 0 } } },
  hostCr0: { image: npt, after: { hostCr0: 1 } },
  hostCr4: { image: npt, after: { hostCr4: 0 } },
  hostEfer: { image: npt, after: { hostEfer: 0 } },
};

/** Two cases of an engine that differ in one register. */
const rows = [
  ...Object.entries(native).map(([register, { image, before, after, access }]) => {
    const of = (change: object): Any => ({
      ...common,
      engine: 'native',
      registers: { ...processor, ...before, ...change },
      access: { ...reading, ...access },
    });
    return { name: `native ${register}`, image, before: of({}), after: of(after) };
  }),
  ...Object.entries(vmx).map(([register, { image, after, access }]) => {
    const of = (change: object): Any => ({
      ...common,
      engine: 'vmx',
      registers: { ...processor, eptp: { lo: 0x2_001e, hi: 0 }, modeBasedExecute: 'off', ...change },
      access: { ...reading, ...access },
    });
    return { name: `vmx ${register}`, image, before: of({}), after: of(after) };
  }),
  ...Object.entries(svm).map(([register, { image, after, access }]) => {
    const host = { nestedCr3: { lo: 0x2_0000, hi: 0 }, hostCr0: processor.cr0, hostCr4: PAE, hostEfer: 0x900 };
    const of = (change: object): Any => ({
      ...common,
      engine: 'svm',
      registers: { ...processor, ...host, ...change },
      access: { ...reading, ...access },
    });
    return { name: `svm ${register}`, image, before: of({}), after: of(after) };
  }),
];

it.each(rows)('$name alone differs', ({ image, before, after }) => {
  const [first, second] = [before, after].map((one) => run(new AccessUnit(memory), one, image));
  expect(second).not.toEqual(first);
  const unit = new AccessUnit(memory);
  const results = [before, after, before, before].map((one) => run(unit, structuredClone(one), image));
  expect(results).toEqual([first, second, first, first]);
});

it('PDPTEs in memory are read again by registers that are the same', () => {
  const unit = new AccessUnit(memory);
  const one: Any = { ...common, engine: 'native', registers: { ...processor, efer: 0 }, access: reading };
  const directory: readonly Cell[] = levels(0x1_0007).slice(2);
  const results = [0x3001, 0x3003, 0x5001, 0x3001].map((lo) => run(unit, one, [[1, 0, lo], ...directory]).kind);
  expect(results).toEqual(['done', 'generalProtection', 'pageFault', 'done']);
});
