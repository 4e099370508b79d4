// XSA-31: no limit of orders. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-31',
  title: 'Extents may be of any order',
  year: 2012,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['WORK', 'PRIV'],
  source:
    'XSA-31, "Several memory hypercall operations allow invalid extent order values"; fixed in Xen by commit 8f5a6d9790',
  edits: [
    {
      file: 'memory/reservation.ts',
      before: `export function orderMax(m: Machine, caller: DomId): number {
  const { orderMaxControl, orderMaxGuest } = m.geometry.capacity;
  return caller === DOMID_CONTROL ? orderMaxControl : orderMaxGuest;
}
`,
      after: `export const orderMax = (_m: Machine, _caller: DomId): number => Infinity;
`,
    },
  ],
  killedBy: ['harness/onlyManagersManage', 'harness/workIsBounded', 'harness/bothSidesAgree'],
  trace: 'trace.json',
  note: 'Orders in traces are at most what the generators ask for: a few more than are allowed.',
};
