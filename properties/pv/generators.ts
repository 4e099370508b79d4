// What paravirtual guests ask of the hypervisor, and what the toolstack asks for them: entries changed one by one and in batches,
// tables pinned and let go of, roots loaded, translations flushed. Guests build tables of frames that nothing uses as memory any
// more, and make memory of tables. A first reader may skip all but `Settings`.

import { DOMID_SELF, type DomId, type Mfn, type VcpuId } from '#abi/address.ts';
import { gfnCount } from '#abi/geometry.ts';
import type { FrameOperand, GfnOperand } from '#abi/operand.ts';
import { mmuextCommands, vmAssists, type MmuextCommand, type PvOp } from '#abi/pv.ts';
import { frameOf } from '#model/state.ts';
import { contextOf } from '#model/paging/context.ts';
import type { Gen, Generators, Needs, Symbolic, Weights } from '../harness/decisions.ts';
import { linearOf, pagesNow, treeOf } from '../paging/tables.ts';
import { noteChange, takenBack } from './changes.ts';
import { loadSegment, setGdt, setLdt, updateDescriptor } from './descriptor-generators.ts';
import {
  askers,
  contested,
  indexIn,
  inFocus,
  levelOf,
  memoryOf,
  newEntry,
  someSlot,
  tableBuilt,
  tableLike,
  tablesAt,
  tableWaiting,
} from './entries.ts';
import { framesOf, frameNamed, numberNamed } from './names.ts';

/** How operations of direct paging are drawn. Shares are per cent. */
export interface Settings {
  readonly weights: Weights<PvOp<'symbolic'>>;
  /** Ordinary batches have 1..usual elements. */
  readonly usual: number;
  /** Calls that the toolstack makes for a guest. */
  readonly served: number;
  /** Updates that build a table of a frame which nothing uses, and calls that pin what was built. */
  readonly building: number;
}

const weights: Settings['weights'] = {
  'pv.mmuUpdate': 90,
  'pv.mmuext': 50,
  'pv.updateVaMapping': 25,
  'pv.setContext': 4,
  'pv.setGdt': 6,
  'pv.updateDescriptor': 6,
  'pv.setLdt': 5,
  'pv.loadSegment': 10,
  'pv.vmAssist': 3,
};

/** Guests that change their tables as systems do. */
export const plausible = (): Settings => ({ weights, usual: 2, served: 10, building: 30 });

/** Guests that try what they must not. */
export const hostile = (): Settings => ({ weights, usual: 4, served: 15, building: 24 });

/** Lets a guest act, or the toolstack for it. Answers whose tables it is about, and how the call names it. */
function asOwner(g: Gen, s: Settings): { readonly id: DomId; readonly owner: DomId } {
  const all = askers(g);
  const focused = g.focus.domains.size > 0 && g.share(80) ? all.filter((id) => g.focus.domains.has(id)) : [];
  const ids = focused.length > 0 ? focused : all;
  const callers = g.callers().filter(({ domain }) => ids.includes(domain));
  if (callers.length === 0 || g.share(s.served)) {
    g.agent = { kind: 'toolstack' };
    const id = ids.length === 0 ? (1 as DomId) : g.prng.pick(ids);
    return { id, owner: g.domain(id) };
  }
  const one = g.prng.pick(callers);
  g.agent = { kind: 'vcpu', ...one };
  return { id: one.domain, owner: g.domain(DOMID_SELF) };
}

type Update = Symbolic<'pv.mmuUpdate'>;

function updateElement(g: Gen, id: DomId): Update['elements'][number] {
  const drawn = g.prng.below(100);
  // Names are a guest's own affair.
  if (drawn < 8 && (g.agent.kind === 'vcpu' || g.bends())) {
    const frames = framesOf(g.state, id);
    const mfn = frames.length === 0 ? (0 as Mfn) : g.prng.pick(frames);
    return {
      command: 'machphys',
      frame: frameNamed(g.state, mfn),
      index: 0,
      value: { as: 'gfn', gfn: g.gfn(g.prng.below(Math.min(gfnCount(g.geometry), 64))) },
    };
  }
  const chosen = (g.share(60) ? contested(g, id) : undefined) ?? (g.share(25) ? takenBack(g, id) : undefined);
  const slot = chosen?.slot ?? someSlot(g, id);
  noteChange(g, id, slot);
  const command = drawn < 82 ? 'normal' : drawn < 94 ? 'preserveAd' : drawn < 99 ? 'noTranslate' : 'unknown';
  return {
    command,
    frame: frameNamed(g.state, slot.mfn),
    index: slot.index,
    value: chosen?.value ?? newEntry(g, id, slot),
  };
}

