// The implementation against the specification on the same accesses (goal P6): the walker alone, and whole accesses from registers to
// bytes. A first reader may skip how results become a checksum.

import type { Word } from '#abi/address.ts';
import { CASE_VERSION, type AccessResult, type CaseOf, type Poke } from '#abi/case.ts';
import { AccessUnit } from '#impl/paging/access.ts';
import type { WordReader } from '#model/hap/walk.ts';
import { memoryOf } from '#model/paging/memory.ts';
import { translateAccess } from '#model/paging/translate.ts';
import { race, type Contestant } from './clock.ts';
import { bigCaseOf, bigMemoryOf, bigTranslate, bigWordsOf, type BigReader, type BigResult } from './cpu-bigint.ts';
import { passOf } from './cpu-contestants.ts';
import { stageOf, type Scene, type Stage } from './cpu-tables.ts';

/** Where words are read: in place, or in a Map of them that was made once, as cases have it. */
export type MemoryKind = 'words' | 'map';

/** What each of the two specifications reads. */
export interface Pairing {
  readonly specification: MemoryKind;
  readonly bigints: MemoryKind;
}

/** Translations per CPU second, best rounds: whole accesses, but for the walker. */
export interface ReferenceSpeeds {
  readonly specification: number;
  readonly bigints: number;
  readonly access: number;
  readonly walker: number;
}

/** Accesses of a scene that all go through. */
const COUNT = 2 ** 14;

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

/** The words of a stage as a case would have them. */
function imageOf({ memory }: Stage): readonly Poke[] {
  const image: Poke[] = [];
  for (let at = 0; at < memory.length; at += 2) {
    const word = { lo: unsigned(memory[at] ?? 0), hi: unsigned(memory[at + 1] ?? 0) };
    if (word.lo !== 0 || word.hi !== 0) image.push({ mfn: Math.floor(at / 1024), index: (at % 1024) / 2, word });
  }
  return image;
}

function readerOf(kind: MemoryKind, stage: Stage): WordReader {
  if (kind === 'map') return memoryOf(imageOf(stage));
  const { memory } = stage;
  return (mfn, index) => {
    const at = 2 * (512 * mfn + index);
    return { lo: unsigned(memory[at] as number), hi: unsigned(memory[at + 1] as number) };
  };
}

const bigReaderOf = (kind: MemoryKind, stage: Stage): BigReader =>
  kind === 'map' ? bigMemoryOf(imageOf(stage)) : bigWordsOf(stage.memory);

/** Bits of an error code that the entries decide: P, RSVD, PK. */
const decided = [1, 8, 0x20];

/** As the passes of contestants sum: addresses as halves, faults as the complement of what the entries say. */
function add(sum: number, result: AccessResult | BigResult): number {
  if (result.kind === 'pageFault') {
    const code = decided.filter((bit) => Math.floor(result.errorCode / bit) % 2 === 1).reduce((a, b) => a + b, 0);
    return Math.imul(Math.imul(sum, 31) - 1 - code, 1);
  }
  const maddr = result.kind === 'done' ? Number(result.bytes[0]?.maddr ?? 0) : 0;
  return Math.imul(Math.imul(sum, 31) + maddr + Math.floor(maddr / 2 ** 32), 1);
}

/** Who goes through all accesses in turn: `pass` answers a checksum. */
function contestantOf(name: string, repeats: number, pass: () => number): Contestant & { sums: Set<number> } {
  const sums = new Set<number>();
  const work = (): number => {
    for (let i = 0; i < repeats; i += 1) sums.add(unsigned(pass()));
    return repeats * COUNT;
  };
  return { name, work, sums };
}

/** All sides on one stage. */
function contestantsOn(stage: Stage, pairing: Pairing): readonly ReturnType<typeof contestantOf>[] {
  const cases = casesOf(stage);
  const bigCases = cases.map(bigCaseOf);
  const read = readerOf(pairing.specification, stage);
  const bigRead = bigReaderOf(pairing.bigints, stage);
  const unit = new AccessUnit(stage.memory);
  return [
    contestantOf('specification', 4, () =>
      cases.reduce((sum: number, one) => add(sum, translateAccess(one, read).result), 0),
    ),
    contestantOf('bigints', 2, () =>
      bigCases.reduce((sum: number, one) => add(sum, bigTranslate(one, bigRead).result), 0),
    ),
    contestantOf('access', 2, () => cases.reduce((sum: number, one) => add(sum, unit.run(one)), 0)),
    contestantOf('walker', 50, passOf('walk', stage)),
  ];
}

/** Races on accesses of a scene; throws if the checksums differ. */
export function referenceSpeeds(scene: Scene, pairing: Pairing, rounds: number): ReferenceSpeeds {
  const contestants = contestantsOn(stageOf({ ...scene, count: COUNT }), pairing);
  const timed = race(contestants, rounds);
  if (new Set(contestants.flatMap(({ sums }) => [...sums])).size !== 1)
    throw new Error('the implementation and the specifications differ');
  const speed = (name: string): number => timed.find((one) => one.name === name)?.perSecond ?? 0;
  return {
    specification: speed('specification'),
    bigints: speed('bigints'),
    access: speed('access'),
    walker: speed('walker'),
  };
}
