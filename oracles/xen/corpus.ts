// Recorded sequences: what was asked, as traces, and what Xen answered and what its tables said after every step, uninterpreted.
// A file is gzipped lines of JSON: a head, then one line for each sequence. Of what is seen after a step only the changes
// are kept. A first reader may skip the packing.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { decodeTrace, encodeTrace } from '#abi/decode.ts';
import type { Trace } from '#abi/trace.ts';
import { valuesIn } from '#lib/lines.ts';
import { DamagedCorpus } from '../cpu/columns.ts';
import type { Words } from './compare.ts';
import type { Heard } from './heard.ts';
import type { Observed } from './play.ts';
import { type RuleId, rules } from './rules.ts';
import type { FrameSeen } from './sight.ts';
import type { Look } from './world.ts';

/** A sequence as it was played. `rule`: it was played without that rule, and differs after its last step. */
export interface Recorded {
  readonly rule?: RuleId | undefined;
  readonly trace: Trace;
  readonly boot: Look;
  readonly observed: readonly Observed[];
  /** Memory at the end, by frames of Xen's that were compared. */
  readonly memory: ReadonlyMap<number, Words>;
}

/** Everything recorded in one file, and of which versions. */
export interface Corpus {
  readonly xen: string;
  readonly qemu: string;
  readonly records: readonly Recorded[];
}

/** Raised whenever the lines change; reading refuses every other version. */
const FORMAT = 2;

type Row = readonly (number | string)[];

type Entry = Look['entries'][number];

const rowOf = ({ mfn, owner, allocated, special, count, type, typeCount, gfn }: FrameSeen): Row => [
  mfn, owner, (allocated ? 1 : 0) + (special ? 2 : 0), count, type, typeCount, gfn,
]; // prettier-ignore

const entryRow = ({ domain, gfn, mfn, type }: Entry): Row => [domain, gfn, mfn, type];

const num = (value: number | string | undefined): number => Number(value);

const frameOf = ([mfn, owner, flags, count, type, typeCount, gfn]: Row): FrameSeen => ({
  mfn: num(mfn),
  owner: num(owner),
  allocated: num(flags) % 2 === 1,
  special: num(flags) >= 2,
  count: num(count),
  type: num(type),
  typeCount: num(typeCount),
  gfn: num(gfn),
});

const entryOf = ([domain, gfn, mfn, type]: Row): Entry => ({
  domain: num(domain),
  gfn: num(gfn),
  mfn: num(mfn),
  type: String(type),
});

/** Rows that are new, and keys of those that have gone. A frame's key is its number, an entry's its domain and gfn. */
interface Change {
  readonly set: readonly Row[];
  readonly gone: readonly (readonly (number | string)[])[];
}

const keyOf = (row: Row, width: number): string => JSON.stringify(row.slice(0, width));

function changeOf(before: readonly Row[], after: readonly Row[], width: number): Change {
  const old = new Map(before.map((row) => [keyOf(row, width), JSON.stringify(row)]));
  const set = after.filter((row) => old.get(keyOf(row, width)) !== JSON.stringify(row));
  const now = new Set(after.map((row) => keyOf(row, width)));
  const gone = before.filter((row) => !now.has(keyOf(row, width))).map((row) => row.slice(0, width));
  return { set, gone };
}

function changed(before: readonly Row[], { set, gone }: Change, width: number): readonly Row[] {
  const rows = new Map(before.map((row) => [keyOf(row, width), row]));
  for (const key of gone) rows.delete(JSON.stringify(key));
  for (const row of set) rows.set(keyOf(row, width), row);
  return [...rows.values()];
}

const WIDTH = { frames: 1, entries: 2 } as const;

interface Rows {
  readonly frames: readonly Row[];
  readonly entries: readonly Row[];
}

const rowsOf = (look: Look): Rows => ({ frames: look.frames.map(rowOf), entries: look.entries.map(entryRow) });
const lookOf = ({ frames, entries }: Rows): Look => ({ frames: frames.map(frameOf), entries: entries.map(entryOf) });

