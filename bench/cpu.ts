// Address translation: the implementation's walkers against native C over the same memory and accesses, with equal checksums, and against the
// specification. The goals P1 to P4 and P6 are those of the lists below. Every arrangement of every scene has a process of its own
// (cpu-child.ts, cpu-reference-child.ts), in which rounds of both sides alternate. A first reader may skip the scenes.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Arrangement } from './cpu-contestants.ts';
import { Workshop } from './cpu-native.ts';
import type { Pairing, ReferenceSpeeds } from './cpu-reference.ts';
import type { Scene } from './cpu-tables.ts';

const child = fileURLToPath(new URL('./cpu-child.ts', import.meta.url));
const referenceChild = fileURLToPath(new URL('./cpu-reference-child.ts', import.meta.url));

const small = { pages: 512, stride: 1, isNested: false, faults: true, count: 2 ** 16, repeats: 48 };
const large = { ...small, pages: 2 ** 16, stride: 3, count: 2 ** 18, repeats: 12 };
const huge = { ...large, pages: 2 ** 20, stride: 2, repeats: 4 };
const local = { ...small, isNested: true, repeats: 12 };
const wide = { ...local, pages: 2 ** 16, count: 2 ** 18, repeats: 3 };

/** What is compared: the goal, in words, and the most times the native side that it allows. */
const contests = [
  { goal: 'P1', what: '4 levels, 512 pages (S)', arrangement: 'walk', scene: small, atMost: 1.7 },
  { goal: 'P1', what: '4 levels, 64 Ki pages (L)', arrangement: 'walk', scene: large, atMost: 1.7 },
  { goal: 'P1', what: '4 levels, 1 Mi pages (XL)', arrangement: 'walk', scene: huge, atMost: 1.7 },
  { goal: 'P2', what: '2-D, 512 pages', arrangement: 'nested', scene: local, atMost: 1.35 },
  { goal: 'P2', what: '2-D, 64 Ki pages', arrangement: 'nested', scene: wide, atMost: 1.35 },
  {
    goal: 'P3',
    what: '2-D with caches, 512 pages',
    arrangement: 'remembered',
    scene: { ...local, repeats: 48 },
    atMost: 1.7,
  },
  {
    goal: 'P3',
    what: '2-D with caches, 64 Ki pages',
    arrangement: 'remembered',
    scene: { ...wide, repeats: 8 },
    atMost: 1.7,
  },
  { goal: 'P4', what: 'TLB hit', arrangement: 'buffered', scene: { ...small, faults: false, repeats: 96 }, atMost: 2 },
] as const satisfies readonly { goal: string; what: string; arrangement: Arrangement; scene: Scene; atMost: number }[];

/** Nanoseconds of CPU time for one translation, the best round of each side; native figures are undefined without a compiler. */
export interface Contest {
  readonly goal: string;
  readonly what: string;
  readonly ours: number;
  readonly native: number | undefined;
  readonly ratio: number | undefined;
  readonly atMost: number;
}

/** Whole accesses by the specification per CPU second on `pages` pages, and how many times that each side of the implementation makes. */
export interface ReferenceFigures {
  readonly pages: number;
  readonly specification: number;
  readonly timesWalker: number;
  readonly timesAccess: number;
  /** How many times the specification, reading words in place, makes what it makes in bigints over a Map; then, both over the same memory. */
  readonly timesBigints: number;
  readonly timesBigintsBothWords: number;
  readonly timesBigintsBothMap: number;
}

export interface CpuFigures {
  readonly compiler: string | undefined;
  readonly contests: readonly Contest[];
  /** P3: how many times slower the walk in two dimensions is without its caches, on 512 and on 64 Ki pages. */
  readonly cacheGain: readonly [number, number];
  /** P4: a TLB hit as a share of a walk on 512 pages. */
  readonly hitShare: number;
  readonly reference: readonly ReferenceFigures[];
}

/** What a process of the bench prints. */
function toldBy(what: string, options: readonly string[]): unknown {
  const { stdout, stderr, status } = spawnSync(process.execPath, [...process.execArgv, ...options], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`the bench of '${what}' failed: ${stderr}`);
  return JSON.parse(stdout);
}

function compete(contest: (typeof contests)[number], rounds: number, program: string | undefined): Contest {
  const { goal, what, arrangement, scene, atMost } = contest;
  const native = program === undefined ? [] : [program];
  const options = [child, arrangement, JSON.stringify(scene), String(rounds), ...native];
  const told = toldBy(what, options) as { ours: number[]; native: number[]; isEqual: boolean };
  if (!told.isEqual) throw new Error(`'${what}': the checksums differ`);
  const translations = scene.count * scene.repeats;
  const ours = Math.min(...told.ours) / translations;
  const theirs = told.native.length === 0 ? undefined : Math.min(...told.native) / translations;
  return { goal, what, ours, native: theirs, ratio: theirs === undefined ? undefined : ours / theirs, atMost };
}

/** P6: the implementation, the specification, and the specification in bigints. */
function compareSpecifications(scene: Scene, rounds: number): ReferenceFigures {
  const speeds = (pairing: Pairing): ReferenceSpeeds => {
    const options = [referenceChild, JSON.stringify(scene), JSON.stringify(pairing), String(rounds)];
    return toldBy('specifications', options) as ReferenceSpeeds;
  };
  const own = speeds({ specification: 'words', bigints: 'map' });
  const words = speeds({ specification: 'words', bigints: 'words' });
  const map = speeds({ specification: 'map', bigints: 'map' });
  return {
    pages: scene.pages,
    specification: own.specification,
    timesWalker: own.walker / own.specification,
    timesAccess: own.access / own.specification,
    timesBigints: own.specification / own.bigints,
    timesBigintsBothWords: words.specification / words.bigints,
    timesBigintsBothMap: map.specification / map.bigints,
  };
}

/** All contests, each over `rounds` rounds. */
export function cpuFigures(rounds: number): CpuFigures {
  const workshop = new Workshop();
  try {
    const done = contests.map((contest) => compete(contest, rounds, workshop.program));
    const [walk, , , local2d, wide2d, localCached, wideCached, hit] = done.map(({ ours }) => ours);
    const share = (a: number | undefined, b: number | undefined): number => (a ?? 0) / (b ?? 1);
    return {
      compiler: workshop.compiler,
      contests: done,
      cacheGain: [share(local2d, localCached), share(wide2d, wideCached)],
      hitShare: share(hit, walk),
      reference: [small, large].map((scene) => compareSpecifications(scene, rounds)),
    };
  } finally {
    workshop.dispose();
  }
}
