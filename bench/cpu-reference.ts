// The implementation against the specification on the same accesses (goal P6): the walker alone, and whole accesses from registers to
// bytes. A first reader may skip how results become a checksum.

import type { Word } from '#abi/address.ts';
import { CASE_VERSION, type AccessResult, type CaseOf, type Poke } from '#abi/case.ts';
import { AccessUnit } from '#impl/paging/access.ts';
import { memoryOf } from '#model/paging/memory.ts';
import { translateAccess } from '#model/paging/translate.ts';
import { race, ratio, type Contestant } from './clock.ts';
import { bigCaseOf, bigMemoryOf, bigTranslate, bigWordsOf, type BigReader, type BigResult } from './cpu-bigint.ts';
import { passOf } from './cpu-contestants.ts';
import { stageOf, type Scene, type Stage } from './cpu-tables.ts';

/** Translations per CPU second on `pages` pages, and how many times the specification's each side of the implementation makes. */
export interface ReferenceFigures {
  readonly pages: number;
  readonly specification: number;
  readonly walker: number;
  readonly timesWalker: number;
  readonly timesAccess: number;
  /** How many times the specification makes what the same in bigints makes over a Map; then, both over the same memory. */
  readonly timesBigints: number;
  readonly timesBigintsBothWords: number;
  readonly timesBigintsBothMap: number;
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

/** The two memories that both specifications are raced over: a Map of words, as cases have it, and the words where they lie. */
function memoriesOf(stage: Stage) {
  const image = imageOf(stage);
  const { memory } = stage;
  const words = (mfn: number, index: number): Word => {
    const at = 2 * (512 * mfn + index);
    return { lo: unsigned(memory[at] as number), hi: unsigned(memory[at + 1] as number) };
  };
  return {
    map: { read: memoryOf(image), bigRead: bigMemoryOf(image) },
    words: { read: words, bigRead: bigWordsOf(memory) },
  };
}

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
function contestantsOn(stage: Stage): readonly ReturnType<typeof contestantOf>[] {
  const cases = casesOf(stage);
  const bigCases = cases.map(bigCaseOf);
  const { map, words } = memoriesOf(stage);
  const unit = new AccessUnit(stage.memory);
  const overCases = (translate: (one: (typeof cases)[number]) => AccessResult) => (): number =>
    cases.reduce((sum: number, one) => add(sum, translate(one)), 0);
  const inBigints = (read: BigReader) => (): number =>
    bigCases.reduce((sum: number, one) => add(sum, bigTranslate(one, read).result), 0);
  return [
    contestantOf(
      'specification',
      4,
      overCases((one) => translateAccess(one, words.read).result),
    ),
    contestantOf(
      'specification, Map',
      4,
      overCases((one) => translateAccess(one, map.read).result),
    ),
    contestantOf('bigints', 2, inBigints(words.bigRead)),
    contestantOf('bigints, Map', 2, inBigints(map.bigRead)),
    contestantOf(
      'whole accesses',
      4,
      overCases((one) => unit.run(one)),
    ),
    contestantOf('walker', 50, passOf('walk', stage)),
  ];
}

/** Races on accesses of a scene; throws if the checksums differ. */
export function referenceFigures(scene: Scene, rounds: number): ReferenceFigures {
  const contestants = contestantsOn(stageOf({ ...scene, count: COUNT }));
  const timed = race(contestants, rounds);
  if (new Set(contestants.flatMap(({ sums }) => [...sums])).size !== 1)
    throw new Error('the implementation and the specifications differ');
  const speed = (name: string): number => timed.find((one) => one.name === name)?.perSecond ?? 0;
  return {
    pages: scene.pages,
    specification: speed('specification'),
    walker: speed('walker'),
    timesWalker: ratio(timed, 'walker', 'specification'),
    timesAccess: ratio(timed, 'whole accesses', 'specification'),
    timesBigints: ratio(timed, 'specification', 'bigints, Map'),
    timesBigintsBothWords: ratio(timed, 'specification', 'bigints'),
    timesBigintsBothMap: ratio(timed, 'specification, Map', 'bigints, Map'),
  };
}
