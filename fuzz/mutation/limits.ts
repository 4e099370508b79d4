// How long judging may take. By the clock of the processor, so that what else runs on the machine does not count.
// A first reader may skip it.

/** Of test for each mutant. */
export const BUDGET_MS = 8000;

/** Of one piece: pieces take tenths of a second, so one that takes so long hangs. */
export const HANGING_MS = 5000;

/** Who has had this share of its time has had it. */
export const BUSY = 0.8;

/** By the wall, for a loop that even the limit inside cannot end; the first mutant waits for the model as well. */
export const SILENT_MS = 600_000;
