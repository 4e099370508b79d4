// Our mistakes: conditions that hold unless the code that states them is wrong.
// Nobody catches these but the runner, which reports them as CRASH.

/** Thrown when a condition the code relies on is false. */
export class BrokenInvariant extends Error {
  override readonly name = 'BrokenInvariant';
}

/** Throws `BrokenInvariant` with `sentence` unless `condition` holds. One condition per call. */
export function invariant(condition: boolean, sentence: string): asserts condition {
  if (!condition) throw new BrokenInvariant(sentence);
}

/** Marks a switch as exhaustive: does not compile while a case is open. */
export function unreachable(value: never): never {
  throw new BrokenInvariant(`unreachable: ${JSON.stringify(value)}`);
}

/** `value`, which the caller knows to be present; throws `BrokenInvariant` with `sentence` otherwise. */
export function present<T>(value: T | undefined | null, sentence: string): T {
  if (value === undefined || value === null) throw new BrokenInvariant(sentence);
  return value;
}
