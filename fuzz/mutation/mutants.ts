// Which mutants there are of a mechanism, and which of them are judged. Stryker's instrumenter makes them (its mutators, its
// exclusions); of each file a share in proportion is drawn by a published seed. docs/decisions/0009 says why its runners are not used.
// A first reader may skip how a mutant becomes text.

import { createHash } from 'node:crypto';
import { Instrumenter } from '@stryker-mutator/instrumenter';
import { fold, hashText } from '#lib/hash.ts';
import { Prng } from '#lib/prng.ts';
import { readSources } from '#museum/source-tree.ts';

/** The mechanisms that can be analysed: folders of impl/. */
export const targets = ['paging', 'hap', 'tlb'] as const;

export type Target = (typeof targets)[number];

/** One change of one file: `before`, which begins at character `start`, becomes `after`. */
export interface Mutant {
  readonly target: Target;
  /** From impl/. */
  readonly file: string;
  readonly start: number;
  readonly before: string;
  readonly after: string;
  /** The kind of change, as Stryker calls it. */
  readonly mutator: string;
  /** From 1. */
  readonly line: number;
  /** The text of that line. */
  readonly text: string;
  /** Digest of the file that is changed. */
  readonly code: string;
}

/** What an `Ignorer` of Stryker sees of a place in the syntax tree; there are no types for it. */
interface Place {
  readonly node: { readonly type: string };
  readonly parent?: { readonly type: string; readonly callee?: { readonly name?: string } };
}

const assertions: ReadonlySet<string> = new Set(['invariant', 'present', 'unreachable']);
const texts: ReadonlySet<string> = new Set(['StringLiteral', 'TemplateLiteral']);

/** Sentences of assertions: what they say is for people, and no behaviour. */
const sentences = {
  shouldIgnore: (path: unknown): string | undefined => {
    const { node, parent } = path as Place;
    const isSentence =
      texts.has(node.type) && parent?.type === 'CallExpression' && assertions.has(parent.callee?.name ?? '');
    return isSentence ? 'the sentence of an assertion' : undefined;
  },
};

const nothing = (): void => undefined;
const silent = {
  isTraceEnabled: () => false,
  isDebugEnabled: () => false,
  isInfoEnabled: () => false,
  isWarnEnabled: () => false,
  isErrorEnabled: () => false,
  isFatalEnabled: () => false,
  trace: nothing,
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  fatal: nothing,
};

/** Expressions get brackets, so that what stands around them binds as before. */
const isStatement = (mutator: string, after: string): boolean =>
  mutator === 'BlockStatement' || /^(?:case\b|default:|for \()/u.test(after);

export const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12);

async function mutantsIn(target: Target, file: string, content: string): Promise<readonly Mutant[]> {
  const { mutants } = await new Instrumenter(silent).instrument([{ name: file, content, mutate: true }], {
    plugins: null,
    excludedMutations: [],
    ignorers: [sentences],
    noHeader: true,
  });
  const rows = content.split('\n');
  const starts = rows.reduce<number[]>((all, row) => [...all, (all.at(-1) ?? 0) + row.length + 1], [0]);
  const code = digestOf(content);
  return mutants.flatMap(({ location: { start, end }, mutatorName, replacement, status }) => {
    if (status === 'Ignored') return [];
    const from = (starts[start.line] ?? 0) + start.column;
    const before = content.slice(from, (starts[end.line] ?? 0) + end.column);
    const after = isStatement(mutatorName, replacement) ? replacement : `(${replacement})`;
    const text = (rows[start.line] ?? '').trim();
    return [{ target, file, start: from, before, after, mutator: mutatorName, line: start.line + 1, text, code }];
  });
}

/** All mutants of a mechanism, by file in order of path. */
export async function mutantsOf(target: Target): Promise<ReadonlyMap<string, readonly Mutant[]>> {
  const found = new Map<string, readonly Mutant[]>();
  for (const [path, text] of readSources(`impl/${target}`))
    found.set(`${target}/${path}`, await mutantsIn(target, `${target}/${path}`, text));
  return found;
}

/** How many of each file are drawn: in proportion, the largest remainders rounded up, one at least. */
function quotas(sizes: readonly number[], count: number): readonly number[] {
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const exact = sizes.map((size) => (Math.min(count, total) * size) / Math.max(1, total));
  const whole = exact.map(Math.floor);
  const missing = Math.min(count, total) - whole.reduce((sum, n) => sum + n, 0);
  const byRemainder = exact
    .map((share, at) => ({ at, rest: share - Math.floor(share) }))
    .toSorted((a, b) => b.rest - a.rest || a.at - b.at);
  const lucky = new Set(byRemainder.slice(0, missing).map(({ at }) => at));
  return whole.map((n, at) => Math.min(sizes[at] ?? 0, Math.max(1, n + (lucky.has(at) ? 1 : 0))));
}

/**
 * `count` mutants, a few more if there are many small files. Each file has an order of its own that the seed decides, so a
 * file that changes leaves the draws from other files nearly as they were.
 */
export function drawn(
  all: ReadonlyMap<string, readonly Mutant[]>,
  of: { readonly seed: number; readonly count: number },
): readonly Mutant[] {
  const shares = quotas(
    [...all.values()].map(({ length }) => length),
    of.count,
  );
  return [...all].flatMap(([file, mutants], at) => {
    const prng = new Prng(fold(of.seed, hashText(file)));
    const rest = [...mutants];
    const some = Array.from({ length: shares[at] ?? 0 }, () => rest.splice(prng.below(rest.length), 1)[0] as Mutant);
    return some.toSorted((a, b) => a.start - b.start);
  });
}

/** What tells a mutant from all others, as long as its file stays as it is. */
export const keyOf = ({ file, code, start, before, after }: Mutant): string =>
  [file, code, start, before.length, after].join('\0');
