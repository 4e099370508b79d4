// What judges a mutant: the suite without the museum, as a sequence of short pieces of work. Directed tests beside the code,
// random accesses and images against the model, lockstep runs under all laws, what emulators were asked, and then the other
// tests of the mechanisms. What is expected of cases is asked of the model once and remembered.
// A first reader may skip the pieces.

import { readdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Prng } from '#lib/prng.ts';
import { attempt, sourceOf } from '#museum/attempt.ts';
import { projectRoot, readSources } from '#museum/source-tree.ts';
import { corpusFiles, readCorpus } from '#oracles/cpu/corpus.ts';
import { imageJudge, imageOf } from '#properties/hap/cases.ts';
import type { Subject } from '#properties/harness/subject.ts';
import { accessCaseOf, type AccessCase } from '#properties/paging/cases.ts';
import type { Unit } from '#properties/paging/cases-judge.ts';
import { known, Sieve, type Known } from './fast-cases.ts';
import { targets, type Mutant } from './mutants.ts';
import { begin, declared } from './tests.ts';

/** A piece of work: undefined if it finds nothing, or what it finds (a law, a test). */
export interface Piece {
  readonly name: string;
  readonly run: () => string | undefined;
}

/** Cases of each engine for each manner, and how many make a piece. */
const CASES = { general: 4000, oracle: 1000 } as const;
const PIECE = { random: 500, recorded: 5000 } as const;
const IMAGES = 3000;
/** Generated runs of 50 to 100 operations. */
const RUNS = 45;
const SEED = 1;

const engines = ['native', 'vmx', 'svm'] as const;

/** Other test files, and for which files of impl/: those that runs drive, or those that neither runs nor cases come to. */
const otherTests = {
  driven: ['properties/tlb/tlb.test.ts', 'properties/hap/hap.test.ts'],
  apart: ['bench/cpu-agreement.test.ts'],
} as const;

/** The directed tests beside the code. */
export const testsBeside = (): readonly string[] =>
  targets.flatMap((folder) =>
    readdirSync(join(projectRoot, 'impl', folder))
      .filter((name) => name.endsWith('.test.ts'))
      .toSorted((a, b) => (a < b ? -1 : 1))
      .map((name) => `impl/${folder}/${name}`),
  );

interface Batch {
  readonly name: string;
  readonly cases: readonly Known[];
}

const inPieces = (name: string, cases: readonly AccessCase[], size: number): readonly Batch[] =>
  Array.from({ length: Math.ceil(cases.length / size) }, (_, n) => ({
    name,
    cases: cases.slice(n * size, (n + 1) * size).map(known),
  }));

const randomBatches = (): readonly Batch[] => {
  const rows = engines.flatMap((engine) =>
    [false, true].map((oracle) => {
      const prng = new Prng(SEED);
      const count = oracle ? CASES.oracle : CASES.general;
      return inPieces(
        engine === 'native' ? 'paging/accessesAgree' : 'hap/guestAccessesAgree',
        Array.from({ length: count }, () => accessCaseOf(prng, { engine, oracle })),
        PIECE.random,
      );
    }),
  );
  // The first piece of each, then the second of each: what is wrong with one engine shows early.
  const most = Math.max(...rows.map(({ length }) => length));
  return Array.from({ length: most }, (_, n) => rows.flatMap((row) => row[n] ?? [])).flat();
};

const recordedBatches = (): readonly Batch[] =>
  corpusFiles().flatMap((name) =>
    inPieces(
      `recorded answers (${name})`,
      readCorpus(name).records.map((record) => record.case),
      PIECE.recorded,
    ),
  );

/** What a mutant's own modules are loaded as. */
export function urlOf(path: string, { file, start, before, after }: Mutant): string {
  const change = Buffer.from(JSON.stringify({ file, start, before, after })).toString('base64url');
  return `${pathToFileURL(join(projectRoot, path)).href}?mutant=${change}`;
}

