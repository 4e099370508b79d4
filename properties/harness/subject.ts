// What is put to the test: an implementation as a value. The clean one is impl/ itself; an edited copy of that folder is
// another subject with the same face.

import type { Header } from '#abi/trace.ts';
import { Machine } from '#impl/machine.ts';

/** An implementation under test. */
export interface Subject {
  readonly name: string;
  /** A fresh machine without domains. */
  readonly create: (header: Header) => Machine;
}

/** The implementation as it stands. */
export const clean: Subject = { name: 'clean', create: (header) => new Machine(header) };
