// Linear frames at the end of all addresses: a sum beyond 2^53 would not be exact.
// A first reader may skip it.

import { expect, it } from 'vitest';
import { PAGES, wrapped } from './pages.ts';

it.each([
  [-1, PAGES - 1],
  [0, 0],
  [PAGES - 1 + 16, 15],
  [PAGES - 1 + 17, 16],
])('frame %d is frame %d', (page, wanted) => {
  expect(wrapped(page)).toBe(wanted);
});
