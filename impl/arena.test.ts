// The arena's log of writes: that going back gives every word as it was, and that whoever has forgotten says so.
// A first reader may skip it.

import { describe, expect, it } from 'vitest';
import { Prng } from '#lib/prng.ts';
import { Arena } from './arena.ts';

const small = (): Arena<'low' | 'high'> => new Arena({ low: { length: 40, bits: 8 }, high: { length: 24 } });

function scribble(arena: Arena<'low' | 'high'>, prng: Prng, writes: number): void {
  for (let i = 0; i < writes; i += 1)
    if (prng.chance(1, 2)) arena.fields.low.set(prng.below(40), prng.below(1000));
    else arena.fields.high.set(prng.below(24), prng.below(2 ** 32));
}

describe('an arena', () => {
  it('goes back to how it was after any number of writes', () => {
    const prng = new Prng(11);
    for (let round = 0; round < 50; round += 1) {
      const arena = small();
      scribble(arena, prng, prng.below(100));
      const before = arena.snapshot();
      const { count } = arena.log;
      scribble(arena, prng, prng.below(100));
      if (prng.chance(1, 2)) arena.log.take(() => undefined);
      scribble(arena, prng, prng.below(10));
      expect(arena.rewind(count)).toBe(true);
      expect(arena.snapshot()).toEqual(before);
      expect(arena.log.count).toBe(count);
    }
  });

  it('tells of every write once, also after it went back', () => {
    const arena = small();
    const told: number[] = [];
    const take = (): void => arena.log.take((offset) => told.push(offset));
    arena.fields.low.set(3, 1);
    take();
    const { count } = arena.log;
    arena.fields.low.set(4, 1);
    arena.rewind(count);
    arena.fields.low.set(5, 1);
    take();
    take();
    expect(told).toEqual([3, 5]);
  });

  it('makes another one like itself by its changes', () => {
    const arena = small();
    scribble(arena, new Prng(5), 200);
    const other = small();
    other.change(arena.changes());
    expect(other.snapshot()).toEqual(arena.snapshot());
  });

  it('does not go back behind words that were put back without being written', () => {
    const arena = small();
    const before = arena.snapshot();
    const { count } = arena.log;
    arena.fields.low.set(0, 1);
    const later = arena.snapshot();
    arena.restore(before);
    arena.restore(later);
    expect(arena.rewind(count)).toBe(false);
    expect(arena.snapshot()).toEqual(later);
    expect(() => arena.log.undo(arena.words, arena.log.count + 1)).toThrow('not on');
  });

  it('does not go back behind what it has forgotten', () => {
    const arena = small();
    arena.fields.low.set(0, 1);
    const { count } = arena.log;
    arena.fields.low.set(0, 2);
    arena.log.forget();
    arena.fields.low.set(0, 3);
    expect(arena.rewind(count)).toBe(false);
    expect(arena.fields.low.get(0)).toBe(3);
    expect(() => arena.changes()).toThrow(/back to the beginning/u);
  });
});
