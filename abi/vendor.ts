// Who made the processors of a machine, and what follows from it: the format of nested tables, and with it the rules by which
// cached translations are forgotten. A machine is of one maker. The design is docs/decisions/0007.
// A first reader may take everything for Intel.

export const vendors = ['intel', 'amd'] as const;

export type Vendor = (typeof vendors)[number];

/** Formats of nested page tables: Intel's and AMD's. */
export type TableFormat = 'ept' | 'npt';

export const formatOf: Readonly<Record<Vendor, TableFormat>> = { intel: 'ept', amd: 'npt' };

/** The vendor of a machine whose header names one or leaves it out. */
export const vendorOf = ({ vendor = 'intel' }: { readonly vendor?: Vendor }): Vendor => vendor;
