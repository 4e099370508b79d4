// Recorded answers: cases as emulators were asked them, and what they said, uninterpreted. One file for each emulator and
// vehicle. What can be foretold of an answer (the address of the access in CR2, words that did not change) is taken off before
// packing and put back after, so nothing is lost and little is stored.
// A first reader may skip the columns.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Word, ZERO_WORD } from '#abi/address.ts';
import { CASE_VERSION, engines, type Poke } from '#abi/case.ts';
import { field } from '#lib/bits.ts';
import { ColumnReader, ColumnWriter } from './columns.ts';
import { type AccessCase, type Answer, answers, isLongMode, type Raw, stubAt, type Vehicle, vehicles } from './pack.ts';
import { MAGIC } from './pattern.ts';
import { type OracleName, oracleNames } from './rules.ts';
import { differing, wordOf } from './words.ts';

/** A case as it was asked, and the answer. */
export interface Recorded {
  readonly case: AccessCase;
  /** The guest began at the address to fetch from. */
  readonly direct: boolean;
  readonly raw: Raw;
}

/** Everything recorded of one emulator and vehicle. */
export interface Corpus {
  readonly oracle: OracleName;
  readonly version: string;
  readonly vehicle: Vehicle;
  readonly records: readonly Recorded[];
}

/** Raised whenever the columns change; reading refuses every other version. */
const FORMAT = 1;

const kinds = engines.native.access.kind.values;
const privileges = engines.native.access.privilege.values;
const acs = engines.native.access.ac.values;
const page1Gbs = engines.native.registers.page1Gb.values;
const controls = engines.vmx.registers.modeBasedExecute.values;

const frameIn = ({ lo, hi }: Word): number => field(lo, 12, 20) + field(hi, 0, 20) * 2 ** 20;

/** Frames that a word's own frame is likely to be: roots, then what the words before it lead to, last first. */
const likely = (one: AccessCase, before: readonly Poke[]): readonly number[] => [
  ...before.map(({ word }) => frameIn(word)).toReversed(),
  frameIn(one.registers.cr3),
  one.engine === 'vmx' ? frameIn(one.registers.eptp) : one.engine === 'svm' ? frameIn(one.registers.nestedCr3) : 0,
];

/** "None of these": the frame follows in full. */
const LITERAL = 255;

function putImage(out: ColumnWriter, one: AccessCase): void {
  out.put('pokes', one.image.length, 2);
  for (const [i, { mfn, index, word }] of one.image.entries()) {
    const previous = one.image[i - 1];
    const near =
      previous?.mfn === mfn
        ? 0
        : 1 +
          likely(one, one.image.slice(0, i))
            .slice(0, LITERAL - 1)
            .indexOf(mfn);
    const isKnown = previous?.mfn === mfn || near > 0;
    out.put('near', isKnown ? near : LITERAL, 1);
    if (!isKnown) out.put('mfn', mfn, 2);
    out.put('index', index, 2);
    out.putWord('word', word);
  }
}

function takeImage(from: ColumnReader, bare: AccessCase): readonly Poke[] {
  const image: Poke[] = [];
  const count = from.take('pokes', 2);
  for (let i = 0; i < count; i += 1) {
    const near = from.take('near', 1);
    const mfn = near === LITERAL ? from.take('mfn', 2) : near === 0 ? image[i - 1]?.mfn : likely(bare, image)[near - 1];
    const index = from.take('index', 2);
    if (mfn === undefined || index > 511) return from.damaged('a word of an image lies nowhere');
    image.push({ mfn, index, word: from.takeWord('word') });
  }
  return image;
}

const registerFields = ['cr0', 'cr4', 'efer', 'pkru', 'pkrs'] as const;