/** The files of impl/ that `from` imports, directly or not, and itself. */
function reachedFrom(from: string): ReadonlySet<string> {
  const sources = readSources('impl');
  const reached = new Set([from]);
  for (const file of reached)
    for (const [, path] of (sources.get(file) ?? '').matchAll(/from '(\.{1,2}\/[^']+)'/gu))
      reached.add(posix.join(posix.dirname(file), path ?? ''));
  return reached;
}

/** What judges. What does not depend on the mutant is made once: it takes a while. */
export class Suite {
  #random: readonly Batch[] | undefined;
  #recorded: readonly Batch[] | undefined;
  readonly #accessed = reachedFrom('paging/access.ts');
  readonly #driven = reachedFrom('machine.ts');

  /** Asks the model, if the mutant will be judged by cases and nobody has asked yet. */
  prepareFor({ file }: Mutant): void {
    if (!this.#accessed.has(file)) return;
    this.#random ??= randomBatches();
    this.#recorded ??= recordedBatches();
  }

  /** The pieces for a mutant, for which everything is prepared. What they throw is found as well. */
  async *piecesFor(mutant: Mutant): AsyncGenerator<Piece> {
    const folder = `impl/${mutant.target}/`;
    const isOwn = (path: string): boolean => path.startsWith(folder);
    const isAccessed = this.#accessed.has(mutant.file);
    const isDriven = this.#driven.has(mutant.file);
    // What finds most in a second comes first: directed tests of other folders are many, and are about other files.
    for (const path of testsBeside().filter(isOwn)) yield* this.#tests(path, mutant);
    if (isAccessed) yield* this.#cases(this.#random ?? [], mutant);
    if (isDriven) yield* this.#runs(mutant);
    for (const path of testsBeside().filter((one) => !isOwn(one))) yield* this.#tests(path, mutant);
    if (isAccessed) yield* this.#cases(this.#recorded ?? [], mutant);
    const others = isDriven ? otherTests.driven : isAccessed ? [] : otherTests.apart;
    for (const path of others) yield* this.#tests(path, mutant);
  }

  async *#cases(batches: readonly Batch[], mutant: Mutant): AsyncGenerator<Piece> {
    const { AccessUnit } = (await import(urlOf('impl/paging/access.ts', mutant))) as {
      readonly AccessUnit: new (memory: Int32Array) => Unit;
    };
    const sieve = new Sieve((memory) => new AccessUnit(memory));
    for (const { name, cases } of batches) yield { name, run: () => (sieve.differs(cases) ? name : undefined) };
  }

  async *#runs(mutant: Mutant): AsyncGenerator<Piece> {
    const { Machine } = (await import(urlOf('impl/machine.ts', mutant))) as {
      readonly Machine: new (...of: Parameters<Subject['create']>) => ReturnType<Subject['create']>;
    };
    const subject: Subject = { name: 'mutant', create: (header) => new Machine(header) };
    for (const format of ['ept', 'npt'] as const) {
      const prng = new Prng(SEED);
      const judge = imageJudge(format, subject);
      const run = (): string | undefined => {
        for (let n = 0; n < IMAGES; n += 1) if (judge(imageOf(prng, format)) !== undefined) return 'hap/walkersAgree';
        return undefined;
      };
      yield { name: 'hap/walkersAgree', run };
    }
    for (let n = 1; n <= RUNS; n += 1) {
      const run = (): string | undefined => {
        const { failure, error } = attempt(subject, sourceOf(SEED, n));
        if (error !== undefined) throw error;
        return failure?.law;
      };
      yield { name: 'a lockstep run', run };
    }
  }

  async *#tests(path: string, mutant: Mutant): AsyncGenerator<Piece> {
    begin();
    await import(urlOf(path, mutant));
    for (const { name, run } of declared())
      yield {
        name: path,
        run: () => {
          try {
            run();
            return undefined;
          } catch {
            return `${path}: ${name}`;
          }
        },
      };
  }
}
