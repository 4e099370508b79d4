// Exhaustive enumeration: some entries on the way of one access (slots) take every combination of their choices, in every
// context (registers, kind of access), and the implementation must come to what the model says, flags included.
//
// The full product is larger than the model can be asked about, so two lemmas are used, both of them laws that random cases
// try as well. Pruning: where the model does not read the entry below, entries below stay as they are, full of rights. The
// fold (paging/foldDecides): entries that lead on count only through the rights that all of them give together, and accessed
// and dirty flags that are set already change nothing but what remains to be set. So the model is asked once for each class
// {context, folded rights, last entry}, about the first member; the implementation is asked about every member.
//
// A first reader may skip `Enumeration`, an odometer.

import type { Word } from '#abi/address.ts';
import { type AccessOutcome, type AccessResult, CASE_FRAMES, type Mark } from '#abi/case.ts';
import { and, low32, or, without } from '#lib/bits.ts';
import { translateAccess } from '#model/paging/translate.ts';
import type { AccessCase } from './cases.ts';
import { isSameWord, isZero, orWord, withoutWord, WORDS, ZERO } from './cases-image.ts';
import type { Unit, UnitOf } from './cases-judge.ts';

/** An entry that takes every one of its choices. Narrow entries are the low half of a word whose high half is 0. */
export interface Slot {
  readonly mfn: number;
  readonly index: number;
  readonly choices: readonly Word[];
  /** What stands there while the walk does not get so far: everything allowed. */
  readonly full: Word;
  /** Bits that are only set, never asked: accessed and dirty flags. */
  readonly flags: Word;
  /** Rights as a small number, so that the rights of two entries together are the bitwise and. */
  readonly rightsOf: (entry: Word) => number;
}

/** One enumeration. The images of contexts hold what is not enumerated. */
export interface Family {
  readonly name: string;
  readonly contexts: readonly AccessCase[];
  readonly slots: readonly Slot[];
  /** Contexts that say the same here have walks of the same length: whether one goes on does not depend on the rest. */
  readonly signatureOf: (context: AccessCase) => string;
}

const ONES: Word = { lo: 0xffff_ffff, hi: 0xffff_ffff };

/** What the model says about a class: the result, and per slot the flags that must be set and those that may. */
interface Expected {
  readonly result: AccessResult;
  readonly required: readonly Word[];
  readonly permitted: readonly Word[];
}

function isSameResult(a: AccessResult, b: AccessResult): boolean {
  if (a.kind === 'done' && b.kind === 'done')
    return (
      a.bytes.length === b.bytes.length &&
      a.bytes.every(({ maddr, count }, i) => maddr === b.bytes[i]?.maddr && count === b.bytes[i].count)
    );
  if (a.kind === 'pageFault' && b.kind === 'pageFault')
    return a.errorCode === b.errorCode && isSameWord(a.linear, b.linear);
  if (a.kind === 'nestedPageFault' && b.kind === 'nestedPageFault')
    return isSameWord(a.info, b.info) && a.guestPhysical === b.guestPhysical;
  if (a.kind === 'eptMisconfiguration' && b.kind === 'eptMisconfiguration') return a.guestPhysical === b.guestPhysical;
  if (a.kind !== 'eptViolation' || b.kind !== 'eptViolation') return a.kind === b.kind;
  const isSameLinear =
    a.linear === undefined || b.linear === undefined ? a.linear === b.linear : isSameWord(a.linear, b.linear);
  return a.qualification === b.qualification && a.guestPhysical === b.guestPhysical && isSameLinear;
}

/** Choices of a slot as the enumeration needs them, one number or word per choice. */
interface Prepared {
  readonly key: number;
  readonly slot: Slot;
  readonly rights: readonly number[];
  /** The choice without its flags, by its index. */
  readonly plain: readonly number[];
}

function prepare(slot: Slot): Prepared {
  const known = new Map(slot.choices.map(({ lo, hi }, i) => [`${lo}.${hi}`, i]));
  const plain = slot.choices.map((choice, i) => {
    const { lo, hi } = withoutWord(choice, slot.flags);
    return known.get(`${lo}.${hi}`) ?? i;
  });
  return { key: slot.mfn * WORDS + slot.index, slot, plain, rights: slot.choices.map(slot.rightsOf) };
}

