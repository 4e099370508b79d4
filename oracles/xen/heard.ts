// What a caller hears, in the terms that both Xen's answers and the model's replies can be put into. Xen tells of populate,
// increase and decrease only how many extents are done, of grants one status each, of an access what was read.

import type { Word } from '#abi/address.ts';
import { grantStatus } from '#abi/grants.ts';
import type { Op } from '#abi/operation.ts';
import type { Reply } from '#abi/reply.ts';

export interface Heard {
  readonly status?: string;
  /** Elements done, those before `start` included. */
  readonly done?: number;
  readonly out?: readonly number[];
  readonly words?: readonly Word[];
  readonly elements?: readonly string[];
  /** Handles handed out, by element; -1: none. Which numbers they are is Xen's choice. */
  readonly handles?: readonly number[];
}

/** Names of Xen's error numbers (public/errno.h), those that occur. */
const errnoNames: Readonly<Record<number, string>> = {
  1: 'EPERM', 2: 'ENOENT', 3: 'ESRCH', 6: 'ENXIO', 7: 'E2BIG', 11: 'EAGAIN', 12: 'ENOMEM', 13: 'EACCES', 14: 'EFAULT', 16: 'EBUSY',
  17: 'EEXIST', 18: 'EXDEV', 22: 'EINVAL', 28: 'ENOSPC', 33: 'EDOM', 38: 'ENOSYS', 75: 'EOVERFLOW', 84: 'EILSEQ', 95: 'EOPNOTSUPP',
}; // prettier-ignore

/** An answer of 0 or a negative error number. */
export const errnoName = (answer: number): string =>
  answer === 0 ? 'ok' : (errnoNames[-answer] ?? `answer ${answer}`);

const statusNames = new Map<number, string>(Object.entries(grantStatus).map(([name, code]) => [code, name]));

/** A grant status. */
export const statusName = (code: number): string => statusNames.get(code) ?? `status ${code}`;

/** The model's reply as its caller would hear it from Xen. */
export function expectedOf({ kind }: Op<'concrete'>, reply: Reply): Heard {
  switch (kind) {
    case 'memory.populate':
    case 'memory.increase':
    case 'memory.decrease':
      return { done: reply.done };
    case 'memory.reservation':
    case 'grants.query':
      return { status: reply.status, out: reply.out };
    case 'grants.map':
    case 'grants.unmap':
    case 'grants.copy':
      if (reply.status !== 'ok') return { status: reply.status };
      return {
        status: 'ok',
        elements: reply.elements.map(({ status }) => status),
        ...(kind === 'grants.map' ? { handles: reply.elements.map(({ out }) => out[0] ?? -1) } : {}),
      };
    case 'paging.read':
      return { words: reply.words };
    case 'paging.compareExchange':
      return reply.status === 'ok' ? { words: reply.words } : {};
    case 'paging.write':
      return {};
    default:
      return { status: reply.status };
  }
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** The first part of an answer in which Xen differs; undefined: none. Handles need only be there on both sides. */
export function differenceOf(
  expected: Heard,
  heard: Heard,
): { field: string; expected: string; actual: string } | undefined {
  for (const field of ['status', 'done', 'out', 'words', 'elements'] as const) {
    if (expected[field] === undefined || same(expected[field], heard[field])) continue;
    return { field: `reply.${field}`, expected: JSON.stringify(expected[field]), actual: JSON.stringify(heard[field]) };
  }
  return undefined;
}
