// The bitmap of written frames: a tree of pages from the domain's own pool, made as bits are set in it. Who sets a bit and
// cannot have a page counts that; until logging is turned off the log then answers nothing any more.
// A first reader may read `markWritten` alone. Sources: Xen arch/x86/mm/paging.c (set_pfn_logdirty, paging_mark_dirty,
// paging_mark_pfn_dirty, paging_free_log_dirty_bitmap).

import type { DomId } from '#abi/address.ts';
import { framesPerBitmap, type Geometry } from '#abi/geometry.ts';
import { Trie } from '#lib/trie.ts';
import { ask, checkFailure, cutAt, refuse, withPoolFrame, type Cut } from '../cut.ts';
import { ownGfn } from '../p2m.ts';
import { frameOf, withDomain, type DirtyLog, type Domain, type State, type Written } from '../state.ts';

/** The log of a domain that has never logged anything. */
export const emptyLog = ({ capacity }: Geometry): DirtyLog => ({
  on: false,
  dirty: Trie.empty(),
  pages: Array.from({ length: capacity.dirtyLevels }, () => Trie.empty<true>()),
  count: 0,
  failed: 0,
  unfinished: undefined,
});

export const withLog = (state: State, id: DomId, change: Partial<DirtyLog>): State => {
  const log = state.domains.get(id)?.log;
  if (log === undefined) return state;
  return withDomain(state, id, {
    log: {
      on: change.on ?? log.on,
      dirty: change.dirty ?? log.dirty,
      pages: change.pages ?? log.pages,
      count: change.count ?? log.count,
      failed: change.failed ?? log.failed,
      unfinished: 'unfinished' in change ? change.unfinished : log.unfinished,
    },
  });
};

/** Whether the bitmap has any page. */
export const hasBitmap = ({ log }: Domain): boolean => log.pages.some((level) => level.size > 0);

/** The gfn that something written is at; undefined: it is at none, or no longer the domain's. */
function gfnOf(state: State, written: Written): number | undefined {
  if ('gfn' in written) return written.gfn;
  return frameOf(state, written.mfn).owner === written.domain ? ownGfn(state, written.mfn) : undefined;
}

/** The page of the bitmap at `level` that is about `gfn`, taken from the pool as logged if it is not there. `ok`: it is. */
function withPage(cut: Cut, domain: Domain, at: { level: number; gfn: number }): { cut: Cut; ok: boolean } {
  const { id, log } = domain;
  const number = Math.floor(at.gfn / framesPerBitmap(cut.state.geometry, at.level));
  if (log.pages[at.level]?.has(number) === true) return { cut, ok: true };
  const { cut: after, choice } = ask(cut, ['bitmapTaken', 'failed']);
  const { state } = after;
  if (choice.kind === 'failed') {
    if (choice.class !== 'logDirty')
      return refuse(`${choice.class} failed where a page of a bitmap was asked`, 'refines');
    const failed = checkFailure(after, choice, { class: 'logDirty', domain: id });
    return { cut: cutAt(failed, withLog(state, id, { failed: log.failed + 1 })), ok: false };
  }
  const owner = state.domains.get(id);
  if (owner?.state !== 'running' || choice.domain !== id || owner.pool.frames.get(choice.mfn) !== 'spare')
    return refuse(`frame ${choice.mfn} becomes part of a bitmap and is no spare one of the pool`, 'FREE');
  const taken = withPoolFrame(state, owner, { mfn: choice.mfn, use: 'bitmap' });
  const pages = log.pages.map((level, i) => (i === at.level ? level.set(number, true) : level));
  return { cut: cutAt(after, withLog(taken, id, { pages })), ok: true };
}

/** Notes in the log of a domain that a gfn of it was written. */
export function markWritten(cut: Cut, written: Written): Cut {
  const { domain: id } = written;
  const gfn = gfnOf(cut.state, written);
  if (gfn === undefined || cut.state.domains.get(id)?.log.on !== true) return cut;
  let now = cut;
  for (let level = cut.state.geometry.capacity.dirtyLevels - 1; level >= 0; level -= 1) {
    const domain = now.state.domains.get(id);
    if (domain === undefined) return now;
    const page = withPage(now, domain, { level, gfn });
    now = page.cut;
    if (!page.ok) return now;
  }
  const log = now.state.domains.get(id)?.log;
  if (log === undefined || log.dirty.has(gfn)) return now;
  return cutAt(now, withLog(now.state, id, { dirty: log.dirty.set(gfn, true), count: log.count + 1 }));
}

/** One page of the bitmap returns to the pool, as logged. */
function freePage(cut: Cut, id: DomId): Cut {
  const { cut: after, choice } = ask(cut, ['bitmapGiven']);
  const domain = after.state.domains.get(id);
  if (domain === undefined || choice.domain !== id || domain.pool.frames.get(choice.mfn) !== 'bitmap')
    return refuse(`frame ${choice.mfn} is given back and is not part of the bitmap`, 'FREE');
  return cutAt(after, withPoolFrame(after.state, domain, { mfn: choice.mfn, use: 'spare' }));
}

/** Gives back the pages at `levels` that satisfy `isMeant`, with what stands in them. */
export function freePages(cut: Cut, id: DomId, isMeant: (level: number, number: number) => boolean): Cut {
  const log = cut.state.domains.get(id)?.log;
  if (log === undefined) return cut;
  const leaf = framesPerBitmap(cut.state.geometry, 0);
  const left = log.pages.map((level, i) => level.keys().filter((number) => !isMeant(i, number)));
  const count = log.pages.reduce((sum, level, i) => sum + level.size - (left[i]?.length ?? 0), 0);
  const pages = left.map((keys) => keys.reduce((trie, key) => trie.set(key, true), Trie.empty<true>()));
  const kept = log.dirty.keys().filter((gfn) => pages[0]?.has(Math.floor(gfn / leaf)) === true);
  const dirty = kept.reduce((trie, gfn) => trie.set(gfn, true), Trie.empty<true>());
  let now = cut;
  for (let i = 0; i < count; i += 1) now = freePage(now, id);
  return cutAt(now, withLog(now.state, id, { pages, dirty }));
}

/** All of it. */
export const freeBitmap = (cut: Cut, id: DomId): Cut => freePages(cut, id, () => true);
