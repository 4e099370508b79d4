// XSA-224C: a refused unmap is completed in part. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-224c',
  title: 'An unmap that is refused ends the part of the device',
  year: 2017,
  mechanism: 'grants',
  class: 'sequential',
  invariants: ['ERR', 'REF'],
  source: 'XSA-224, "grant table operations mishandle reference counts"; fixed in Xen by commit 11fc7ccb72',
  edits: [
    {
      file: 'grants/unmap.ts',
      before: `  if (hasHost && !(yield* remove(m, unmapping, { ...of, mapped, mfn }, of))) return 'generalError';
`,
      after: `  if (hasHost && !(yield* remove(m, unmapping, { ...of, mapped, mfn }, of))) {
    if (!hasDevice || dev !== 'mapped') return 'generalError';
    bindHandle(m, { mapper, handle }, { ...mapped, flags: without(flags, DEVICE) });
    of.grips.push({ granter, ref, mfn, flags: DEVICE + and(flags, mapFlags.readOnly) });
    return 'generalError';
  }
`,
    },
  ],
  killedBy: [
    'memory/referencesEqualUses',
    'grants/pinsEqualUses',
    'harness/countersEqualTheModel',
    'harness/bothSidesAgree',
    'harness/noAssertionFails',
    'harness/refusalsHaveNoOtherEffects',
  ],
  trace: 'trace.json',
  note: 'The frame number of the bus address was checked by then.',
};
