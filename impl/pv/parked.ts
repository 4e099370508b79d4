// What becomes of tables that calls leave partial. One that a preemption check has stopped within waits for its vCPU's next call; one
// that has an entry which may not be is let go of before its call ends, which may be stopped in turn.
// A first reader may skip nothing. Source: Xen arch/x86/mm.c (put_old_guest_table, do_mmu_update, do_mmuext_op).

import { reply, type Reply } from '#abi/reply.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { putReference } from '../memory/frames.ts';
import type { Step } from '../port.ts';
import { running } from './frames.ts';
import { keyOf, paravirtualIn } from './owner.ts';
import { putPartial, type Stopped } from './release.ts';
import type { Unfit } from './types.ts';

/** What an element has come to: done, not done for a reason, to be done again, or done but for what it has left partial. */
export type Outcome = Unfit | 'onwards' | undefined;

/** Lets go of the table that the running operation has parked, if it has. */
export function* letGoOfParked(m: Machine): Step<Stopped | undefined> {
  const current = running(m);
  const mfn = current.parked;
  if (mfn === 0) return undefined;
  const stopped = yield* putPartial(m, mfn);
  if (stopped !== undefined) return stopped;
  current.parked = 0;
  yield* putReference(m, mfn);
  return undefined;
}

/** What is parked is left to the next call of the vCPU at `key`. */
export function keep(m: Machine, key: number): void {
  const current = running(m);
  if (current.parked !== 0) m.f.vcpuOldTable.set(key, current.parked);
  current.parked = 0;
}

/** Lets go of what an earlier call of the vCPU at `key` has left. */
export function* letGoOfOld(m: Machine, key: number): Step<Stopped | undefined> {
  running(m).parked = m.f.vcpuOldTable.get(key);
  m.f.vcpuOldTable.set(key, 0);
  const stopped = yield* letGoOfParked(m);
  keep(m, key);
  return stopped;
}

/** A batch begins; only those of paravirtual guests stop within tables. */
export function* begin(m: Machine, call: Call): Step<Stopped | undefined> {
  const agent = paravirtualIn(m, call);
  if (agent === undefined) return undefined;
  running(m).stopsWithin = true;
  return yield* letGoOfOld(m, keyOf(m, agent));
}

/** The answer to a batch that ends with an element; undefined: it goes on. */
export function* conclude(
  m: Machine,
  call: Call,
  { outcome, index }: { readonly outcome: Outcome; readonly index: number },
): Step<Reply | undefined> {
  if (outcome === undefined) return undefined;
  const isStopped = outcome === 'restart' || outcome === 'onwards';
  if (!isStopped) yield* letGoOfParked(m);
  const agent = paravirtualIn(m, call);
  if (agent !== undefined) keep(m, keyOf(m, agent));
  if (!isStopped) return reply(outcome, { done: index });
  return reply('preempted', { done: outcome === 'onwards' ? index + 1 : index });
}
