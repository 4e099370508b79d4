// XSA-92: a change of type makes something of nothing. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-92',
  title: 'A change of type turns a hole into an entry for a frame that there is not',
  year: 2014,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['OWN', 'XEN'],
  source: 'XSA-92, "HVMOP_set_mem_type allows invalid P2M entries to be created"; fixed in Xen by commit 83bb5eb4d3',
  edits: [
    {
      file: 'memory/types.ts',
      before:
        "  const found = lookup(m, target, gfn);\n  if (found === undefined) return type === 'none' ? undefined : 'EINVAL';\n",
      after:
        "  const found = lookup(m, target, gfn) ?? { mfn: 2 ** (m.geometry.maxPhysAddr - 12) - 1, type: 'none' as const };\n",
    },
    {
      file: 'memory/types.ts',
      before: "  if (!isRamType(found.type)) return 'EINVAL';\n",
      after: "  if (!isRamType(found.type) && found.type.startsWith('grant')) return 'EINVAL';\n",
    },
  ],
  killedBy: [
    'harness/noGuestAddressesTheHypervisor',
    'hap/nobodyReachesWhatIsNotTheirs',
    'harness/onlyManagersManage',
    'harness/bothSidesAgree',
  ],
  trace: 'trace.json',
  note: 'Needs a device model that sets the type of a gfn that means nothing.',
};
