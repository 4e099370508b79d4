// An emulator's answer held against the model's outcome: kind of result, what is reported with it, the physical address (by
// what was read there, or where a write landed), and accessed and dirty flags: all that are required, no others than allowed.
// Source of the rules about flags: abi/case.ts, `AccessOutcome`.

import type { AccessOutcome, Bytes, Mark, Poke } from '#abi/case.ts';
import { type Word, ZERO_WORD } from '#abi/address.ts';
import { type Seen, tellsValue } from './interpret.ts';
import type { AccessCase, Raw } from './pack.ts';
import { isOurs, loadedAt, MAGIC, patternAt } from './pattern.ts';
import { byteOf, differing, hex, hexWord, isZero, orWords, withoutBits } from './words.ts';

/** A case with what model and emulator make of it. */
export interface Comparison {
  readonly case: AccessCase;
  /** What the model is asked about: the case itself, but for what rules have changed so far. */
  readonly modelled: AccessCase;
  readonly outcome: AccessOutcome;
  /** The guest began at the address to fetch from. */
  readonly direct: boolean;
  readonly raw: Raw;
  readonly seen: Seen;
}

/** What a result says, in words. */
export function describeResult(result: Seen | AccessOutcome['result']): string {
  switch (result.kind) {
    case 'done':
      return 'bytes' in result
        ? `done: ${result.bytes.map(({ maddr, count }) => `${count} bytes at ${hex(maddr)}`).join(', then ')}`
        : 'done';
    case 'pageFault':
      return `page fault, error code ${hex(result.errorCode)}, CR2 ${hexWord(result.linear)}`;
    case 'generalProtection':
      return 'general protection';
    case 'eptViolation':
      return `EPT violation, qualification ${hex(result.qualification)}, guest-physical ${hex(result.guestPhysical)}, linear ${result.linear === undefined ? 'none' : hexWord(result.linear)}`;
    case 'eptMisconfiguration':
      return `EPT misconfiguration, guest-physical ${hex(result.guestPhysical)}`;
    case 'nestedPageFault':
      return `nested page fault, EXITINFO1 ${hexWord(result.info)}, guest-physical ${hex(result.guestPhysical)}`;
    case 'invalidState':
      return 'invalid state';
    case 'refused':
      return 'state refused on the way in';
    case 'unreached':
      return 'the access was not tried';
    case 'unexpected':
      return result.why;
  }
}

const isRefusal = (result: AccessOutcome['result']): boolean =>
  result.kind === 'generalProtection' || result.kind === 'invalidState';

/** Whether the emulator's result is the model's, addresses aside. */
function isSameResult(result: AccessOutcome['result'], seen: Seen): boolean {
  if (seen.kind === 'refused') return isRefusal(result);
  if (result.kind === 'done' || seen.kind === 'done') return result.kind === seen.kind;
  return describeResult(result) === describeResult(seen);
}

const wordIndex = ({ mfn, index }: { readonly mfn: number; readonly index: number }): number => mfn * 512 + index;

/** Every byte of an access: where it is, and which byte of the value it is. */
const eachByte = (bytes: readonly Bytes[]): readonly { readonly maddr: number; readonly nth: number }[] => {
  const list: { maddr: number; nth: number }[] = [];
  for (const { maddr, count } of bytes)
    for (let i = 0; i < count; i += 1) list.push({ maddr: maddr + i, nth: list.length });
  return list;
};

/** The words of a case's memory, after the access. */
class Memory {
  readonly #words: ReadonlyMap<number, Word>;

  constructor(image: readonly Poke[], after: readonly Word[]) {
    this.#words = new Map(image.map((poke, i) => [wordIndex(poke), after[i] ?? ZERO_WORD]));
  }

  isPoked(maddr: number): boolean {
    return this.#words.has(Math.floor(maddr / 8));
  }

