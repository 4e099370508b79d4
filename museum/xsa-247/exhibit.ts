// XSA-247: reclaiming unused memory goes on although the entry could not be removed. See README.md for the story.
// A first reader may skip the edits' text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-247',
  title: 'Memory is reclaimed for populate-on-demand although its P2M entry could not be removed',
  year: 2017,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['FREE', 'OWN', 'M2P', 'REF'],
  source: 'XSA-247, "Missing p2m error checking in PoD code"; fixed in Xen by commits 92790672de and its second part',
  edits: [
    {
      file: 'memory/pod-reclaim.ts',
      before: '    if (!isZero(m, dom, page.mfn, GLANCE) || !(yield* remove(m, dom, page))) continue;\n',
      after: '    if (!isZero(m, dom, page.mfn, GLANCE)) continue;\n    yield* remove(m, dom, page);\n',
    },
    {
      file: 'memory/pod-decrease.ts',
      before: `  if (!(yield* remove(m, dom, piece))) {
    if (piece.order > 0) crash(m, dom);
    return 0;
  }
  countOnDemand(m, dom, -pow2(piece.order));
`,
      after: '  yield* remove(m, dom, piece);\n  countOnDemand(m, dom, -pow2(piece.order));\n',
    },
  ],
  killedBy: [
    'hap/nobodyReachesWhatIsNotTheirs',
    'hap/noLeafNamesAFreeFrame',
    'memory/cacheIsSetAside',
    'memory/cacheHoldsNothing',
    'memory/demandIsCounted',
    'memory/inverseMapIsInverse',
    'harness/everyUseIsOfThePresentLife',
    'harness/countersEqualTheModel',
    'harness/bothMapsAgree',
    'harness/refusalsHaveNoOtherEffects',
    'harness/noAssertionFails',
    'harness/bothSidesAgree',
  ],
  trace: 'trace.json',
  note: 'Needs a removal that must split a superpage while the paging pool has no page to give, or fate refuses one.',
};
