// Simulated hardware: what a walk in two dimensions asks of the nested tables, whatever their format: a guest-physical
// address, and what it is wanted for. A first reader may skip it after the names of uses.
// Sources: Intel SDM vol. 3C, "EPT Violations"; AMD APM vol. 2, "Nested Paging".

/**
 * What a guest-physical address is wanted for: a table of the guest, an access of each kind, a fetch at a linear address that
 * is the user's by the guest's tables, or the setting of flags in a table of the guest.
 */
export const USE = { table: 0, read: 1, write: 2, readModifyWrite: 3, fetch: 4, userFetch: 5, flags: 6 } as const;
export const USES = 7;

/** Halves of a guest-physical address and a use; the high half of the machine address, the low half in `out`; negative: refused. */
export type NestedWalk = (low: number, high: number, use: number) => number;

/**
 * Cells of `out`: the low half of the machine address, and what the nested tables give: R, W, X in bits 0..2, X for user-mode linear
 * addresses in bit 10 as in an extended entry, and in bit 9 whether the last entry is dirty.
 */
export const NESTED_OUT = { low: 0, rights: 1 } as const;

/** Nested tables of one format in one memory. */
export interface Nested {
  readonly out: Int32Array;
  readonly walk: NestedWalk;
  /** By use: the bits of `rights` without which a translation that is remembered does not serve. */
  readonly demand: Int32Array;
}
