// Entries of devices, bit by bit: uncacheable whatever the guest's PAT says, and all rights; RAM stays write-back.
// Sources: Intel SDM vol. 3C, "EPT and Memory Typing"; AMD64 APM vol. 2, "Nested Paging" (PCD); Xen mm/p2m-ept.c, mm/p2m-pt.c.

import { describe, expect, it } from 'vitest';
import type { EntryFormat } from './entry.ts';
import { codeOf, WHOLE_ACCESS } from './entry.ts';
import { eptEntries } from './ept.ts';
import { nptEntries } from './npt.ts';

const low = ({ leafLow }: EntryFormat, type: 'ramRw' | 'mmioDirect', level: number): number =>
  leafLow({ mfn: 96, level, code: codeOf(type), access: WHOLE_ACCESS, flags: 0 }) % 0x1000;

describe('a leaf of a device', () => {
  it.each([
    ['EPT, one frame', eptEntries, 1, 0x47],
    ['EPT, a superpage', eptEntries, 2, 0xc7],
    ['NPT, one frame', nptEntries, 1, 0x17],
    ['NPT, a superpage', nptEntries, 2, 0x97],
  ] as const)('is not cached: %s', (_, format, level, bits) => {
    expect(low(format, 'mmioDirect', level)).toBe(bits);
  });

  it('differs from one of RAM, which is write-back', () => {
    expect(low(eptEntries, 'ramRw', 1)).toBe(0x37);
    expect(low(nptEntries, 'ramRw', 1)).toBe(0x07);
  });
});