function mmuUpdate(g: Gen, s: Settings): Update {
  const { id, owner } = asOwner(g, s);
  const built = g.share(s.building) ? tableBuilt(g, id, 2 + g.prng.below(3)) : [];
  if (built.length > 0) {
    const elements = built.map(({ slot: { mfn, index }, value }) => {
      return { command: 'normal', frame: frameNamed(g.state, mfn), index, value } as const;
    });
    return { kind: 'pv.mmuUpdate', elements, owner, start: g.start(elements.length) };
  }
  const count = Math.min(g.batch(s.usual), 16);
  return { kind: 'pv.mmuUpdate', elements: g.list(count, () => updateElement(g, id)), owner, start: g.start(count) };
}

type Extended = Symbolic<'pv.mmuext'>['elements'][number];

/** How often each command is asked for. */
const commandWeights: Readonly<Record<MmuextCommand, number>> = {
  pinL1: 12,
  pinL2: 12,
  pinL3: 10,
  pinL4: 8,
  unpin: 26,
  newBaseptr: 20,
  newUserBaseptr: 12,
  tlbFlushLocal: 5,
  invlpgLocal: 4,
  tlbFlushMulti: 3,
  invlpgMulti: 3,
  tlbFlushAll: 3,
  invlpgAll: 3,
  flushCache: 1,
  flushCacheGlobal: 1,
  clearPage: 6,
  copyPage: 5,
  markSuper: 1,
  unmarkSuper: 1,
  unknown: 1,
};

/** What the toolstack can do for a guest. */
const forOthers: ReadonlySet<MmuextCommand> = new Set(['pinL1', 'pinL2', 'pinL3', 'pinL4', 'unpin']);

function command(g: Gen): MmuextCommand {
  const isServed = g.agent.kind === 'toolstack' && g.share(90);
  const from = mmuextCommands.filter((one) => !isServed || forOthers.has(one));
  let left = g.prng.below(from.reduce((sum, one) => sum + commandWeights[one], 0));
  return from.find((one) => (left -= commandWeights[one]) < 0) ?? 'unpin';
}

const levelPinned: Partial<Readonly<Record<MmuextCommand, number>>> = { pinL1: 1, pinL2: 2, pinL3: 3, pinL4: 4 };

/** A root to be loaded, mostly another than the caller has. */
function rootFor(g: Gen, id: DomId): Mfn {
  g.changes.leave({ domain: id, pages: pagesNow(g.state, g.agent) });
  const { levels } = g.geometry;
  const own = g.agent.kind === 'vcpu' ? contextOf(g.state, g.agent).root : 0;
  const other = tablesAt(g, id, levels).filter((mfn) => (mfn as number) !== (own as number));
  return other.length > 0 && g.share(60) ? g.prng.pick(other) : tableLike(g, id, levels);
}

/** The frame that a command is about. */
function frameFor(g: Gen, id: DomId, which: MmuextCommand): FrameOperand {
  const level = levelPinned[which];
  if (level !== undefined) return frameNamed(g.state, tableLike(g, id, level));
  const frames = framesOf(g.state, id);
  if (which === 'unpin') {
    const pinned = g.prefer(frames, (mfn) => frameOf(g.state, mfn).pinned);
    return frameNamed(g.state, pinned ?? (0 as Mfn));
  }
  if (which === 'newUserBaseptr' && g.share(8)) return { raw: 0 };
  if (which === 'newBaseptr' || which === 'newUserBaseptr') return frameNamed(g.state, rootFor(g, id));
  const memory = g.share(80) ? memoryOf(g, id) : frames;
  return frameNamed(g.state, memory.length > 0 ? g.prng.pick(memory) : (0 as Mfn));
}

/** A linear frame that the caller has translated, or should have. */
function linearPage(g: Gen): GfnOperand {
  const { pages, tables } = treeOf(g.state, g.agent);
  if (pages.length > 0 && g.share(70)) return g.gfn(linearOf(g.geometry, g.prng.pick(pages).page));
  const lowest = tables.filter(({ level }) => level === 1);
  const first = lowest.length > 0 ? g.prng.pick(lowest).first : 0;
  return g.gfn(linearOf(g.geometry, first + indexIn(g)));
}

/** What keeps a table goes, or comes, while operations in flight are about it: its pin. Undefined: they are about none. */
function contestedPin(g: Gen, id: DomId): Extended | undefined {
  const tables = inFocus(g, id).filter((mfn) => levelOf(g, mfn) > 0);
  const mfn = g.prefer(tables, (one) => frameOf(g.state, one).pinned);
  const pin = mfn === undefined ? undefined : mmuextCommands[levelOf(g, mfn) - 1];
  if (mfn === undefined || pin === undefined) return undefined;
  const which = frameOf(g.state, mfn).pinned ? 'unpin' : pin;
  return { command: which, frame: frameNamed(g.state, mfn), source: { raw: 0 }, page: { path: [0] }, vcpus: 0 };
}

function extendedElement(g: Gen, id: DomId): Extended {
  const focused = g.focus.frames.size > 0 && g.share(20) ? contestedPin(g, id) : undefined;
  if (focused !== undefined) return focused;
  const which = command(g);
  const source = which === 'copyPage' ? frameFor(g, id, 'clearPage') : { raw: 0 };
  const page = which.startsWith('invlpg') ? linearPage(g) : { path: [0] };
  const vcpus = which.endsWith('Multi') ? g.prng.pick([1, 2, 3, 3, 0xff]) : 0;
  return { command: which, frame: frameFor(g, id, which), source, page, vcpus };
}

/** A table that was built, or begun with, is pinned; and mostly let go of again at once. */
function pinnedAndBack(g: Gen, id: DomId): readonly Extended[] {
  const waiting = tableWaiting(g, id);
  const pin = waiting && mmuextCommands[waiting.level - 1];
  if (waiting === undefined || pin === undefined) return [];
  const asked = { frame: frameNamed(g.state, waiting.mfn), source: { raw: 0 }, page: { path: [0] }, vcpus: 0 } as const;
  const elements = [{ ...asked, command: pin }, { ...asked, command: 'unpin' } as const];
  return g.share(70) ? elements : elements.slice(0, 1);
}

function mmuext(g: Gen, s: Settings): Symbolic<'pv.mmuext'> {
  const { id, owner } = asOwner(g, s);
  const waiting = g.share(s.building) ? pinnedAndBack(g, id) : [];
  if (waiting.length > 0) return { kind: 'pv.mmuext', elements: waiting, owner, start: g.start(waiting.length) };
  const count = Math.min(g.batch(s.usual), 16);
  return { kind: 'pv.mmuext', elements: g.list(count, () => extendedElement(g, id)), owner, start: g.start(count) };
}

function updateVaMapping(g: Gen): Symbolic<'pv.updateVaMapping'> {
  const ids = askers(g);
  const id = g.asVcpu((domain) => ids.includes(domain));
  const { tables } = treeOf(g.state, g.agent);
  const lowest = tables.filter(({ level }) => level === 1);
  const table = lowest.length > 0 && !g.bends() ? g.prng.pick(lowest) : undefined;
  const index = indexIn(g);
  const page = linearOf(g.geometry, (table?.first ?? g.prng.below(64)) + index);
  const slot = { level: 1, mfn: table?.mfn ?? (0 as Mfn), index };
  noteChange(g, id, slot);
  return {
    kind: 'pv.updateVaMapping',
    page: g.gfn(page),
    value: newEntry(g, id, slot),
    flush: g.prng.pick(['nothing', 'nothing', 'everything', 'page', 'page'] as const),
    on: g.prng.pick(['local', 'local', 'all', 'some'] as const),
    vcpus: g.prng.pick([0, 1, 2, 3]),
    owner: g.domain(DOMID_SELF),
  };
}

function setContext(g: Gen): Symbolic<'pv.setContext'> {
  g.asToolstack();
  const id = g.prng.pick(askers(g).length > 0 ? askers(g) : [1 as DomId]);
  const count = g.state.domains.get(id)?.vcpus ?? 1;
  const vcpus = g.list(count, (vcpu) => vcpu as VcpuId);
  const isNew = (vcpu: VcpuId): boolean => contextOf(g.state, { domain: id, vcpu }).root === 0;
  const vcpu = g.prefer(vcpus, isNew) ?? (0 as VcpuId);
  const frame = frameNamed(g.state, tableLike(g, id, g.geometry.levels));
  return {
    kind: 'pv.setContext',
    target: g.domain(id),
    vcpu: (g.bends() ? vcpu + 1 : vcpu) as VcpuId,
    frame,
    by: g.share(70) ? 'writer' : 'asker',
  };
}

/** A guest turns an assist on or off: rather the one that matters. */
function vmAssist(g: Gen): Symbolic<'pv.vmAssist'> {
  const ids = askers(g);
  g.asVcpu((id) => g.bends() || ids.includes(id));
  const command = g.bends() ? 'unknown' : g.share(60) ? 'enable' : 'disable';
  return { kind: 'pv.vmAssist', command, assist: g.share(85) ? 'writablePagetables' : g.prng.pick(vmAssists) };
}

/** The generators of operations of direct paging. */
export const generators = (s: Settings): Generators<PvOp<'symbolic'>> => ({
  'pv.mmuUpdate': (g) => mmuUpdate(g, s),
  'pv.mmuext': (g) => mmuext(g, s),
  'pv.updateVaMapping': updateVaMapping,
  'pv.setContext': setContext,
  'pv.setGdt': setGdt,
  'pv.updateDescriptor': updateDescriptor,
  'pv.setLdt': setLdt,
  'pv.loadSegment': loadSegment,
  'pv.vmAssist': vmAssist,
});

const someGuest = (g: Gen): boolean => askers(g).length > 0;

const someCaller = (g: Gen): boolean => {
  const ids = askers(g);
  return ids.length > 0 && g.callers().some(({ domain }) => ids.includes(domain));
};

/** Whether some vCPU that may call has an LDT. */
const hasLdt = (g: Gen): boolean => g.callers().some((vcpu) => contextOf(g.state, vcpu).ldt.entries > 0);

/** When a legal operation of a kind is possible. */
export const needs: Needs<PvOp<'symbolic'>> = {
  'pv.mmuUpdate': someGuest,
  'pv.mmuext': someGuest,
  'pv.updateVaMapping': someCaller,
  'pv.setContext': someGuest,
  'pv.setGdt': someCaller,
  'pv.updateDescriptor': someCaller,
  'pv.setLdt': someCaller,
  'pv.loadSegment': hasLdt,
  'pv.vmAssist': someCaller,
};

/**
 * A frame that a guest gives back: what operations in flight are about, one in four a table in use, which lives on without its owner's
 * reference, else rather one that is none.
 */
function frameGivenBack(g: Gen, id: DomId): Mfn | undefined {
  const frames = framesOf(g.state, id).slice(1);
  const focused = g.focus.frames.size > 0 && g.share(40) ? inFocus(g, id) : [];
  if (focused.length > 0) return g.prng.pick(focused);
  const wantsTable = g.share(25);
  return g.prefer(frames, (one) => (wantsTable ? frameOf(g.state, one).pinned : levelOf(g, one) === 0));
}

/** A paravirtual guest, or the toolstack for it, gives a frame back by its number. Undefined: there is none. */
export function decreaseDirect(g: Gen): Symbolic<'memory.decrease'> | undefined {
  const ids = askers(g);
  if (ids.length === 0) return undefined;
  const id = g.prng.pick(ids);
  const mfn = frameGivenBack(g, id);
  if (mfn === undefined) return undefined;
  g.asManager(id);
  const gfns = [numberNamed(g.state, mfn)];
  return { kind: 'memory.decrease', target: g.domain(id), extents: { by: 'value', gfns }, order: 0, start: g.start(1) };
}
