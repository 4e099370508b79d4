// XSA-158: one limit of orders for all. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-158',
  title: 'Guests may ask for extents as large as the control domain may',
  year: 2015,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['WORK', 'PRIV'],
  source: 'XSA-158, "long running memory operations on ARM"; fixed in Xen by commit 4a578b316e',
  edits: [
    {
      file: 'memory/reservation.ts',
      before: `export function orderMax(m: Machine, caller: DomId): number {
  const { orderMaxControl, orderMaxGuest } = m.geometry.capacity;
  return caller === DOMID_CONTROL ? orderMaxControl : orderMaxGuest;
}
`,
      after: `export const orderMax = (m: Machine, _caller: DomId): number => m.geometry.capacity.orderMaxControl;
`,
    },
  ],
  killedBy: ['harness/onlyManagersManage', 'harness/workIsBounded', 'harness/bothSidesAgree'],
  trace: 'trace.json',
  note: 'The limit of the control domain stands for the common one, which was far too high for guests.',
};