function putCase(out: ColumnWriter, one: AccessCase): void {
  const { registers, access } = one;
  for (const name of registerFields) out.put(name, registers[name], 4);
  out.putWord('cr3', registers.cr3);
  out.put('maxPhysAddr', registers.maxPhysAddr, 1);
  out.put('page1Gb', page1Gbs.indexOf(registers.page1Gb), 1);
  out.put('pdptes', registers.pdptes.length, 1);
  for (const { entry } of registers.pdptes) out.putWord('pdpte', entry);
  if (one.engine === 'vmx') {
    out.putWord('eptp', one.registers.eptp);
    out.put('modeBasedExecute', controls.indexOf(one.registers.modeBasedExecute), 1);
  }
  if (one.engine === 'svm') {
    out.putWord('nestedCr3', one.registers.nestedCr3);
    for (const name of ['hostCr0', 'hostCr4', 'hostEfer'] as const) out.put(name, one.registers[name], 4);
  }
  out.put('kind', kinds.indexOf(access.kind), 1);
  out.put('privilege', privileges.indexOf(access.privilege), 1);
  out.put('ac', acs.indexOf(access.ac), 1);
  out.putWord('linear', access.linear);
  out.put('size', access.size, 1);
  putImage(out, one);
}

/** The name with number `n` of a list. */
function nameOf<T>(from: ColumnReader, names: readonly T[], n: number): T {
  const name = names[n];
  return name === undefined ? from.damaged('a name has no such number') : name;
}

const nested = {
  native: () => ({}),
  vmx: (from: ColumnReader) => ({
    eptp: from.takeWord('eptp'),
    modeBasedExecute: nameOf(from, controls, from.take('modeBasedExecute', 1)),
  }),
  svm: (from: ColumnReader) => ({
    nestedCr3: from.takeWord('nestedCr3'),
    hostCr0: from.take('hostCr0', 4),
    hostCr4: from.take('hostCr4', 4),
    hostEfer: from.take('hostEfer', 4),
  }),
} as const;

function takeCase(from: ColumnReader, engine: AccessCase['engine']): AccessCase {
  const [cr0 = 0, cr4 = 0, efer = 0, pkru = 0, pkrs = 0] = registerFields.map((name) => from.take(name, 4));
  const cr3 = from.takeWord('cr3');
  const maxPhysAddr = from.take('maxPhysAddr', 1);
  const page1Gb = nameOf(from, page1Gbs, from.take('page1Gb', 1));
  const pdptes = Array.from({ length: from.take('pdptes', 1) }, () => ({ entry: from.takeWord('pdpte') }));
  const registers = { cr0, cr3, cr4, efer, pkru, pkrs, maxPhysAddr, page1Gb, pdptes, ...nested[engine](from) };
  const access = {
    kind: nameOf(from, kinds, from.take('kind', 1)),
    privilege: nameOf(from, privileges, from.take('privilege', 1)),
    ac: nameOf(from, acs, from.take('ac', 1)),
    linear: from.takeWord('linear'),
    size: from.take('size', 1),
  };
  const bare = {
    engine,
    version: CASE_VERSION,
    geometry: 'x86',
    registers,
    access,
    image: [],
  } as unknown as AccessCase;
  return { ...bare, image: takeImage(from, bare) };
}

/** What an answer most likely says: the access in place, the value that was there before, nothing changed. */
function foretold(one: AccessCase): { readonly linear: Word; readonly rip: Word; readonly value: Word } {
  const { linear } = one.access;
  const wide = isLongMode(one) ? linear : { lo: linear.lo, hi: 0 };
  const rip = one.access.kind === 'fetch' ? wide : wordOf(stubAt(one).start + 1);
  return { linear: wide, rip, value: isLongMode(one) ? MAGIC : { lo: MAGIC.lo, hi: 0 } };
}

const rawWords = ['info1', 'info2', 'linear', 'rip', 'value'] as const;