interface Line {
  readonly rule?: string;
  readonly trace: string;
  readonly boot: Rows;
  /** Frames whose words are all zero are named with none. */
  readonly memory: readonly (readonly [mfn: number, words: Words])[];
  readonly steps: readonly { readonly heard: Heard; readonly frames?: Change; readonly entries?: Change }[];
}

const isEmpty = ({ set, gone }: Change): boolean => set.length === 0 && gone.length === 0;

function lineOf({ rule, trace, boot, observed, memory }: Recorded): Line {
  let before = rowsOf(boot);
  const steps = observed.map(({ heard, look }) => {
    const after = rowsOf(look);
    const frames = changeOf(before.frames, after.frames, WIDTH.frames);
    const entries = changeOf(before.entries, after.entries, WIDTH.entries);
    before = after;
    return { heard, ...(isEmpty(frames) ? {} : { frames }), ...(isEmpty(entries) ? {} : { entries }) };
  });
  return {
    ...(rule === undefined ? {} : { rule }),
    trace: encodeTrace(trace),
    boot: rowsOf(boot),
    memory: [...memory],
    steps,
  };
}

const NOTHING: Change = { set: [], gone: [] };

function recordOf({ rule, trace, boot, steps, memory }: Line, damaged: (why: string) => never): Recorded {
  const decoded = decodeTrace(trace);
  if (!decoded.ok) return damaged(decoded.error);
  let rows = boot;
  const observed = steps.map(({ heard, frames = NOTHING, entries = NOTHING }): Observed => {
    rows = {
      frames: changed(rows.frames, frames, WIDTH.frames),
      entries: changed(rows.entries, entries, WIDTH.entries),
    };
    return { heard, look: lookOf(rows) };
  });
  const known = rules.find(({ id }) => id === rule)?.id;
  if (known === undefined && rule !== undefined) return damaged(`there is no rule ${rule}`);
  return {
    ...(known === undefined ? {} : { rule: known }),
    trace: decoded.trace,
    boot: lookOf(boot),
    observed,
    memory: new Map(memory),
  };
}

/** A corpus as the bytes of a file. */
export function packCorpus({ xen, qemu, records }: Corpus): Uint8Array {
  const head = { format: FORMAT, xen, qemu, sequences: records.length };
  const lines = [head, ...records.map(lineOf)].map((line) => JSON.stringify(line));
  return gzipSync(lines.join('\n'), { level: 9 });
}

/** The corpus that a file holds. Throws `DamagedCorpus` with one sentence that names it. */
export function unpackCorpus(name: string, file: Uint8Array): Corpus {
  const damaged = (why: string): never => {
    throw new DamagedCorpus(`${name} is damaged: ${why}`);
  };
  let text: string;
  try {
    text = gunzipSync(file).toString('utf8');
  } catch {
    return damaged('it cannot be unpacked');
  }
  const [head, ...lines] = valuesIn(text);
  const { format, xen, qemu, sequences } = Object(head) as Record<string, unknown>;
  if (format !== FORMAT) return damaged(`it has format ${String(format)}, and this is for format ${FORMAT}`);
  if (typeof xen !== 'string' || typeof qemu !== 'string' || sequences !== lines.length)
    return damaged('it does not say whose answers it holds, or not all of them are there');
  return { xen, qemu, records: lines.map((line) => recordOf(line as Line, damaged)) };
}

/** Where recorded sequences are kept. Compiled, this file lies in dist; the recordings stay where they were. */
export function corpusFolder(): string {
  const here = fileURLToPath(new URL('corpus', import.meta.url));
  return existsSync(here) ? here : fileURLToPath(new URL('../../../oracles/xen/corpus', import.meta.url));
}

/** The files of sequences on which both agreed, by name. */
export const corpusFiles = (): readonly string[] =>
  readdirSync(corpusFolder())
    .filter((name) => name.startsWith('sequences') && name.endsWith('.gz'))
    .toSorted((a, b) => (a < b ? -1 : 1));

/** The file with a sequence for each rule. */
export const DIRECTED = 'directed.gz';

/** Reads one of them. */
export const readCorpus = (name: string): Corpus => unpackCorpus(name, readFileSync(`${corpusFolder()}/${name}`));
