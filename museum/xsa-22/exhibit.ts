// XSA-22: the inverse map is written although the forward entry was refused. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-22',
  title: 'The inverse map is written although the forward entry was refused',
  year: 2012,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['M2P'],
  source: 'XSA-22, "Memory mapping failure DoS vulnerability"; fixed in Xen by commit ef3cea268f',
  edits: [
    {
      file: 'memory/p2m.ts',
      before: `  return yield* setEntry(m, dom, change, () => {
    for (const mfn of frames) m.f.m2p.setWide(mfn, 0);
    if (covered !== undefined) countOnDemand(m, dom, -covered.onDemand);
    if (!isRamType(change.type)) return;
    for (let i = 0; i < pow2(change.order); i += 1)
      if (m.f.frameOwner.get(change.mfn + i) === dom + 1) m.f.m2p.setWide(change.mfn + i, change.gfn + i + 1);
  });
`,
      after: `  const isSet = yield* setEntry(m, dom, change, () => {
    for (const mfn of frames) m.f.m2p.setWide(mfn, 0);
    if (covered !== undefined) countOnDemand(m, dom, -covered.onDemand);
  });
  if (!isRamType(change.type)) return isSet;
  for (let i = 0; i < pow2(change.order); i += 1)
    if (m.f.frameOwner.get(change.mfn + i) === dom + 1) m.f.m2p.setWide(change.mfn + i, change.gfn + i + 1);
  return isSet;
`,
    },
  ],
  killedBy: [
    'memory/inverseMapIsInverse',
    'harness/bothMapsAgree',
    'harness/refusalsHaveNoOtherEffects',
    'harness/bothSidesAgree',
  ],
  trace: 'trace.json',
  note: 'Needs an extent that must be given a new table while the paging pool has none to give, or fate refuses one.',
};