  byteAt(maddr: number): number {
    const word = Math.floor(maddr / 8);
    return byteOf(this.#words.get(word) ?? patternAt(word * 8), maddr % 8);
  }
}

/** Whether what was read is what lies where the model says. Nothing is known of what lies outside the frames of cases. */
function readElsewhere({ case: one, raw }: Comparison, bytes: readonly Bytes[]): string | undefined {
  if (!tellsValue(one)) return undefined;
  const memory = new Memory(one.image, raw.after);
  const [first] = bytes;
  if (first === undefined) return 'no bytes';
  if (one.access.kind === 'fetch') {
    if (!isOurs(first.maddr) || memory.isPoked(first.maddr)) return undefined;
    return raw.value.lo === loadedAt(first.maddr)
      ? undefined
      : `ran what leaves ${hex(raw.value.lo)}, not what lies at ${hex(first.maddr)}`;
  }
  const isExchange = one.access.kind === 'readModifyWrite';
  const wrong = eachByte(bytes).find(
    ({ maddr, nth }) =>
      isOurs(maddr) && !(isExchange && memory.isPoked(maddr)) && byteOf(raw.value, nth) !== memory.byteAt(maddr),
  );
  return wrong === undefined ? undefined : `read ${hexWord(raw.value)}, which is not what lies at ${hex(wrong.maddr)}`;
}

/** Whether a write landed where the model says. Bytes that were there before cannot be told from written ones. */
function wroteElsewhere({ case: one, raw }: Comparison, bytes: readonly Bytes[]): string | undefined {
  if (one.access.kind !== 'write' && one.access.kind !== 'readModifyWrite') return undefined;
  const memory = new Memory(
    one.image,
    one.image.map(({ word }) => word),
  );
  let nth = 0;
  for (const [i, { maddr, count }] of bytes.entries()) {
    const from = nth;
    nth += count;
    if (!isOurs(maddr)) continue;
    const isTold = Array.from({ length: count }, (_, k) => k).some(
      (k) => memory.byteAt(maddr + k) !== byteOf(MAGIC, from + k),
    );
    const hit = raw.hits[i] ?? 0;
    if (hit !== maddr && isTold) return `wrote to ${hex(hit)}, not to ${hex(maddr)}`;
  }
  return undefined;
}

/** The bits of each word that flags may be set in. */
const marksOf = (marks: readonly Mark[]): ReadonlyMap<number, Word> => {
  const all = new Map<number, Word>();
  for (const mark of marks) all.set(wordIndex(mark), orWords(all.get(wordIndex(mark)) ?? ZERO_WORD, mark.bits));
  return all;
};

/** The bits of word number `index` that a write replaced. */
function written(bytes: readonly { readonly maddr: number }[], index: number): Word {
  let mask = ZERO_WORD;
  for (const { maddr } of bytes) {
    if (Math.floor(maddr / 8) !== index) continue;
    const at = maddr % 8;
    const byte = 0xff * 2 ** ((at % 4) * 8);
    mask = orWords(mask, at < 4 ? { lo: byte, hi: 0 } : { lo: 0, hi: byte });
  }
  return mask;
}

/** The first word whose flags are not what they should be. */
function flagsDiffer({ case: one, outcome, raw }: Comparison): string | undefined {
  const required = marksOf(outcome.required);
  const allowed = marksOf([...outcome.required, ...outcome.allowed]);
  const isStore = one.access.kind === 'write' || one.access.kind === 'readModifyWrite';
  const stored = isStore && outcome.result.kind === 'done' ? eachByte(outcome.result.bytes) : [];
  for (const [i, poke] of one.image.entries()) {
    const index = wordIndex(poke);
    const hidden = written(stored, index);
    const set = withoutBits(differing(poke.word, raw.after[i] ?? ZERO_WORD), hidden);
    const missing = withoutBits(withoutBits(required.get(index) ?? ZERO_WORD, hidden), set);
    const extra = withoutBits(set, allowed.get(index) ?? ZERO_WORD);
    const where = `mfn ${hex(poke.mfn)}, word ${poke.index}`;
    if (!isZero(missing)) return `${where}: bits ${hexWord(missing)} were not set`;
    if (!isZero(extra)) return `${where}: bits ${hexWord(extra)} were changed`;
  }
  return undefined;
}

/** Why an emulator's answer is not the model's; undefined if it is. */
export function difference(comparison: Comparison): string | undefined {
  const { outcome, seen } = comparison;
  if (!isSameResult(outcome.result, seen))
    return `model: ${describeResult(outcome.result)}; emulator: ${describeResult(seen)}`;
  const { result } = outcome;
  const place =
    result.kind === 'done'
      ? (readElsewhere(comparison, result.bytes) ?? wroteElsewhere(comparison, result.bytes))
      : undefined;
  return place ?? flagsDiffer(comparison);
}
