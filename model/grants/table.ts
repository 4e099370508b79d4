// The grant table as a whole: its size, its growth (frames never go back before the domain does), and setupTable, which
// tells a guest where its grant frames are mapped (a translated guest: as gfns, all ones if nowhere; a paravirtual one which they are).
// Source: Xen common/grant_table.c (gnttab_grow_table, gnttab_setup_table, gnttab_query_size).

import { INVALID_GFN, type Gfn, type Mfn, type Word } from '#abi/address.ts';
import type { GrantStatus } from '#abi/grants.ts';
import { high21, low32 } from '#lib/bits.ts';
import { allocateAll, failure, type Cut } from '../cut.ts';
import { ownGfn } from '../p2m.ts';
import { at, end, go, targetOf, type OpOf, type Task, type Turn } from '../progress.ts';
import { withFrame, withGrants, type Domain, type State } from '../state.ts';
import { storeWord } from '../buffers.ts';

/** Frames of the hypervisor's that it shares with a paravirtual guest can be nothing but writable as long as the guest is there. */
export const shared = (state: State, { kind }: Pick<Domain, 'kind'>, mfns: readonly Mfn[]): State =>
  kind === 'pv'
    ? mfns.reduce((now, mfn) => withFrame(now, mfn, { type: 'writable', typeCount: 1, validated: true }), state)
    : state;

/** Grows the table of `target` to `count` frames, all or nothing; `ok` is false above its limit or without memory. */
export function growGrants(cut: Cut, target: Domain, count: number): { readonly cut: Cut; readonly ok: boolean } {
  const { frames, limit } = target.grants;
  if (count > limit) return { cut, ok: false };
  if (count <= frames.length) return { cut, ok: true };
  const roles = Array.from({ length: count - frames.length }, () => 'grantFrame' as const);
  const { cut: given, mfns } = allocateAll(cut, target.id, roles);
  if (mfns === undefined) return { cut: given, ok: false };
  const grown = withGrants(given.state, target.id, { frames: [...frames, ...mfns] });
  return { cut: at(given, shared(grown, target, mfns)), ok: true };
}

type Named = Task<OpOf<'grants.query' | 'grants.setupTable'>>;

/** The domain whose table is meant, or why not. */
function tableOf(cut: Cut, task: Named): Domain | GrantStatus {
  const target = targetOf(cut, task);
  if (target === 'ESRCH') return 'badDomain';
  return target === 'EPERM' ? 'permissionDenied' : target;
}

/** How many grant frames there are, and how many there may be. */
export function query(cut: Cut, task: Task<OpOf<'grants.query'>>): Turn {
  const target = tableOf(cut, task);
  if (typeof target === 'string') return end(cut, target);
  return end(cut, 'okay', { out: [target.grants.frames.length, target.grants.limit] });
}

/** One micro-step of setupTable: the growth, or one word of the list. A word that cannot be written does not stop it. */
export function setupTable(cut: Cut, task: Task<OpOf<'grants.setupTable'>>): Turn {
  const { op, work } = task;
  if (work.at === 'next') return look(cut, task);
  if (work.at === 'copyBack') return tell(cut, task);
  const target = tableOf(cut, task);
  if (typeof target === 'string') return end(cut, target);
  const grown = growGrants(cut, target, op.frames);
  return grown.ok ? go(grown.cut, task, { at: 'next', status: 'okay' }) : end(grown.cut, 'generalError');
}

const ALL_ONES: Word = { lo: 0xffff_ffff, hi: 0xffff_ffff };

/** Looks up where the next frame of the table is mapped; it may move before it is told. */
function look(cut: Cut, task: Task<OpOf<'grants.setupTable'>>): Turn {
  const { op, work } = task;
  if (work.index === op.frames) return end(cut, work.status);
  const target = tableOf(cut, task);
  if (typeof target === 'string') return end(cut, target);
  const mfn = target.grants.frames[work.index];
  // A paravirtual guest is told the frame itself.
  const gfn = mfn === undefined || target.kind === 'pv' ? (mfn as Gfn | undefined) : ownGfn(cut.state, mfn);
  return go(cut, task, { at: 'copyBack', gfn: gfn ?? INVALID_GFN });
}

/** Tells the guest: all ones if the frame was mapped nowhere. */
function tell(cut: Cut, task: Task<OpOf<'grants.setupTable'>>): Turn {
  const { op, work } = task;
  const { gfn } = work;
  const further = { at: 'next', index: work.index + 1 } as const;
  const failed = failure(cut, { class: 'copyBack', done: work.index, nth: work.index + 1 });
  if (failed !== undefined) return go(failed, task, { ...further, status: 'badVirtAddr' });
  const word = gfn === INVALID_GFN ? ALL_ONES : { lo: low32(gfn), hi: high21(gfn) };
  const stored = storeWord(cut, task, { buffer: op.list, index: work.index, word });
  return go(stored.cut, task, { ...further, status: stored.ok ? work.status : 'badVirtAddr' });
}
