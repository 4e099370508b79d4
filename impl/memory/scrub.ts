// The background scrubber: erases free frames whose erasure is owed, a few at a time, so that a hand-over need not.
// Frames that processors may still remember are left for the hand-over, which settles that debt first.
// A first reader may skip this file. Source: Xen common/page_alloc.c (scrub_free_pages).

import type { MemoryOp } from '#abi/memory.ts';
import { reply, type Reply } from '#abi/reply.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';
import { scrubFrame } from './contents.ts';
import { isScrubbable, lockHeap, unlockHeap } from './heap.ts';

/** Erases up to `frames` free frames; `done` counts them. */
export function* scrubSome(
  m: Machine,
  call: Call,
  op: Extract<MemoryOp<'concrete'>, { kind: 'memory.scrub' }>,
): Step<Reply> {
  if (call.agent.kind !== 'background') return reply('EPERM');
  let done = 0;
  yield* lockHeap(m);
  for (let mfn = 0; mfn < m.geometry.frameCount && done < op.frames; mfn += 1) {
    if (!isScrubbable(m, mfn)) continue;
    yield* scrubFrame(m, mfn);
    done += 1;
  }
  yield* unlockHeap(m);
  return reply('ok', { done });
}
