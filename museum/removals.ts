// Removal analysis: places in impl/ (a check, flush, reference, scrub, lock or yield) drawn by a published seed, each taken out
// in turn from a copy and hunted by the general suite. Unlike exhibits nobody chose these bugs, so what survives says
// what the suite does not see. The table of results is docs/removals.md, written by `npm run removals`.
// A first reader may skip how a place becomes an edit whose text occurs once.

import { posix } from 'node:path';
import { Prng } from '#lib/prng.ts';
import type { Edit } from './exhibit.ts';
import { isCaught, hunt, type Caught, type HuntProgress } from './hunt.ts';
import { loadSubject } from './loader.ts';
import { isJudge, readSources } from './source-tree.ts';

export type PlaceKind = 'check' | 'flush' | 'reference' | 'scrub' | 'lock' | 'yield';

/** A line of impl/ that can be taken out. */
export interface Place {
  readonly kind: PlaceKind;
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly text: string;
}

/** What each kind of place looks like: a whole statement on a line of its own. */
const shapes: readonly (readonly [PlaceKind, RegExp])[] = [
  ['flush', /^(?:yield\* )?(?:flush\w*|markFlush|stamp|adoptRoot|enter|interrupt|invalidate)\(.*\);$/u],
  ['reference', /^(?:yield\* )?(?:putReference|dropAllocated|getReference|dropUse\w*|unpin\w*)\(.*\);$/u],
  ['scrub', /^(?:yield\* )?(?:scrub\w*|erase\w*|clear\w*|poison\w*)\(.*\);$/u],
  ['lock', /^yield\* (?:m\.port\.(?:lock|unlock)|lock\w*|unlock\w*)\(.*\);$/u],
  ['yield', /^yield\* m\.port\.point\(.*\);$/u],
  ['check', /^if \(.*\) (?:return\b.*|continue|break);$/u],
];

/** The files of `sources` that `from` imports, directly or not, and `from` itself: what a run of a trace can reach. */
function reachedFrom(from: string, sources: ReadonlyMap<string, string>): ReadonlySet<string> {
  const reached = new Set([from]);
  // A set visits what is added while it is visited.
  for (const file of reached)
    for (const [, path] of (sources.get(file) ?? '').matchAll(/from '(\.{1,2}\/[^']+)'/gu))
      reached.add(posix.join(posix.dirname(file), path ?? ''));
  return reached;
}

/** Every removable place that runs of traces can come to, by file and line. */
export function placesIn(sources: ReadonlyMap<string, string>): readonly Place[] {
  const places: Place[] = [];
  const reached = reachedFrom('machine.ts', sources);
  for (const [file, text] of [...sources].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    if (!file.endsWith('.ts') || isJudge(file, text) || !reached.has(file)) continue;
    text.split('\n').forEach((row, i) => {
      const shape = shapes.find(([, pattern]) => pattern.test(row.trim()));
      if (shape !== undefined) places.push({ kind: shape[0], file, line: i + 1, text: row.trim() });
    });
  }
  return places;
}

/** `count` different places, drawn by `seed`. */
export function drawn(places: readonly Place[], seed: number, count: number): readonly Place[] {
  const prng = new Prng(seed);
  const rest = [...places];
  return Array.from(
    { length: Math.min(count, rest.length) },
    () => rest.splice(prng.below(rest.length), 1)[0] as Place,
  );
}

/** The edit that takes the place out: its line with as many neighbours as make the text unique. */
export function editOf(place: Place, sources: ReadonlyMap<string, string>): Edit {
  const text = sources.get(place.file) ?? '';
  const rows = text.split('\n');
  const at = place.line - 1;
  for (let around = 0; around < rows.length; around += 1) {
    const from = Math.max(0, at - around);
    const to = Math.min(rows.length, at + around + 1);
    const before = rows.slice(from, to).join('\n');
    if (text.split(before).length !== 2) continue;
    return { file: place.file, before, after: [...rows.slice(from, at), ...rows.slice(at + 1, to)].join('\n') };
  }
  return { file: place.file, before: text, after: rows.filter((_, i) => i !== at).join('\n') };
}

/** What taking a place out came to: the law that caught it first, or nothing within the budget. */
export interface Removal {
  readonly place: Place;
  readonly law: string | undefined;
  readonly steps: number;
}

/** Hunts one removal; any law or error counts. */
export async function huntRemoval(
  place: Place,
  budget: { readonly seed: number; readonly steps: number },
): Promise<Removal> {
  const sources = readSources('impl');
  const subject = await loadSubject({
    id: `removal-${place.file.replaceAll(/\W/gu, '-')}-${place.line}`,
    edits: [editOf(place, sources)],
  });
  const any = { includes: () => true } as unknown as readonly string[];
  const course = hunt({ exhibit: { killedBy: any }, subject, ...budget });
  for (;;) {
    const { done, value } = course.next();
    const error = [...value.strays.keys()][0];
    if (error !== undefined) return { place, law: error, steps: value.steps };
    if (done !== true) continue;
    return { place, law: lawOf(value), steps: value.steps };
  }
}

const lawOf = (end: Caught | HuntProgress): string | undefined => (isCaught(end) ? end.failure.law : undefined);
