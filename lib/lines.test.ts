// Files of results survive being cut off.
// A first reader may skip this file.

import { expect, it } from 'vitest';
import { lineAfter, valuesIn } from './lines.ts';

it('reads back what was appended', () => {
  const first = lineAfter('', { seed: 1 });
  expect(valuesIn(first + lineAfter(first, { seed: 2 }))).toEqual([{ seed: 1 }, { seed: 2 }]);
});

it('passes over a line that was cut off, and appends after it', () => {
  const cut = `${lineAfter('', { seed: 1 })}{"see`;
  expect(valuesIn(cut + lineAfter(cut, { seed: 2 }))).toEqual([{ seed: 1 }, { seed: 2 }]);
});
