// Where things lie in the address space of a running domain, and how much of it sequences know nothing of.
// A first reader may skip this file.

import { IMAGE } from './mailbox.ts';

/** Where hidden frames begin; below that, sequences may name everything. */
export const HIDDEN_GFN = 2 ** 27 - 256;
/** What a domain runs on after its image: root, two tables of level 3, one of level 2 and one of level 1. */
export const TABLES = ['root', 'low', 'level2', 'level1', 'flat'] as const;
export const HIDDEN_FRAMES = IMAGE.frames + TABLES.length;
/** Linear address at which a running domain sees guest-physical address 0, and all others after it. */
export const FLAT = 2 ** 39;
