// The arbitrary of cases: it draws a seed and makes the case from it; shrinking works on the case itself, so a stored one
// shrinks as well. fast-check accepts every smaller case that fails; `failsAs` keeps to the same disagreement.
// A first reader may skip it.

import type { Case } from '#abi/case.ts';
import { decodeCase } from '#abi/decode.ts';
import { Prng } from '#lib/prng.ts';
import * as fc from 'fast-check';
import { type FailsAs, smallerCases } from './case-shrink.ts';

const SEED_MAX = 0x7fff_ffff;

/** Cases that `make` makes. With `failsAs`, only those smaller cases are offered that fail under the same name. */
export class CaseArbitrary<C extends Case> extends fc.Arbitrary<C> {
  readonly #make: (prng: Prng) => C;
  readonly #failsAs: FailsAs | undefined;

  constructor(make: (prng: Prng) => C, failsAs?: FailsAs) {
    super();
    this.#make = make;
    this.#failsAs = failsAs;
  }

  generate(mrng: fc.Random): fc.Value<C> {
    return new fc.Value<C>(this.#make(new Prng(mrng.nextInt(-SEED_MAX, SEED_MAX))), undefined);
  }

  /** A stored case can be shrunk again. */
  canShrinkWithoutContext(value: unknown): value is C {
    return decodeCase(JSON.stringify(value) ?? '').ok;
  }

  /** Smaller cases, best first. The candidates keep the engine, so they are of the same kind. */
  shrink(value: C): fc.Stream<fc.Value<C>> {
    return new fc.Stream(offered(value, this.#failsAs));
  }
}

function* offered<C extends Case>(value: C, failsAs: FailsAs | undefined): Generator<fc.Value<C>, void, undefined> {
  const wanted = failsAs?.(value);
  for (const smaller of smallerCases(value))
    if (failsAs === undefined || (wanted !== undefined && failsAs(smaller) === wanted))
      yield new fc.Value<C>(smaller as C, undefined);
}
