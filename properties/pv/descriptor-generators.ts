// What paravirtual guests ask of their descriptor tables: a GDT of frames that could be one, an LDT where memory is mapped, and single descriptors, mostly where descriptors
// are. A first reader may skip it.

import type { DomId, Mfn } from '#abi/address.ts';
import type { Literal } from '#abi/operand.ts';
import { frameOf } from '#model/state.ts';
import { contextOf, RESET } from '#model/paging/context.ts';
import type { Gen, Symbolic } from '../harness/decisions.ts';
import { linearOf, treeOf } from '../paging/tables.ts';
import { aim, askers, idle, indexIn } from './entries.ts';
import { framesOf, frameNamed } from './names.ts';

/** Frames of a guest that are descriptors by now, in use or not. */
const described = (g: Gen, id: DomId): readonly Mfn[] =>
  framesOf(g.state, id).filter((mfn) => frameOf(g.state, mfn).type === 'descriptors');

/** A frame for descriptors: one that has them, one that nothing uses, or one that is something else. */
function frameFor(g: Gen, id: DomId): Mfn {
  const lists = g.share(55) ? [described(g, id), idle(g, id)] : g.share(85) ? [idle(g, id)] : [];
  const list = lists.find((one) => one.length > 0);
  return list === undefined ? aim(g, id, 1) : g.prng.pick(list);
}

function asGuest(g: Gen): DomId {
  const ids = askers(g);
  return g.asVcpu((id) => g.bends() || ids.includes(id));
}

/** A GDT of one frame or some, or the frames that the vCPU has already; now and then none. */
export function setGdt(g: Gen): Symbolic<'pv.setGdt'> {
  const id = asGuest(g);
  const { wordsPerFrame, capacity } = g.geometry;
  const old = g.agent.kind === 'vcpu' ? contextOf(g.state, g.agent).gdt.frames : [];
  const count = g.bends() ? capacity.gdtFrames + 1 : g.prng.below(g.share(80) ? 3 : capacity.gdtFrames + 1);
  const frames = g.list(Math.min(count, 16), (at) => {
    const kept = old[at];
    return { frame: frameNamed(g.state, kept !== undefined && g.share(25) ? kept : frameFor(g, id)) };
  });
  const entries = Math.max(0, count * wordsPerFrame - g.prng.below(wordsPerFrame));
  return { kind: 'pv.setGdt', frames: g.share(4) ? frames.slice(1) : frames, entries };
}

/** Halves of descriptors: data, code, gates of both, what systems have and guests may not, and what is not present. */
const high = [0x00cf_9200, 0x00af_9a00, 0x0000_f200, 0x0000_8c00, 0x0000_ec00, 0x0000_8c01, 0x0000_8900, 0x0000_8000, 0x0000_1200]; // prettier-ignore
const low = [0x0000_ffff, 0x0008_0000, 0xe033_0000, 0xe008_0000, 0x000c_0000];

function descriptor(g: Gen): Literal {
  const drawn = g.prng.below(10);
  if (drawn === 0) return { as: 'fresh' };
  return drawn === 1 ? { as: 'word', lo: 0, hi: 0 } : { as: 'word', lo: g.prng.pick(low), hi: g.prng.pick(high) };
}

/** Whether a frame is descriptors, or can become such. */
const isFit = (g: Gen, id: DomId, mfn: Mfn): boolean =>
  frameOf(g.state, mfn).typeCount === 0 || described(g, id).includes(mfn);

/** An LDT where memory is mapped, rather at frames that could be descriptors; now and then none. */
export function setLdt(g: Gen): Symbolic<'pv.setLdt'> {
  const id = asGuest(g);
  const { pages } = treeOf(g.state, g.agent);
  const fit = pages.filter(({ gfn }) => isFit(g, id, gfn as number as Mfn));
  const some = fit.length > 0 && g.share(70) ? fit : pages;
  const page = some.length > 0 ? g.prng.pick(some).page : g.prng.below(64);
  const { wordsPerFrame, capacity } = g.geometry;
  const most = capacity.ldtFrames * wordsPerFrame;
  const entries = g.bends() ? most + 1 : g.share(10) ? 0 : 1 + g.prng.below(Math.min(most, 2 * wordsPerFrame));
  return { kind: 'pv.setLdt', page: g.gfn(linearOf(g.geometry, page)), entries };
}

/** A descriptor of the LDT that the vCPU has, rather in a frame that is not in use yet. */
export function loadSegment(g: Gen): Symbolic<'pv.loadSegment'> {
  asGuest(g);
  const { ldt } = g.agent.kind === 'vcpu' ? contextOf(g.state, g.agent) : RESET;
  return { kind: 'pv.loadSegment', index: g.bends() ? ldt.entries : g.prng.below(Math.max(ldt.entries, 1)) };
}

export function updateDescriptor(g: Gen): Symbolic<'pv.updateDescriptor'> {
  const frame = frameNamed(g.state, frameFor(g, asGuest(g)));
  return { kind: 'pv.updateDescriptor', frame, index: indexIn(g), offset: g.bends() ? 4 : 0, value: descriptor(g) };
}
