// The guest's mistakes are values: an operation answers with a result, it never throws.
// Our own mistakes go through `invariant` instead.

/** Either a value or the errno (a per-operation union of Xen's names) that refused it. */
export type Result<T, E extends string> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly errno: E };

/** Success carrying `value`. */
export const ok = <T>(value: T): { readonly ok: true; readonly value: T } => ({ ok: true, value });

/** Refusal with `errno`. */
export const refuse = <E extends string>(errno: E): { readonly ok: false; readonly errno: E } => ({ ok: false, errno });
