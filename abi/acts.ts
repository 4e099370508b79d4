// Why the hypervisor touches memory. Every load and store by the implementation names a principal and a purpose, and law ACT
// judges it: a guest's act by that guest's authority, an internal one by the role of the frame. No confused deputy.

import type { DomId } from './address.ts';

/** Internal roles under which the hypervisor may touch frames that no guest asked for. */
export const purposes = [
  /** On behalf of a guest: arguments and results in its memory, bytes of a copy. */
  'guest',
  /** Nested page tables in the pool; tables of a paravirtual guest, in its own frames. */
  'table',
  /** Status bits and entries in grant frames of the granter. */
  'grantEntry',
  /** Looking whether RAM holds nothing, and clearing what a cache for memory on demand takes in. */
  'reclaim',
  /** Erasing a frame. */
  'scrub',
  /** The hypervisor's own data. */
  'internal',
] as const;

export type Purpose = (typeof purposes)[number];

/** In whose name, and why. `domain` is undefined for the hypervisor itself. */
export interface Principal {
  readonly domain: DomId | undefined;
  readonly purpose: Purpose;
}
