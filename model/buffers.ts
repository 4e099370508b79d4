// Arrays of words in a guest's memory, as hypercalls fetch and store them. What a vCPU without paging names is guest-physical;
// with paging on it is linear, and the hypervisor walks the guest's tables first (paging/software.ts): a micro-step that needs
// such a word leaves by a `Detour`, as often as the walk has acts, and is performed again when the way is known.
// A first reader may skip `partsOf`. Sources: Xen arch/x86/hvm/hvm.c (__hvm_copy): hypercall buffers may lie in the caller's own
// RAM and in foreign entries, never in granted ones; copies to read-only RAM are dropped silently. Paravirtual guests: pv/buffers.ts.

import type { DomId, Gfn, Mfn, Word } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { Detour, type Cut } from './cut.ts';
import { wish } from './memory/pod-demand.ts';
import { linearContext, wrappedPage } from './paging/context.ts';
import { isNowhere, type Trail } from './paging/software.ts';
import { noting } from './progress.ts';
import { fetchDirect, storeDirect, type Element } from './pv/buffers.ts';
import { entryOf, frameOf, isParavirtual, type State } from './state.ts';
import { bytesOf, pieces, readBytes, wordOf, writeBytes, type Piece } from './words.ts';

/** Whose buffer it is, and what has been translated so far. */
interface User {
  readonly agent: Agent;
  readonly caller: DomId;
  readonly work: { readonly trail: Trail };
}

/** A piece of an element where it lies; undefined: nowhere. */
type Part = Piece | undefined;

/** The pieces of an element, guest-physical. Leaves the micro-step while a linear one is not translated. */
function partsOf(cut: Cut, user: User, of: Element & { write: boolean }): readonly Part[] {
  const { buffer, index, write } = of;
  if (buffer.in !== 'guest') return [undefined];
  const { state } = cut;
  // Elements before an array's beginning are counted below 0; addresses are 64 bits and wrap.
  const parts = pieces(state, { gfn: buffer.gfn, offset: buffer.offset + index * 8 }, 8).map((part) => ({
    ...part,
    gfn: wrappedPage(part.gfn),
  }));
  if (linearContext(state, user.agent) === undefined) return parts;
  return parts.map((part): Part => {
    const { gfn: page } = part;
    if (isNowhere(state, { page, write })) return undefined;
    const known = user.work.trail.known.find((one) => one.page === page && one.write === write);
    if (known === undefined) throw new Detour(cut, { page, write });
    return known.gfn === undefined ? undefined : { ...part, gfn: known.gfn };
  });
}

/** The frame behind a gfn that a hypercall of `domain` may use as its buffer. */
function bufferFrame(state: State, domain: DomId, part: Part): { mfn: Mfn; readOnly: boolean } | undefined {
  const entry = part && entryOf(state, domain, part.gfn);
  if (entry === undefined) return undefined;
  const isOwn = entry.type.startsWith('ram') && frameOf(state, entry.mfn).owner === domain;
  return isOwn || entry.type === 'foreign' ? { mfn: entry.mfn, readOnly: entry.type === 'ramRo' } : undefined;
}

/** A piece that is on demand is populated before it is used: once, for the two pieces of a word could be reclaimed for each other for ever. */
function wishFor(cut: Cut, user: User, part: Part): void {
  const isAsked = user.work.trail.asked.some(({ domain, gfn }) => domain === user.caller && gfn === part?.gfn);
  if (part !== undefined && !isAsked) wish(cut, user.work, { domain: user.caller, gfn: part.gfn as Gfn });
}

/** Element `index` of an array of words of the caller; undefined: a fault. */
export function fetchWord(cut: Cut, user: User, from: Element): { readonly cut: Cut; readonly word: Word | undefined } {
  if (isParavirtual(cut.state, user.caller)) return fetchDirect(cut, user.agent, from);
  const bytes: number[] = [];
  for (const part of partsOf(cut, user, { ...from, write: false })) {
    wishFor(cut, user, part);
    const frame = bufferFrame(cut.state, user.caller, part);
    if (part === undefined || frame === undefined) return { cut, word: undefined };
    bytes.push(...readBytes(cut.state, { mfn: frame.mfn, offset: part.offset }, part.count));
  }
  return { cut, word: wordOf(bytes) };
}

/** Stores an element of an array of words of the caller. A fault leaves the pieces before it written. */
export function storeWord(
  cut: Cut,
  user: User,
  to: Element & { readonly word: Word },
): { readonly cut: Cut; readonly ok: boolean } {
  if (isParavirtual(cut.state, user.caller)) return storeDirect(cut, user.agent, to);
  let rest = bytesOf(to.word, 8);
  let now = cut;
  for (const part of partsOf(cut, user, { ...to, write: true })) {
    wishFor(cut, user, part);
    const frame = bufferFrame(now.state, user.caller, part);
    if (part === undefined || frame === undefined) return { cut: now, ok: false };
    const at = { mfn: frame.mfn, offset: part.offset, author: undefined };
    if (!frame.readOnly) {
      const state = writeBytes(now.state, at, rest.slice(0, part.count));
      now = noting({ ...now, state }, { domain: user.caller, gfn: part.gfn as Gfn });
    }
    rest = rest.slice(part.count);
  }
  return { cut: now, ok: true };
}
