// What must hold of accesses one by one: the implementation agrees with the architecture, and the architecture with itself,
// when its tables say the same in another way, when rights are taken away, when flags have been set.
// A first reader may skip the choice of words that are changed.
// Sources: Intel SDM vol. 3A, "Access Rights", "Accessed and Dirty Flags"; vol. 3C, "EPT Violations"; AMD APM vol. 2, "Nested Paging".

import type { Word } from '#abi/address.ts';
import { type AccessOutcome, type Case, CASE_FRAMES, type Mark, type Poke } from '#abi/case.ts';
import { translateAccess } from '#model/paging/translate.ts';
import type { CaseLaw, Problem } from '../harness/law.ts';
import type { AccessCase } from './cases.ts';
import { isZero, orWord, withoutWord, WORDS, ZERO } from './cases-image.ts';
import { accessJudge, bitsByPlace, differenceOf, placeInWords, resultInWords, wordsOf } from './cases-judge.ts';
import {
  gathered,
  hasNx,
  mayCarryFold,
  nxBits,
  hasOwnMark,
  presentBits,
  readsPdptes,
  rotated,
  userBits,
  wayOf,
  withRights,
  writeBits,
} from './cases-path.ts';

/** What a law makes of a case: it does not speak of it, it holds, or it is broken. */
export type Verdict = 'nothing' | 'holds' | Problem;

/** A case law that can say whether it spoke. */
export interface AccessLaw extends CaseLaw {
  readonly verdict: (one: Case) => Verdict;
}

const isAccess = (one: Case): one is AccessCase => one.engine !== 'ept';

type Mechanism = 'paging' | 'hap';

/** One law for native accesses and one for those through nested tables. */
const both = (
  ids: Readonly<Record<Mechanism, string>>,
  statement: string,
  verdictOf: (one: AccessCase, mechanism: Mechanism) => Verdict,
): readonly AccessLaw[] =>
  (['paging', 'hap'] as const).map((mechanism) => {
    const verdict = (one: Case): Verdict =>
      isAccess(one) && (one.engine === 'native') === (mechanism === 'paging') ? verdictOf(one, mechanism) : 'nothing';
    const judge = (one: Case): Problem | undefined => {
      const said = verdict(one);
      return typeof said === 'string' ? undefined : said;
    };
    return { kind: 'case', id: `${mechanism}/${ids[mechanism]}`, invariant: 'WALK', statement, verdict, judge };
  });

/** Memory is put back after each case, so that one judge for all is as good as one for each. */
const judgeOnce = (): ((one: AccessCase) => Problem | undefined) => {
  let judge: ((one: AccessCase) => Problem | undefined) | undefined;
  return (one) => {
    judge ??= accessJudge();
    return judge(one);
  };
};

const agree = judgeOnce();

interface Told {
  readonly field: string;
  readonly sentence: string;
  readonly difference: { readonly expected: string; readonly actual: string };
}

const problemOf = (mechanism: Mechanism, { field, sentence, difference }: Told): Problem => {
  const { expected, actual } = difference;
  return { invariant: 'WALK', mechanism, field, sentence, expected, actual };
};

/** The first of several variations that comes to something else. */
function foldVerdict(one: AccessCase, mechanism: Mechanism): Verdict {
  const way = wayOf(one);
  if (way === undefined || way.entries.length < 2) return 'nothing';
  const narrowed: AccessCase = { ...one, access: { ...one.access, size: 1 } } as AccessCase;
  const { result } = translateAccess(narrowed);
  if (result.kind === 'invalidState' || result.kind === 'generalProtection') return 'nothing';
  const places = mayCarryFold(way) ? [0, way.entries.length - 1] : [];
  const ways = [rotated(way), ...places.map((at) => gathered(way, at))];
  for (const rights of ways) {
    const twin: AccessCase = { ...narrowed, image: withRights(one.image, way, rights) };
    const difference = differenceOf(result, translateAccess(twin).result);
    if (difference === undefined) continue;
    const sentence = `with the same rights on other levels an access comes to ${difference.actual} instead of ${difference.expected}`;
    return problemOf(mechanism, { field: 'fold', sentence, difference });
  }
  return 'holds';
}

/** The image with some words of it changed. */
function changed(image: readonly Poke[], change: ReadonlyMap<number, (word: Word) => Word>): readonly Poke[] {
  const words = [...wordsOf(image)].map(([key, word]) => ({ key, word: change.get(key)?.(word) ?? word }));
  return words.map(({ key, word }) => ({ mfn: Math.floor(key / WORDS), index: key % WORDS, word }));
}

const marksOf = ({ required, allowed }: AccessOutcome): readonly Mark[] => [...required, ...allowed];

/** The words that an access used, by place, with the flags that tell their format. */
const usedBy = (one: AccessCase, marks: readonly Mark[]): readonly (readonly [number, Word])[] => {
  const words = wordsOf(one.image);
  return [...bitsByPlace(marks)].filter(([key]) => words.has(key));
};

const withWord = (one: AccessCase, key: number, change: (word: Word) => Word): AccessCase => ({
  ...one,
  image: changed(one.image, new Map([[key, change]])),
});

function clearedVerdict(one: AccessCase, mechanism: Mechanism): Verdict {
  const outcome = translateAccess(one);
  if (outcome.result.kind !== 'done') return 'nothing';
  const used = usedBy(one, outcome.required);
  for (const [key, marked] of used) {
    const twin = withWord(one, key, (word) => withoutWord(word, presentBits(marked)));
    const { result } = translateAccess(twin);
    if (result.kind !== 'done') continue;
    const sentence = `an access succeeds although ${placeInWords(key)}, which it used, is not present`;
    return problemOf(mechanism, {
      field: 'cleared',
      sentence,
      difference: { expected: 'a fault', actual: resultInWords(result) },
    });
  }
  return used.length === 0 ? 'nothing' : 'holds';
}

