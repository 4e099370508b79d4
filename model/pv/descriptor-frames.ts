// Frames of descriptors that vCPUs have in use: each held and typed, those of a GDT together, those of an LDT one by one.
// A first reader may skip `seekLdt`. Source: Xen arch/x86/pv/descriptor-tables.c (pv_destroy_gdt, pv_destroy_ldt), arch/x86/pv/mm.c
// (pv_map_ldt_shadow_page).

import type { Gfn, Mfn } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import { contextOf, withContext } from '../paging/context.ts';
import type { Context, State } from '../state.ts';
import { wordAt } from '../words.ts';
import type { Effect, Performers } from './effect.ts';
import { isPresent, mfnIn } from './entries.ts';
import { indexAt } from './flush.ts';
import { isSeen } from './references.ts';
import { attempt, type Todo } from './work.ts';

const letGo = (mfn: Mfn): Todo => [
  { do: 'putType', mfn },
  { do: 'putPage', mfn },
];

/** Frames that no vCPU has as descriptors any more are let go of. */
export const putDescriptors = (frames: readonly Mfn[]): Todo => frames.flatMap(letGo);

/** Frames of an LDT that have come into use. */
export const inUse = ({ frames }: Context['ldt']): readonly Mfn[] => frames.filter((mfn) => mfn !== 0);

/** A vCPU has another LDT, or the same from the beginning: what it has used of the old one is let go of. */
export function replaceLdt(state: State, vcpu: VcpuAgent, next: Omit<Context['ldt'], 'frames'>): Todo {
  return [{ do: 'setLdt', vcpu, ldt: { ...next, frames: [] } }, ...putDescriptors(inUse(contextOf(state, vcpu).ldt))];
}

/** What a vCPU has used of its LDT is let go of, if it has used any. */
export function forgetLdt(state: State, vcpu: VcpuAgent): Todo {
  const { ldt } = contextOf(state, vcpu);
  return inUse(ldt).length === 0 ? [] : replaceLdt(state, vcpu, ldt);
}

export const descriptorFrames: Performers<'setGdt' | 'setLdt' | 'seekLdt' | 'useLdt'> = {
  setGdt: (state, { vcpu, gdt }) => ({ state: withContext(state, vcpu, { gdt }) }),

  setLdt: (state, { vcpu, ldt }) => ({ state: withContext(state, vcpu, { ldt }) }),

  seekLdt: (state, { vcpu, at, mfn, level }): Effect => {
    const { domain: owner } = vcpu;
    if (!isSeen(state, mfn, owner)) return { state, failed: 'EINVAL' };
    const page = (contextOf(state, vcpu).ldt.base + at) as Gfn;
    const entry = wordAt(state, mfn, indexAt(state.geometry, page, level));
    const next = mfnIn(entry);
    if (!isPresent(entry)) return { state, failed: 'EINVAL' };
    if (level > 1) return { state, first: [{ do: 'seekLdt', vcpu, at, mfn: next, level: level - 1 }] };
    return {
      state,
      first: [
        attempt({ do: 'getPage', mfn: next, owner }, 'EINVAL'),
        attempt({ do: 'getType', mfn: next, type: 'descriptors' }, 'EINVAL', { do: 'putPage', mfn: next }),
        { do: 'useLdt', vcpu, at, mfn: next },
      ],
    };
  },

  useLdt: (state, { vcpu, at, mfn }) => {
    const { ldt } = contextOf(state, vcpu);
    const count = Math.max(ldt.frames.length, at + 1);
    const frames = Array.from({ length: count }, (_, i) => (i === at ? mfn : (ldt.frames[i] ?? (0 as Mfn))));
    return { state: withContext(state, vcpu, { ldt: { ...ldt, frames } }) };
  },
};