/** Rights numbers are below this. */
const RIGHTS = 16;

/** Walks through all members of a family. `step` does some of them; `found` is the first on which both sides differ. */
export class Enumeration {
  /** Members in all, and those done. */
  readonly total: number;
  done = 0;
  /** Classes that the model was asked about. */
  asked = 0;
  found: AccessCase | undefined;
  readonly #family: Family;
  readonly #slots: readonly Prepared[];
  readonly #memory: Int32Array;
  readonly #unit: Unit;
  readonly #longer = new Map<string, readonly (readonly boolean[])[]>();
  #context = -1;
  #goesOn: readonly (readonly boolean[])[] = [];
  #expected = new Map<number, Expected>();
  /** Index of the choice per slot down to the last one that is read; the depth of that. */
  readonly #at: number[];
  #depth = -1;

  /** `memory`: all zero, and so again in the end. */
  constructor(family: Family, memory: Int32Array, unitOf: UnitOf) {
    this.#family = family;
    this.#slots = family.slots.map(prepare);
    this.#memory = memory;
    this.#unit = unitOf(memory);
    this.#at = family.slots.map(() => 0);
    this.total = family.contexts.reduce((sum, context) => sum + this.#membersOf(context), 0);
  }

  get isOver(): boolean {
    return this.found !== undefined || (this.#depth < 0 && this.#context >= this.#family.contexts.length);
  }

  /** Does at most `count` members. */
  step(count: number): void {
    for (let n = 0; n < count && !this.isOver; n += 1) {
      if (this.#depth < 0 && !this.#nextContext()) return;
      this.#judge();
      this.#advance();
    }
  }

  #contextNow(): AccessCase {
    return this.#family.contexts[this.#context] as AccessCase;
  }

  #nextContext(): boolean {
    if (this.#context >= 0) this.#leave();
    this.#context += 1;
    if (this.found !== undefined || this.#context >= this.#family.contexts.length) return false;
    const context = this.#contextNow();
    for (const { mfn, index, word } of context.image) this.#write(mfn * WORDS + index, word);
    this.#goesOn = this.#longerFor(context);
    this.#expected = new Map();
    this.#depth = 0;
    this.#at[0] = 0;
    this.#descend();
    return true;
  }

  /** What is not enumerated must be as it was: its flags are set from the beginning. */
  #leave(): void {
    const context = this.#contextNow();
    for (const { mfn, index, word } of context.image)
      if (!isSameWord(this.#read(mfn * WORDS + index), word)) this.found ??= context;
    this.#wipe(context);
  }

  #wipe(context: AccessCase): void {
    for (const { mfn, index } of context.image) this.#write(mfn * WORDS + index, ZERO);
    for (const { key } of this.#slots) this.#write(key, ZERO);
  }

  #write(key: number, { lo, hi }: Word): void {
    this.#memory[2 * key] = lo;
    this.#memory[2 * key + 1] = hi;
  }

  #read(key: number): Word {
    return { lo: low32(this.#memory[2 * key] ?? 0), hi: low32(this.#memory[2 * key + 1] ?? 0) };
  }

  #choice(slot: number, isPlain: boolean): Word {
    const { slot: of, plain } = this.#slots[slot] as Prepared;
    const at = this.#at[slot] as number;
    return slot > this.#depth ? of.full : (of.choices[isPlain ? (plain[at] as number) : at] as Word);
  }

  #put(isPlain: boolean): void {
    for (let i = 0; i < this.#slots.length; i += 1)
      this.#write((this.#slots[i] as Prepared).key, this.#choice(i, isPlain));
  }

  #descend(): void {
    while (
      this.#depth < this.#slots.length - 1 &&
      this.#goesOn[this.#depth]?.[this.#at[this.#depth] as number] === true
    ) {
      this.#depth += 1;
      this.#at[this.#depth] = 0;
    }
  }

  #advance(): void {
    while (this.#depth >= 0) {
      const next = (this.#at[this.#depth] as number) + 1;
      this.#at[this.#depth] = next;
      if (next < (this.#slots[this.#depth] as Prepared).slot.choices.length) return this.#descend();
      this.#depth -= 1;
    }
  }

  #judge(): void {
    const expected = this.#expectedNow();
    this.#put(false);
    const result = this.#unit.run(this.#contextNow());
    this.done += 1;
    if (isSameResult(expected.result, result) && this.#areFlagsRight(expected)) return;
    this.#put(false);
    this.found = this.#caseNow();
    this.#wipe(this.#contextNow());
  }

  #areFlagsRight({ required, permitted }: Expected): boolean {
    for (let i = 0; i < this.#slots.length; i += 1) {
      const { key } = this.#slots[i] as Prepared;
      const before = this.#choice(i, false);
      const lo = low32(this.#memory[2 * key] as number);
      const hi = low32(this.#memory[2 * key + 1] as number);
      const must = required[i] as Word;
      const may = permitted[i] as Word;
      const isLost = without(or(before.lo, must.lo), lo) !== 0 || without(or(before.hi, must.hi), hi) !== 0;
      const isStray = without(lo, or(before.lo, may.lo)) !== 0 || without(hi, or(before.hi, may.hi)) !== 0;
      if (isLost || isStray) return false;
    }
    return true;
  }

  /** The member at hand as a case. */
  #caseNow(): AccessCase {
    const context = this.#contextNow();
    const words = this.#slots.map(({ slot: { mfn, index } }, i) => ({ mfn, index, word: this.#choice(i, false) }));
    return { ...context, image: [...context.image, ...words.filter(({ word }) => !isZero(word))] };
  }

  #expectedNow(): Expected {
    let fold = RIGHTS - 1;
    for (let i = 0; i < this.#depth; i += 1)
      fold = and(fold, (this.#slots[i] as Prepared).rights[this.#at[i] as number] as number);
    const { plain, slot } = this.#slots[this.#depth] as Prepared;
    const last = plain[this.#at[this.#depth] as number] as number;
    const key = (this.#depth * slot.choices.length + last) * RIGHTS + fold;
    const known = this.#expected.get(key);
    if (known !== undefined) return known;
    this.#put(true);
    const outcome = this.#ask(this.#contextNow());
    const made = this.#expectedFrom(outcome);
    this.#expected.set(key, made);
    return made;
  }

  #expectedFrom({ result, required, allowed }: AccessOutcome): Expected {
    const at = (marks: readonly Mark[]): readonly Word[] =>
      this.#slots.map(({ slot }) =>
        marks
          .filter(({ mfn, index }) => mfn === slot.mfn && index === slot.index)
          .reduce((bits, mark) => orWord(bits, mark.bits), ZERO),
      );
    return { result, required: at(required), permitted: at([...required, ...allowed]) };
  }

  #ask(context: AccessCase, watched = -1): AccessOutcome & { readonly isRead: boolean } {
    let isRead = false;
    this.asked += 1;
    const outcome = translateAccess(context, (mfn, index) => {
      if (mfn * WORDS + index === watched) isRead = true;
      return mfn < CASE_FRAMES ? this.#read(mfn * WORDS + index) : ONES;
    });
    return { ...outcome, isRead };
  }

  /** For every slot and choice, whether the model reads the next slot after it. */
  #longerFor(context: AccessCase): readonly (readonly boolean[])[] {
    const signature = this.#family.signatureOf(context);
    const known = this.#longer.get(signature);
    if (known !== undefined) return known;
    for (const { mfn, index, word } of context.image) this.#write(mfn * WORDS + index, word);
    for (const { key, slot } of this.#slots) this.#write(key, slot.full);
    const made = this.#slots.map(({ key, slot, plain }, i) => {
      const next = this.#slots[i + 1]?.key;
      const isLonger = slot.choices.map((choice, n) => {
        if (next === undefined || plain[n] !== n) return false;
        this.#write(key, choice);
        return this.#ask(context, next).isRead;
      });
      this.#write(key, slot.full);
      return plain.map((at) => isLonger[at] === true);
    });
    this.#wipe(context);
    this.#longer.set(signature, made);
    return made;
  }

  #membersOf(context: AccessCase): number {
    const longer = this.#longerFor(context);
    let below = 1;
    for (let i = this.#slots.length - 1; i >= 0; i -= 1) {
      const on = longer[i]?.filter((goesOn) => goesOn).length ?? 0;
      below = on * below + (this.#slots[i] as Prepared).slot.choices.length - on;
    }
    return below;
  }
}
