// A linear frame translated: by what is remembered or by a walk of the guest's own tables, every one of which lies at a gfn and
// is reached through the nested tables. The hardware says from where it started and how each gfn was looked up; everything
// else follows from memory. Exactly one thing comes first: an answer, a page fault, or a violation of the nested tables.
//
// - Nested tables keep accessed and dirty flags, so a guest's table is always reached as if it were written (Intel), and a walk
//   by a guest is by a user who writes (AMD): a table in a frame that cannot be written is a violation.
// - Flags are set when a translation is complete: accessed in every entry used, dirty in that of a page which is written.
// - Entries are remembered then, too; a page is remembered frame by frame.
// - A remembered page without the right faults at once on Intel, which then forgets it; AMD looks at the tables again.
//
// A first reader may begin at `translateLinear`.
// Sources: Intel SDM vol. 3A, "4-Level Paging and 5-Level Paging", "Accessed and Dirty Flags", "Caching Translation Information";
// vol. 3C, "EPT Violations" (guest paging structures), "Combined Mappings"; AMD64 APM vol. 2, "Nested Paging".

import type { Gfn, Mfn, Word } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import type { Choice } from '#abi/choices.ts';
import { framesPerLeaf, tableEntries } from '#abi/geometry.ts';
import { RIGHT } from '#abi/rights.ts';
import { hasAll, or } from '#lib/bits.ts';
import { ask, refuse, type Cut } from '../cut.ts';
import { at } from '../progress.ts';
import { type Context, type Loaded, type State } from '../state.ts';
import { afterFault, answering, needOf, remember } from '../tlb/loaded.ts';
import { wordAt, withWord } from '../words.ts';
import { contextOf, isOn, pageBitsOf, pagingOf, rootOf, withContext } from './context.ts';
import { decodeGuest, flagsFor, type GuestEntry } from './guest-entry.ts';
import { isUsable, locate } from './nested.ts';
import { ALL_RIGHTS, errorCode, fold, forbids, isWrite, rightsOfBits, type Attempt, type Cause } from './rights.ts';

/** What is looked for: a linear frame, for an access or (undefined) on speculation, with these rights of the nested tables. */
export interface Aim {
  readonly page: number;
  readonly attempt: Attempt | undefined;
  readonly need: number;
}

/** What comes of it. */
export type Linear =
  | { readonly kind: 'found'; readonly mfn: Mfn }
  | { readonly kind: 'pageFault'; readonly code: number }
  | { readonly kind: 'violation'; readonly gfn: Gfn; readonly isTable: boolean };

interface Result {
  readonly cut: Cut;
  readonly linear: Linear;
}

/** An entry that was used, where it lies, and what it leads to. */
interface Step {
  readonly level: number;
  readonly mfn: Mfn;
  readonly index: number;
  readonly loaded: Omit<Loaded, 'pcid' | 'root' | 'page'>;
}

/** A walk under way: at the table in frame `mfn`, whose entries are at `level`. */
interface Position {
  readonly level: number;
  readonly mfn: Mfn;
  readonly guest: number;
  readonly steps: readonly Step[];
}

/** What a walk reads and writes of tables. */
export const TABLE_NEED = RIGHT.read + RIGHT.write;

/** A page fault, after which what would be used for the address is forgotten. */
function fault(cut: Cut, agent: VcpuAgent, aim: Aim, cause: Cause): Result {
  const { state } = cut;
  const context = contextOf(state, agent);
  // A walk on speculation comes to nothing, and faults for nobody.
  if (aim.attempt === undefined) return { cut, linear: { kind: 'pageFault', code: 0 } };
  const { loaded } = afterFault(state.geometry, context, aim.page);
  const next = loaded === context.loaded ? state : withContext(state, agent, { loaded });
  const code = errorCode(pagingOf(state, context), aim.attempt, cause);
  return { cut: at(cut, next), linear: { kind: 'pageFault', code } };
}

const violation = (cut: Cut, gfn: Gfn, isTable: boolean): Result => ({
  cut,
  linear: { kind: 'violation', gfn, isTable },
});

