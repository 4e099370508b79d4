// What a caller hears. One shape for all operations, so that comparison, printing and declassification are written once.
// Sources: Xen public/errno.h (names), public/grant_table.h (grant statuses).

import type { Word } from './address.ts';
import type { GrantStatus } from './grants.ts';

/** Xen's errno names that any operation here can answer with. */
export const errnos = [
  'EPERM', 'ENOENT', 'ESRCH', 'ENXIO', 'E2BIG', 'ENOMEM', 'EFAULT', 'EACCES', 'EBUSY', 'EEXIST', 'EXDEV', 'ENODEV', 'EINVAL', 'ENOSPC', 'ENOSYS', 'ENOTEMPTY', 'EOPNOTSUPP', 'ERESTART', 'EILSEQ', 'EOVERFLOW',
] as const; // prettier-ignore

export type Errno = (typeof errnos)[number];

/** Their numbers, where a caller is told of one in its memory. */
export const errnoNumbers: Readonly<Record<Errno, number>> = {
  EPERM: 1, ENOENT: 2, ESRCH: 3, ENXIO: 6, E2BIG: 7, ENOMEM: 12, EACCES: 13, EFAULT: 14, EBUSY: 16, EEXIST: 17, EXDEV: 18, ENODEV: 19, EINVAL: 22,
  ENOSPC: 28, ENOSYS: 38, ENOTEMPTY: 39, EOVERFLOW: 75, EILSEQ: 84, ERESTART: 85, EOPNOTSUPP: 95,
}; // prettier-ignore

/**
 * ok: done. preempted: stopped at a boundary, `done` elements complete, to be taken up with `start` = done.
 * violation: a CPU access that the nested tables refuse (it reads all ones and writes nothing); with paging on `out` is the
 * gfn and 1 if it was one of the guest's tables, else 0.
 * pageFault: the guest's own tables refuse an access; `out` is the error code, `words` the linear address (CR2).
 * generalProtection: a linear address that is not canonical, or a register that cannot be so.
 * invalidOpcode: a user met a nested entry that is malformed, and hears of an instruction that there is not (#UD).
 * ERESTART, of an access: it was not made, and the processor will come back to it (Xen lets it try for ever).
 * gone: the calling domain no longer runs (dead, dying or paused): nothing was done.
 */
export type Status =
  'ok' | 'preempted' | 'violation' | 'pageFault' | 'generalProtection' | 'invalidOpcode' | 'gone' | Errno | GrantStatus;

/** The answer to one element of a batch. */
export interface ElementReply {
  readonly status: Status;
  /** Numbers handed out for this element (a handle). */
  readonly out: readonly number[];
}

/** The answer to an operation. */
export interface Reply {
  readonly status: Status;
  /** Elements completed, counted from the start of the batch, `start` included. */
  readonly done: number;
  /** Numbers handed out (counts, frame numbers). */
  readonly out: readonly number[];
  /** Words read. */
  readonly words: readonly Word[];
  readonly elements: readonly ElementReply[];
}

const NOTHING: Omit<Reply, 'status'> = { done: 0, out: [], words: [], elements: [] };

/** A reply of `status` with the given parts and nothing else. */
export const reply = (status: Status, parts: Partial<Omit<Reply, 'status'>> = NOTHING): Reply => ({
  status,
  done: parts.done ?? 0,
  out: parts.out ?? NOTHING.out,
  words: parts.words ?? NOTHING.words,
  elements: parts.elements ?? NOTHING.elements,
});

/**
 * How tightly the model fixes a reply. exact: this one. oneOf: any of these. anyError: some errno and no effect.
 * Looser is weaker; the share per operation is measured and may only fall.
 */
export type Expected =
  | { readonly kind: 'exact'; readonly reply: Reply }
  | { readonly kind: 'oneOf'; readonly replies: readonly Reply[] }
  | { readonly kind: 'anyError' };

/** Who observes each part of a reply: the domain in whose name the call was made, or nobody. */
export type Observer = 'caller' | 'nobody';

/** Observers by part. Whether a caller hears replies at all is said with the agents (`hearsReplies`). */
export const replyObservers: Readonly<Record<keyof Reply, Observer>> = {
  status: 'caller',
  done: 'caller',
  out: 'caller',
  words: 'caller',
  elements: 'caller',
};
