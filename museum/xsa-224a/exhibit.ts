// XSA-224A: an unmap drops a reference that it was not asked for. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-224a',
  title: 'An unmap that leaves the device its part drops the reference of that part',
  year: 2017,
  mechanism: 'grants',
  class: 'sequential',
  invariants: ['REF', 'FREE'],
  source: 'XSA-224, "grant table operations mishandle reference counts"; fixed in Xen by commit 8fdfcb2b6b',
  edits: [
    {
      file: 'grants/unmap.ts',
      before: `  if (done !== 0) of.grips.push({ granter, ref, mfn, flags: done + and(flags, mapFlags.readOnly) });
`,
      after: `  const loose = hasDevice && dev !== 'mapped' ? 1 : 0;
  if (done + loose !== 0) of.grips.push({ granter, ref, mfn, flags: done + and(flags, mapFlags.readOnly), loose });
`,
    },
    {
      file: 'grants/active.ts',
      before: `  readonly mfn: number;
  readonly flags: number;
}

/** Where`,
      after: `  readonly mfn: number;
  readonly flags: number;
  readonly loose?: number;
}

/** Where`,
    },
    {
      file: 'grants/active.ts',
      before: `export function* letGoOf(m: Machine, { granter, mfn, flags }: Omit<Grip, 'ref'>, isTyped = true): Step<void> {
`,
      after: `export function* letGoOf(m: Machine, grip: Omit<Grip, 'ref'>, isTyped = true): Step<void> {
  const { granter, mfn, flags, loose = 0 } = grip;
`,
    },
    {
      file: 'grants/active.ts',
      before: 'left = usesOf(flags); left',
      after: 'left = usesOf(flags) + loose; left',
    },
  ],
  killedBy: [
    'memory/referencesEqualUses',
    'grants/pinsEqualUses',
    'grants/pinnedFramesLive',
    'harness/countersEqualTheModel',
    'harness/bothSidesAgree',
    'harness/noAssertionFails',
    'hap/noLeafNamesAFreeFrame',
    'harness/everyUseIsOfThePresentLife',
  ],
  trace: 'trace.json',
  note: 'Only the control domain maps grants for devices here.',
};