type Combined = Extract<Choice, { kind: 'combined' }>;

/** The remembered entry that the hardware says it used; it must be one that may be used. */
function recalled(state: State, agent: VcpuAgent, use: { choice: Combined; page: number }): Loaded {
  const { choice, page } = use;
  const found = answering(state.geometry, contextOf(state, agent), page).find(
    (one) =>
      one.leaf === choice.leaf &&
      one.level === choice.level &&
      one.gfn === choice.gfn &&
      one.mfn === choice.mfn &&
      one.rights === choice.rights &&
      one.guest === choice.guest,
  );
  if (found === undefined)
    return refuse(`linear frame ${page} is looked up in what was never loaded, or has been invalidated`, 'STALE');
  if (!isUsable(state, agent, { gfn: choice.gfn, answer: choice, need: needOf(found) }))
    return refuse(
      `gfn ${choice.gfn} leads to frame ${choice.mfn} by a combined entry that nobody may use any more`,
      'STALE',
    );
  return found;
}

/** A remembered page answers: with its frame, or on Intel with a page fault. */
function answerFrom(cut: Cut, agent: VcpuAgent, aim: Aim, page: Loaded): Result {
  const { state } = cut;
  const { attempt, need } = aim;
  const paging = pagingOf(state, contextOf(state, agent));
  const cause = attempt && forbids(paging, attempt, { rights: rightsOfBits(page.guest), key: 0 });
  if (cause !== undefined)
    return state.vendor === 'intel'
      ? fault(cut, agent, aim, cause)
      : refuse('a page fault comes from a remembered page', 'WALK');
  const isDirtied = attempt !== undefined && isWrite(attempt);
  if (!hasAll(page.rights, need) || (isDirtied && !isDirty(state, agent, aim.page, page)))
    return refuse(`linear frame ${aim.page} is used beyond what the remembered page allows`, 'STALE');
  return { cut, linear: { kind: 'found', mfn: page.mfn } };
}

/** Whether the page is remembered as dirty, in whatever entry says the same otherwise. */
const isDirty = (state: State, agent: VcpuAgent, page: number, used: Loaded): boolean =>
  answering(state.geometry, contextOf(state, agent), page).some(
    (one) => one.leaf && one.dirty && one.mfn === used.mfn && one.guest === used.guest && one.rights === used.rights,
  );

const indexOf = ({ geometry }: State, level: number, page: number): number =>
  Math.floor(pageBitsOf(geometry, page) / framesPerLeaf(geometry, level)) % tableEntries(geometry);

/** Reads the entry for the page in the table at hand. */
function entryAt(state: State, context: Context, from: Position, page: number): { entry: GuestEntry; index: number } {
  const index = indexOf(state, from.level, page);
  const word = wordAt(state, from.mfn, index);
  return { entry: decodeGuest(state.geometry, pagingOf(state, context), from.level, word), index };
}

/** Goes down from a table to the end. */
function walkFrom(cut: Cut, agent: VcpuAgent, aim: Aim, from: Position): Result {
  const context = contextOf(cut.state, agent);
  const { entry, index } = entryAt(cut.state, context, from, aim.page);
  const { level, mfn } = from;
  if (entry.kind === 'absent' || entry.kind === 'reserved') return fault(cut, agent, aim, { kind: entry.kind });
  const guest = fold(from.guest, entry.rights);
  if (entry.kind === 'page') {
    const span = framesPerLeaf(cut.state.geometry, level);
    const gfn = (entry.gfn + (pageBitsOf(cut.state.geometry, aim.page) % span)) as Gfn;
    const leaf = {
      leaf: true,
      level,
      gfn,
      guest,
      dirty: entry.dirty,
      global: entry.global && isOn(context, 'globalPages'),
    };
    return arrive(cut, agent, aim, { steps: from.steps, leaf, at: { level, mfn, index } });
  }
  const { cut: after, answer } = locate(cut, agent, { gfn: entry.gfn, need: TABLE_NEED });
  if (answer === undefined) return violation(after, entry.gfn, true);
  const loaded = { leaf: false, level, gfn: entry.gfn, guest, dirty: false, global: false, ...answerOf(answer) };
  const steps = [...from.steps, { level, mfn, index, loaded }];
  return walkFrom(after, agent, aim, { level: level - 1, mfn: answer.mfn, guest, steps });
}

