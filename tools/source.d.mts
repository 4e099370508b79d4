// source.mjs is imported for what it does and exports nothing.
// A first reader may skip it.

export {};