/** Ways to take a right from an entry. */
const takeAways: readonly ((word: Word, of: { marked: Word; one: AccessCase }) => Word)[] = [
  (word, { marked }) => withoutWord(word, writeBits(marked)),
  (word, { marked }) => withoutWord(word, presentBits(marked)),
  (word, { marked, one }) => (hasNx(one) ? orWord(word, nxBits(marked)) : word),
  // What is no user page may be more for the supervisor: SMEP and SMAP do not bind it there.
  (word, { marked, one }) => (one.access.privilege === 'user' ? withoutWord(word, userBits(marked)) : word),
];

function fewerVerdict(one: AccessCase, mechanism: Mechanism): Verdict {
  if (readsPdptes(one)) return 'nothing';
  const outcome = translateAccess(one);
  const { kind } = outcome.result;
  if (kind !== 'pageFault' && kind !== 'eptViolation' && kind !== 'nestedPageFault') return 'nothing';
  const used = usedBy(one, marksOf(outcome));
  for (const [key, marked] of used)
    for (const take of takeAways) {
      const { result } = translateAccess(withWord(one, key, (word) => take(word, { marked, one })));
      if (result.kind !== 'done') continue;
      const sentence = `an access that fails (${resultInWords(outcome.result)}) succeeds with fewer rights in ${placeInWords(key)}`;
      return problemOf(mechanism, {
        field: 'fewer',
        sentence,
        difference: { expected: 'a fault', actual: resultInWords(result) },
      });
    }
  return used.length === 0 ? 'nothing' : 'holds';
}

/** How often each word is read when `one` is translated. */
function readsOf(one: AccessCase): ReadonlyMap<number, number> {
  const words = wordsOf(one.image);
  const reads = new Map<number, number>();
  translateAccess(one, (mfn, index) => {
    const key = mfn * WORDS + index;
    reads.set(key, (reads.get(key) ?? 0) + 1);
    return mfn >= CASE_FRAMES ? { lo: 0xffff_ffff, hi: 0xffff_ffff } : (words.get(key) ?? ZERO);
  });
  return reads;
}

/** Of one page, each of the processor's own entries is read in the walk and before its flags are set. */
const READS_OF_AN_ENTRY = 2;

/**
 * Whether an entry is something else as well (a PDPTE, an entry of EPT), where the flags that are set in it mean another
 * thing.
 */
function isAmbiguous(one: AccessCase, marks: readonly (readonly [number, Word])[]): boolean {
  if (one.engine === 'svm') return readsPdptes(one);
  const reads = readsOf(one);
  return marks.some(([key, marked]) => hasOwnMark(marked) && (reads.get(key) ?? 0) > READS_OF_AN_ENTRY);
}

function settledVerdict(whole: AccessCase, mechanism: Mechanism): Verdict {
  const one: AccessCase = { ...whole, access: { ...whole.access, size: 1 } } as AccessCase;
  const outcome = translateAccess(one);
  const marks = usedBy(one, marksOf(outcome));
  const words = wordsOf(one.image);
  const isNews = marks.some(([key, bits]) => !isZero(withoutWord(bits, words.get(key) ?? bits)));
  if (!isNews || isAmbiguous(one, marks)) return 'nothing';
  const image = changed(one.image, new Map(marks.map(([key, bits]) => [key, (word) => orWord(word, bits)])));
  const again = translateAccess({ ...one, image });
  const difference = differenceOf(outcome.result, again.result);
  if (difference !== undefined) {
    const sentence = `once its flags are set, the access comes to ${difference.actual} instead of ${difference.expected}`;
    return problemOf(mechanism, { field: 'settled', sentence, difference });
  }
  const now = wordsOf(image);
  const missing = usedBy(one, again.required).find(([key, bits]) => !isZero(withoutWord(bits, now.get(key) ?? bits)));
  if (missing === undefined) return 'holds';
  const sentence = `the second time the same access sets a flag in ${placeInWords(missing[0])}`;
  return problemOf(mechanism, {
    field: 'settled.flags',
    sentence,
    difference: { expected: 'no new flags', actual: 'a new flag' },
  });
}

/** Laws about cases that are one access, native first. */
export const accessLaws: readonly AccessLaw[] = [
  ...both(
    { paging: 'accessesAgree', hap: 'guestAccessesAgree' },
    'An access comes to what the architecture says, and leaves the accessed and dirty flags that it requires, perhaps those that it allows, and nothing else.', // prettier-ignore
    (one) => agree(one) ?? 'holds',
  ),
  ...both(
    { paging: 'foldDecides', hap: 'nestedFoldDecides' },
    'What an access comes to depends on the present entries of its way only through the rights that they give together.', // prettier-ignore
    foldVerdict,
  ),
  ...both(
    { paging: 'clearedPresentFaults', hap: 'clearedPresentExits' },
    'An access that succeeded fails once an entry that it used is not present.', // prettier-ignore
    clearedVerdict,
  ),
  ...both(
    { paging: 'fewerRightsNeverHelp', hap: 'fewerNestedRightsNeverHelp' },
    'No access that fails succeeds once an entry of its way gives fewer rights.', // prettier-ignore
    fewerVerdict,
  ),
  ...both(
    { paging: 'flagsSettle', hap: 'nestedFlagsSettle' },
    'An access does the same a second time, with the accessed and dirty flags of the first, and needs no others.', // prettier-ignore
    settledVerdict,
  ),
];
