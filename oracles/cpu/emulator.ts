// What the two emulators have in common: jobs, their records one after the other, and the kernel's memory that holds them.
// A first reader may skip this file.

import { type AccessCase, type Manner, putRequest, type Raw, readReply, replyBytes, requestBytes } from './pack.ts';

/** A case to be carried out, and how. */
export interface Job {
  readonly case: AccessCase;
  readonly manner: Manner;
}

/** What a processor made of a job; undefined: the machine did not survive it. */
export type Answers = readonly (Raw | undefined)[];

/** An emulator that carries out cases. */
export interface Emulator {
  readonly version: string;
  run(jobs: readonly Job[]): Promise<Answers>;
  close(): void;
}

/** Where the kernel has cases and results (kernel/layout.h). */
export const layout = { mailbox: 0x40_0000, cases: 0x40_1000, results: 0xb0_0000, end: 0x100_0000 } as const;

/** How many of `jobs` fit into the kernel's memory. */
export function fitting(jobs: readonly Job[]): number {
  let requests = layout.cases;
  let replies = layout.results;
  for (const [i, { case: one, manner }] of jobs.entries()) {
    requests += requestBytes(one.image.length, manner.hints.length);
    replies += replyBytes(one.image.length);
    if (requests > layout.results || replies > layout.end) return i;
  }
  return jobs.length;
}

/** Records of `jobs` one after the other. */
export function requestsOf(jobs: readonly Job[]): Uint8Array {
  const total = jobs.reduce(
    (sum, { case: one, manner }) => sum + requestBytes(one.image.length, manner.hints.length),
    0,
  );
  const bytes = new Uint8Array(total);
  const view = new DataView(bytes.buffer);
  let offset = 0;
  for (const { case: one, manner } of jobs) offset += putRequest({ view, offset }, one, manner);
  return bytes;
}

/** The results of the first `count` of `jobs`. */
export function repliesIn(bytes: Uint8Array, jobs: readonly Job[]): readonly Raw[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let offset = 0;
  return jobs.map(({ case: one }) => {
    const raw = readReply({ view, offset }, one.image.length);
    offset += replyBytes(one.image.length);
    return raw;
  });
}

/** Bytes of the results of `jobs`. */
export const repliesBytes = (jobs: readonly Job[]): number =>
  jobs.reduce((sum, { case: one }) => sum + replyBytes(one.image.length), 0);
