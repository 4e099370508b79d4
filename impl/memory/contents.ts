// What the hypervisor fills whole frames with: zeros, or a pattern that stands for its private data and must never be seen
// by a guest. Filling a frame is one act behind one point, which the caller passes.
// Source: Xen common/page_alloc.c (scrub_one_page).

import type { Purpose } from '#abi/acts.ts';
import type { Mfn } from '#abi/address.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';

/** Fills frame `mfn` with `half` in both halves of every word. Tells the watcher once: it judges frames. */
export function fill(m: Machine, mfn: number, how: { readonly purpose: Purpose; readonly half: number }): void {
  const { memory } = m.f;
  const size = 2 * m.geometry.wordsPerFrame;
  m.port.watcher?.({ domain: undefined, purpose: how.purpose }, 'store', { mfn, index: 0 });
  for (let at = mfn * size; at < (mfn + 1) * size; at += 1) memory.set(at, how.half);
}

/** Erases a free frame, on which no processor has a claim any more, for the last time. */
export function* scrubFrame(m: Machine, mfn: number): Step<void> {
  yield* m.port.point('scrub', 'frame');
  fill(m, mfn, { purpose: 'scrub', half: 0 });
  m.f.frameDirty.set(mfn, 0);
  m.port.choose({ kind: 'scrub', mfn: mfn as Mfn });
}
