// Nominal types over plain numbers: a gfn cannot be passed where an mfn is meant.
// Costs nothing at run time. A first reader may skip this file.

declare const brand: unique symbol;

/** `T` that only code naming `Name` can produce; erased at run time. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };
