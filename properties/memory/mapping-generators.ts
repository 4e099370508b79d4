// Operations that change what a gfn means and not who owns the frame: types of memory, permissions for devices and their mappings.
// Made for the state at hand: ranges of RAM, read-only RAM that becomes writable again, devices that the target may have.
// A first reader may skip this file.

import type { DomId } from '#abi/address.ts';
import { tableEntries } from '#abi/geometry.ts';
import { memTypes, type MemoryOp } from '#abi/memory.ts';
import type { FrameOperand } from '#abi/operand.ts';
import type { Domain } from '#model/state.ts';
import { domainsOf, gfnsOf, ramOf } from '../harness/census.ts';
import type { Gen, Generators, Needs, Weights } from '../harness/decisions.ts';

type Kind = 'memory.setMemType' | 'memory.iomemPermission' | 'memory.mapMmio';
type MappingOp = Extract<MemoryOp<'symbolic'>, { kind: Kind }>;

export const weights: Weights<MappingOp> = {
  'memory.setMemType': 7,
  'memory.iomemPermission': 3,
  'memory.mapMmio': 7,
};

/** Whether a domain is a guest that runs. */
export const isGuest = ({ id, state }: Domain): boolean => id !== 0 && state === 'running';

/** A domain that `likes`; falls back on any guest, and on id 1. */
export const guest = (g: Gen, likes: (domain: Domain) => boolean): DomId =>
  g.prefer(domainsOf(g.state).filter(isGuest), likes)?.id ?? (1 as DomId);

/** The toolstack acts, or a device model of the control domain. */
export function asServant(g: Gen, serves: DomId): void {
  g.asToolstack();
  if (g.agent.kind === 'toolstack' && g.share(30)) g.agent = { kind: 'deviceModel', domain: 0 as DomId, serves };
}

/** How many gfns from `gfn` on are all in `among`, up to `most`. */
export function runLength(among: readonly number[], gfn: number, most: number): number {
  let count = 1;
  while (count < most && among.includes(gfn + count)) count += 1;
  return count;
}

function setMemType(g: Gen): Extract<MappingOp, { kind: 'memory.setMemType' }> {
  const isReadOnly = (id: DomId): readonly number[] => gfnsOf(g.state, id, ({ type }) => type === 'ramRo');
  const id = guest(g, (domain) => ramOf(g.state, domain.id).length > 3);
  asServant(g, id);
  const readOnly = isReadOnly(id);
  const type = g.bends() ? g.prng.pick(memTypes) : g.prng.pick(['ramRo', 'ramRo', 'ramRw', 'ramRw', 'mmioDm'] as const);
  const from = type !== 'ramRo' && readOnly.length > 0 && g.share(70) ? readOnly : ramOf(g.state, id).slice(1);
  const gfn = g.oneOf(from, id);
  const most = g.share(60) ? 1 : g.prng.pick([2, 4, 8]);
  const count = g.bends() ? g.prng.pick([0, 4096]) : runLength(from, gfn, type === 'mmioDm' ? Math.min(most, 2) : most);
  return { kind: 'memory.setMemType', target: g.domain(id), gfn: g.gfn(gfn), count, type, start: g.start(count) };
}

const device = (index: number): FrameOperand => ({ special: 'mmio', domain: 0 as DomId, index });

/** Device frames as their numbers among devices; bent: one too many. */
const deviceIndex = (g: Gen, index: number): number => (g.bends() ? g.geometry.deviceFrames - g.below(2) : index);

function iomemPermission(g: Gen): Extract<MappingOp, { kind: 'memory.iomemPermission' }> {
  g.asToolstack();
  const id = g.share(10) ? (0 as DomId) : guest(g, ({ iomem }) => iomem.size === 0);
  const size = tableEntries(g.geometry);
  const isWhole = g.share(60);
  const index = isWhole ? size * g.below(g.geometry.deviceFrames / size) : g.below(g.geometry.deviceFrames);
  const most = g.geometry.deviceFrames - index;
  const usual = isWhole ? g.prng.pick([size, 2 * size, 4 * size]) : g.prng.pick([1, 1, 2]);
  const count = g.bends() ? g.prng.pick([0, 4096]) : Math.max(0, Math.min(usual, most));
  const allow = g.share(85) ? 'yes' : 'no';
  const frame = device(deviceIndex(g, index));
  return { kind: 'memory.iomemPermission', target: g.domain(id), frame, count, allow };
}

type MapMmio = Extract<MappingOp, { kind: 'memory.mapMmio' }>;

/** What is mapped goes away again, or part of it. */
function unmapMmio(g: Gen, id: DomId, mapped: readonly number[]): MapMmio {
  const gfn = g.oneOf(mapped, id);
  const mfn = g.state.domains.get(id)?.p2m.get(gfn)?.mfn ?? g.geometry.frameCount;
  const count = g.bends()
    ? g.prng.pick([0, 4096])
    : runLength(mapped, gfn, g.prng.pick([1, 2, 4, tableEntries(g.geometry)]));
  const frame = device(deviceIndex(g, mfn - g.geometry.frameCount));
  return {
    kind: 'memory.mapMmio',
    action: 'unmaps',
    target: g.domain(id),
    gfn: g.gfn(gfn),
    frame,
    count,
    start: g.start(count),
  };
}

/** Devices that the target may have appear where nothing is, or over RAM; aligned for a superpage if there are so many. */
function mapMmio(g: Gen): MapMmio {
  const isMapped = (id: DomId): readonly number[] => gfnsOf(g.state, id, ({ type }) => type === 'mmioDirect');
  const id = g.share(8) ? (0 as DomId) : guest(g, ({ iomem }) => iomem.size > 0);
  g.asToolstack();
  const mapped = isMapped(id);
  if (mapped.length > 0 && g.share(45)) return unmapMmio(g, id, mapped);
  const { frameCount } = g.geometry;
  const permitted = g.state.domains.get(id)?.iomem.keys() ?? [];
  const size = tableEntries(g.geometry);
  const aligned = permitted.filter((mfn) => mfn % size === 0 && permitted.includes(mfn + size - 1));
  const isLarge = aligned.length > 0 && g.share(50);
  const mfn = isLarge ? g.prng.pick(aligned) : permitted.length > 0 ? g.prng.pick(permitted) : frameCount;
  const count = g.bends()
    ? g.prng.pick([0, 4096])
    : isLarge
      ? size
      : runLength(permitted, mfn, g.prng.pick([1, 2, 4, 8, 16]));
  const order = isLarge && g.share(80) ? g.geometry.bitsPerLevel : 0;
  const over = g.share(20) ? g.oneOf(ramOf(g.state, id).slice(1), id) : g.unmapped(id, order);
  const gfn = g.gfn(over - (over % 2 ** order));
  const frame = device(deviceIndex(g, mfn - frameCount));
  return { kind: 'memory.mapMmio', action: 'maps', target: g.domain(id), gfn, frame, count, start: g.start(count) };
}

export const generators: Generators<MappingOp> = {
  'memory.setMemType': setMemType,
  'memory.iomemPermission': iomemPermission,
  'memory.mapMmio': mapMmio,
};

/** When a legal operation of a kind is possible. */
export const needs: Needs<MappingOp> = {
  'memory.setMemType': (g) =>
    domainsOf(g.state).some((domain) => isGuest(domain) && ramOf(g.state, domain.id).length > 1),
  'memory.mapMmio': (g) => domainsOf(g.state).some((domain) => isGuest(domain) && domain.iomem.size > 0),
};
