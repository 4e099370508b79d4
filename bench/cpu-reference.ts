// The implementation against the specification on the same accesses (goal P6): the walker alone, and whole accesses from registers to
// bytes. A first reader may skip how results become a checksum.

import type { AccessResult, CaseOf } from '#abi/case.ts';
import type { Word } from '#abi/address.ts';
import { AccessUnit } from '#impl/paging/access.ts';
import { CASE_VERSION } from '#abi/case.ts';
import { translateAccess } from '#model/paging/translate.ts';
import { race, ratio } from './clock.ts';
import { bigMemoryOf, bigTranslate, type BigResult } from './cpu-bigint.ts';
import { passOf } from './cpu-contestants.ts';
import { stageOf, type Scene, type Stage } from './cpu-tables.ts';

/** Translations per CPU second on `pages` pages, and how many times the specification's each side of the implementation makes. */
export interface ReferenceFigures {
  readonly pages: number;
  readonly specification: number;
  readonly walker: number;
  readonly timesWalker: number;
  readonly timesAccess: number;
  /** How many times the specification makes what a walk over a Map of bigints makes. */
  readonly timesBigint: number;
}

/** Accesses that the specification goes through in a round. */
const COUNT = 4096;

const kinds = ['read', 'write', 'fetch'] as const;

function casesOf({ accesses, processor }: Stage): readonly CaseOf<'native'>[] {
  const word = (at: number): Word => ({ lo: unsigned(accesses[at] ?? 0), hi: unsigned(accesses[at + 1] ?? 0) });
  return Array.from({ length: accesses.length / 4 }, (_, i) => ({
    engine: 'native',
    version: CASE_VERSION,
    geometry: 'x86',
    registers: processor,
    access: {
      kind: kinds[(accesses[4 * i + 2] ?? 0) / 3] ?? 'read',
      privilege: 'user',
      ac: 'clear',
      linear: word(4 * i),
      size: 1,
    },
    image: [],
  }));
}

const unsigned = (half: number): number => (half < 0 ? half + 2 ** 32 : half);

/** As the passes of contestants sum: addresses as halves, faults as the complement of what the entries say. */
function add(sum: number, result: AccessResult): number {
  const value =
    result.kind === 'done'
      ? ((result.bytes[0]?.maddr ?? 0) % 2 ** 32) + Math.floor((result.bytes[0]?.maddr ?? 0) / 2 ** 32)
      : result.kind === 'pageFault'
        ? -1 - decided.filter((bit) => Math.floor(result.errorCode / bit) % 2 === 1).reduce((a, b) => a + b, 0)
        : 0;
  return Math.imul(Math.imul(sum, 31) + value, 1);
}

/** The same of a walk over bigints. */
function addBig(sum: number, result: BigResult): number {
  const value =
    result.kind === 'done' ? Number((result.address % 2n ** 32n) + result.address / 2n ** 32n) : -1 - result.code;
  return Math.imul(Math.imul(sum, 31) + value, 1);
}

/** One round of a walk over bigints: all accesses of a stage, and the checksum. */
function bigPassOf(stage: Stage): () => number {
  const entries = bigMemoryOf(stage);
  const { lo, hi } = stage.processor.cr3;
  const root = BigInt(hi) * 2n ** 32n + BigInt(lo);
  const accesses = casesOf(stage).map(
    ({ access }) =>
      ({
        linear: BigInt(access.linear.hi) * 2n ** 32n + BigInt(access.linear.lo),
        kind: access.kind === 'write' || access.kind === 'fetch' ? access.kind : 'read',
      }) as const,
  );
  return () =>
    accesses.reduce((sum: number, { linear, kind }) => addBig(sum, bigTranslate(entries, root, linear, kind)), 0);
}

/** Bits of an error code that the entries decide: P, RSVD, PK. */
const decided = [1, 8, 0x20];

/** Races on the first accesses of a scene; throws if the checksums differ. */
export function referenceFigures(scene: Scene, rounds: number): ReferenceFigures {
  const stage = stageOf({ ...scene, count: COUNT });
  const { memory } = stage;
  const cases = casesOf(stage);
  const read = (mfn: number, index: number): Word => {
    const at = 2 * (512 * mfn + index);
    return at < memory.length
      ? { lo: unsigned(memory[at] as number), hi: unsigned(memory[at + 1] as number) }
      : { lo: 0xffff_ffff, hi: 0xffff_ffff };
  };
  const pass = passOf('walk', stage);
  const unit = new AccessUnit(memory);
  const bigPass = bigPassOf(stage);
  const repeats = 100;
  const bigRepeats = 8;
  const sums = new Set<number>([pass()]);
  const contestants = [
    {
      name: 'specification',
      work: () => {
        const sum = cases.reduce((total: number, one) => add(total, translateAccess(one, read).result), 0);
        sums.add(unsigned(sum));
        return COUNT;
      },
    },
    {
      name: 'bigint',
      work: () => {
        for (let i = 0; i < bigRepeats; i += 1) sums.add(unsigned(bigPass()));
        return bigRepeats * COUNT;
      },
    },
    {
      name: 'whole accesses',
      work: () => {
        const sum = cases.reduce((total: number, one) => add(total, unit.run(one)), 0);
        sums.add(unsigned(sum));
        return COUNT;
      },
    },
    {
      name: 'walker',
      work: () => {
        for (let i = 0; i < repeats; i += 1) sums.add(pass());
        return repeats * COUNT;
      },
    },
  ];
  const timed = race(contestants, rounds);
  if (sums.size !== 1) throw new Error('the implementation and the specification differ');
  const speed = (name: string): number => timed.find((one) => one.name === name)?.perSecond ?? 0;
  return {
    pages: scene.pages,
    specification: speed('specification'),
    walker: speed('walker'),
    timesWalker: ratio(timed, 'walker', 'specification'),
    timesAccess: ratio(timed, 'whole accesses', 'specification'),
    timesBigint: ratio(timed, 'specification', 'bigint'),
  };
}
