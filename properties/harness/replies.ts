// Comparing what was answered with what the model allows, and saying where they part.
// The model fixes every reply exactly today; suite.test.ts counts the share of looser ones, which may only fall.

import type { Word } from '#abi/address.ts';
import type { ElementReply, Expected, Reply } from '#abi/reply.ts';

const sameNumbers = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((n, i) => n === b[i]);

const sameWords = (a: readonly Word[], b: readonly Word[]): boolean =>
  a.length === b.length && a.every((word, i) => word.lo === b[i]?.lo && word.hi === b[i]?.hi);

const sameElements = (a: readonly ElementReply[], b: readonly ElementReply[]): boolean =>
  a.length === b.length &&
  a.every((one, i) => {
    const other = b[i];
    return other !== undefined && one.status === other.status && sameNumbers(one.out, other.out);
  });

/** The first part in which two replies differ; undefined: they are equal. */
export function replyDifference(a: Reply, b: Reply): keyof Reply | undefined {
  if (a.status !== b.status) return 'status';
  if (!sameElements(a.elements, b.elements)) return 'elements';
  if (a.done !== b.done) return 'done';
  if (!sameNumbers(a.out, b.out)) return 'out';
  return sameWords(a.words, b.words) ? undefined : 'words';
}

const errors: ReadonlySet<string> = new Set(['ok', 'preempted', 'okay']);

/** Whether a reply refuses. */
export const isError = (answer: Reply): boolean => !errors.has(answer.status);

/** Whether the model allows this reply. */
export function sameReply(expected: Expected, answer: Reply): boolean {
  switch (expected.kind) {
    case 'exact':
      return replyDifference(expected.reply, answer) === undefined;
    case 'oneOf':
      return expected.replies.some((one) => replyDifference(one, answer) === undefined);
    case 'anyError':
      return isError(answer);
  }
}
