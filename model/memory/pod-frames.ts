// The cache of a domain for memory on demand: frames that it owns and has at no gfn, cleared when they come in. Which of them is
// used next is left open, but not of which size: a large run goes where a large run is asked for, and is broken up only when
// there is nothing else. Source: Xen arch/x86/mm/p2m-pod.c (p2m_pod_cache_add, p2m_pod_cache_get, p2m_pod_empty_cache).

import type { DomId, Mfn } from '#abi/address.ts';
import { superpageOrder, type Geometry } from '#abi/geometry.ts';
import { pow2 } from '#lib/bits.ts';
import { Trie } from '#lib/trie.ts';
import { ask, cutAt, refuse, type Cut } from '../cut.ts';
import { withPod } from '../pod.ts';
import { frameOf, type Domain, type Pod, type State } from '../state.ts';
import { eraseFrame } from '../words.ts';

/** What every domain begins with. */
export const noPod = ({ capacity }: Geometry): Pod => ({
  entries: [],
  cache: Trie.empty(),
  highest: 0,
  sweepAt: 0,
  recent: Array.from({ length: capacity.podRecent }, () => undefined),
  recentAt: 0,
});

type Size = 'single' | 'large';

/** Frames in a large run, and gfns in a superpage. */
export const largeSize = ({ geometry }: State): number => pow2(superpageOrder(geometry));

/** Whether there is a large run in the cache. */
export const hasLarge = ({ pod }: Domain): boolean => pod.cache.some((size) => size === 'large');

/** Frames come into the cache of their owner, `count` from `mfn` on, and are cleared. */
export function addToCache(state: State, id: DomId, { mfn, count }: { mfn: Mfn; count: number }): State {
  const size: Size = count >= largeSize(state) ? 'large' : 'single';
  let now = state;
  let cache = state.domains.get(id)?.pod.cache ?? Trie.empty<Size>();
  for (let i = 0; i < count; i += 1) {
    now = eraseFrame(now, (mfn + i) as Mfn);
    cache = cache.set(mfn + i, size);
  }
  return withPod(now, id, { cache });
}

/** The run that frame `mfn` is part of becomes single frames. */
function breakUp(state: State, cache: Pod['cache'], mfn: Mfn): Pod['cache'] {
  const size = largeSize(state);
  const first = mfn - (mfn % size);
  let now = cache;
  for (let i = 0; i < size; i += 1) now = now.set(first + i, 'single');
  return now;
}

/** A run of frames that has left a cache. */
export interface Taken {
  readonly mfn: Mfn;
  readonly order: number;
}

/** Takes the logged frame, or large run, out of the cache: of this size, or (undefined) of either. */
export function takeFromCache(
  cut: Cut,
  id: DomId,
  size: Size | undefined,
): { readonly cut: Cut; readonly taken: Taken } {
  const { cut: after, choice } = ask(cut, ['podTaken']);
  const large = superpageOrder(after.state.geometry);
  const domain = after.state.domains.get(id);
  if (domain === undefined || choice.domain !== id)
    return refuse('frames leave the cache of another domain', 'refines');
  const { mfn, order } = choice;
  if (order !== 0 && order !== large) return refuse(`order ${order} leaves a cache`, 'refines');
  if (size !== undefined && (size === 'large') !== (order === large))
    return refuse(`order ${order} leaves a cache where a ${size} piece is due`, 'refines');
  let { cache } = domain.pod;
  if (order === 0 && cache.get(mfn) === 'large' && !cache.some((one) => one === 'single'))
    cache = breakUp(after.state, cache, mfn);
  for (let i = 0; i < pow2(order); i += 1) {
    if (cache.get(mfn + i) !== (order === 0 ? 'single' : 'large') || mfn % pow2(order) !== 0)
      return refuse(`frame ${mfn + i} is not in the cache as said`, 'FREE');
    cache = cache.delete(mfn + i);
  }
  return { cut: cutAt(after, withPod(after.state, id, { cache })), taken: { mfn, order } };
}

/** Whether `mfn` is RAM of the domain, and not a page of the hypervisor that it sees. */
export const isPlain = (state: State, id: DomId, mfn: Mfn): boolean =>
  frameOf(state, mfn).role === 'ram' && frameOf(state, mfn).owner === id;
