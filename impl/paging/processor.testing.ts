// The processor that directed tests of walkers begin with: four levels, XD and write protection on, 40 bits of physical address, a
// root in frame 1. A first reader may skip it.

import type { CaseOf } from '#abi/case.ts';

export const processor: CaseOf<'native'>['registers'] = {
  cr0: 0x8001_0001,
  cr3: { lo: 0x1000, hi: 0 },
  cr4: 0x20,
  efer: 0x900,
  pkru: 0,
  pkrs: 0,
  maxPhysAddr: 40,
  page1Gb: 'present',
  pdptes: [],
};