/** Differences to what was foretold, or back: taking them twice gives the same. */
const seenThrough = (one: AccessCase, raw: Raw): Raw => {
  const { linear, rip, value } = foretold(one);
  return {
    ...raw,
    info2: differing(raw.info2, linear),
    linear: differing(raw.linear, linear),
    rip: differing(raw.rip, rip),
    value: differing(raw.value, value),
    after: raw.after.map((word, i) => differing(word, one.image[i]?.word ?? ZERO_WORD)),
  };
};

function putRaw(out: ColumnWriter, { case: one, direct, raw }: Recorded): void {
  const seen = seenThrough(one, raw);
  out.put('direct', direct ? 1 : 0, 1);
  out.put('answer', answers.indexOf(raw.answer), 1);
  out.put('code', raw.code, 4);
  out.put('event', raw.event, 4);
  for (const name of rawWords) out.putWord(name === 'linear' ? 'exitLinear' : name, seen[name]);
  for (const hit of raw.hits) out.put('hit', hit, 4);
  for (const word of seen.after) out.putWord('after', word);
}

function takeRaw(from: ColumnReader, one: AccessCase): Omit<Recorded, 'case'> {
  const direct = from.take('direct', 1) === 1;
  const answer: Answer = nameOf(from, answers, from.take('answer', 1));
  const code = from.take('code', 4);
  const event = from.take('event', 4);
  const words = rawWords.map((name) => from.takeWord(name === 'linear' ? 'exitLinear' : name));
  const [info1 = ZERO_WORD, info2 = ZERO_WORD, linear = ZERO_WORD, rip = ZERO_WORD, value = ZERO_WORD] = words;
  const hits = [from.take('hit', 4), from.take('hit', 4)] as const;
  const after = one.image.map(() => from.takeWord('after'));
  return { direct, raw: seenThrough(one, { answer, code, event, info1, info2, linear, rip, value, hits, after }) };
}

const engineOf = (vehicle: Vehicle): AccessCase['engine'] =>
  vehicle === 'vmx' ? 'vmx' : vehicle === 'svmNested' ? 'svm' : 'native';

/** A corpus as the bytes of a file. */
export function packCorpus({ oracle, version, vehicle, records }: Corpus): Uint8Array {
  const out = new ColumnWriter();
  for (const record of records) {
    putCase(out, record.case);
    putRaw(out, record);
  }
  return out.finish({ format: FORMAT, oracle, version, vehicle, cases: records.length });
}

/** The corpus that a file holds. Throws `DamagedCorpus` with one sentence that names it. */
export function unpackCorpus(name: string, file: Uint8Array): Corpus {
  const from = new ColumnReader(name, file);
  const { format, oracle, version, vehicle, cases } = from.head;
  if (format !== FORMAT) return from.damaged(`it has format ${String(format)}, and this is for format ${FORMAT}`);
  const whose = oracleNames.find((known) => known === oracle);
  const how = vehicles.find((known) => known === vehicle);
  if (whose === undefined || how === undefined || typeof version !== 'string' || typeof cases !== 'number')
    return from.damaged('it does not say whose answers it holds');
  const records = Array.from({ length: cases }, () => {
    const one = takeCase(from, engineOf(how));
    return { case: one, ...takeRaw(from, one) };
  });
  from.finish();
  return { oracle: whose, version, vehicle: how, records };
}

/** Where recorded answers are kept. Compiled, this file lies in dist; the recordings stay where they were. */
export function corpusFolder(): string {
  const here = fileURLToPath(new URL('corpus', import.meta.url));
  return existsSync(here) ? here : fileURLToPath(new URL('../../../oracles/cpu/corpus', import.meta.url));
}

/** The files of recorded answers, by name. */
export const corpusFiles = (): readonly string[] =>
  readdirSync(corpusFolder())
    .filter((name) => name.endsWith('.gz'))
    .toSorted((a, b) => (a < b ? -1 : 1));

/** Reads one of them. */
export const readCorpus = (name: string): Corpus => unpackCorpus(name, readFileSync(`${corpusFolder()}/${name}`));