const answerOf = ({ mfn, rights }: { mfn: Mfn; rights: number }): { mfn: Mfn; rights: number } => ({ mfn, rights });

interface Arrival {
  readonly steps: readonly Step[];
  readonly leaf: Omit<Step['loaded'], 'mfn' | 'rights'>;
  readonly at: Pick<Step, 'level' | 'mfn' | 'index'>;
}

/** The page is found: rights, where it lies, flags in the tables, and what is remembered. */
function arrive(cut: Cut, agent: VcpuAgent, aim: Aim, { steps, leaf, at: place }: Arrival): Result {
  const { attempt, need, page } = aim;
  const paging = pagingOf(cut.state, contextOf(cut.state, agent));
  const cause = attempt && forbids(paging, attempt, { rights: rightsOfBits(leaf.guest), key: 0 });
  if (cause !== undefined) return fault(cut, agent, aim, cause);
  const { cut: after, answer } = locate(cut, agent, { gfn: leaf.gfn, need });
  if (answer === undefined) return violation(after, leaf.gfn, false);
  const isDirtied = attempt !== undefined && isWrite(attempt);
  const last: Step = { ...place, loaded: { ...leaf, dirty: leaf.dirty || isDirtied, ...answerOf(answer) } };
  const used = [...steps, last];
  const flagged = used.reduce(
    (state, step) => setFlags(state, agent, step, flagsFor(isDirtied && step === last)),
    after.state,
  );
  return { cut: at(after, load(flagged, agent, used, page)), linear: { kind: 'found', mfn: answer.mfn } };
}

function setFlags(state: State, { domain }: VcpuAgent, { mfn, index }: Step, flags: number): State {
  const word: Word = wordAt(state, mfn, index);
  if (hasAll(word.lo, flags)) return state;
  return withWord(state, { mfn, index }, { lo: or(word.lo, flags), hi: word.hi, author: domain });
}

/** The entries that a walk used are remembered from now on. */
function load(state: State, agent: VcpuAgent, used: readonly Step[], page: number): State {
  const context = contextOf(state, agent);
  const { pcid } = context;
  const root = rootOf(context);
  const bits = pageBitsOf(state.geometry, page);
  const more = used.map(({ loaded }): Loaded => {
    const first = loaded.leaf ? bits : bits - (bits % framesPerLeaf(state.geometry, loaded.level));
    return { ...loaded, page: first, pcid, root };
  });
  const loaded = remember(context.loaded, more);
  return loaded === context.loaded ? state : withContext(state, agent, { loaded });
}

/** Walks from the root. */
export function walkAfresh(cut: Cut, agent: VcpuAgent, aim: Aim): Result {
  const root = rootOf(contextOf(cut.state, agent));
  const { cut: after, answer } = locate(cut, agent, { gfn: root, need: TABLE_NEED });
  if (answer === undefined) return violation(after, root, true);
  const { levels } = after.state.geometry;
  return walkFrom(after, agent, aim, { level: levels, mfn: answer.mfn, guest: ALL_RIGHTS, steps: [] });
}

/** Translates a canonical linear frame of a vCPU whose paging is on, by the logged way. */
export function translateLinear(cut: Cut, agent: VcpuAgent, aim: Aim): Result {
  const { cut: after, choice } = ask(cut, ['combined', 'walked']);
  if (choice.kind === 'walked') return walkAfresh(after, agent, aim);
  const used = recalled(after.state, agent, { choice, page: aim.page });
  if (used.leaf) return answerFrom(after, agent, aim, used);
  const { level, mfn, guest } = used;
  if (!hasAll(used.rights, TABLE_NEED)) return refuse('a table is walked beyond the rights of its entry', 'STALE');
  return walkFrom(after, agent, aim, { level: level - 1, mfn, guest, steps: [] });
}
