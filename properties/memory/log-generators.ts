// Calls about the log of a domain's writes: turned on where it is off, looked at while guests write, cleaned, preempted and taken up
// again, turned off; and device models that say what they have written. A first reader may skip this file.

import type { DomId } from '#abi/address.ts';
import { framesPerBitmap } from '#abi/geometry.ts';
import type { MemoryOp } from '#abi/memory.ts';
import type { Buffer } from '#abi/operand.ts';
import type { Domain } from '#model/state.ts';
import { domainsOf, ramOf } from '../harness/census.ts';
import type { Gen, Generators, Needs, Weights } from '../harness/decisions.ts';
import { guest, isGuest } from './mapping-generators.ts';

type Kind = 'memory.enableLogDirty' | 'memory.disableLogDirty' | 'memory.logDirty' | 'memory.modifiedMemory';
type LogOp = Extract<MemoryOp<'symbolic'>, { kind: Kind }>;

export const weights: Weights<LogOp> = {
  'memory.enableLogDirty': 5,
  'memory.disableLogDirty': 6,
  'memory.logDirty': 8,
  'memory.modifiedMemory': 2,
};

const isUnfinished = ({ log }: Domain): boolean => log.unfinished !== undefined;

/** Whether a call takes up what was preempted: mostly if there is something. */
const resuming = (g: Gen, is: boolean): 'anew' | 'resuming' => (is !== g.share(is ? 15 : 3) ? 'resuming' : 'anew');

/** Room for so many words in the caller's RAM, where gfns follow one another; or nowhere. */
function bitmapFor(g: Gen, words: number): Buffer<'symbolic'> {
  if (g.share(25)) return { in: 'null' };
  const ram = ramOf(g.state, 0 as DomId);
  const frames = Math.ceil(words / g.geometry.wordsPerFrame);
  const fits = (gfn: number): boolean => g.list(frames, (i) => gfn + i).every((at) => ram.includes(at));
  const from = ram.slice(1).filter(fits);
  if (from.length === 0 || g.bends() || g.share(10)) return g.buffer(0 as DomId, words);
  return { in: 'guest', gfn: g.address(g.prng.pick(from)), offset: 0 };
}

function logDirty(g: Gen): Extract<LogOp, { kind: 'memory.logDirty' }> {
  const id = guest(g, (domain) => isUnfinished(domain) || domain.log.dirty.size > 0 || domain.log.on);
  g.asToolstack();
  const log = g.state.domains.get(id)?.log;
  const unfinished = log?.unfinished?.action;
  const isMine = unfinished === 'cleans' || unfinished === 'peeks';
  const action = isMine && g.share(90) ? unfinished : g.share(70) ? 'cleans' : 'peeks';
  const { dirtyBits } = g.geometry.capacity;
  const leaf = framesPerBitmap(g.geometry, 0);
  const usual = leaf > 64 ? [64, 256, 1024] : [leaf / 2, leaf, 2 * leaf, 4 * leaf, 8 * leaf];
  const pages = g.bends() ? g.prng.pick([0, 1, 4096]) : g.prng.pick(usual);
  const bitmap = bitmapFor(g, Math.ceil(pages / dirtyBits));
  return { kind: 'memory.logDirty', target: g.domain(id), action, pages, bitmap, resuming: resuming(g, isMine) };
}

export const generators: Generators<LogOp> = {
  'memory.enableLogDirty': (g) => {
    g.asToolstack();
    return {
      kind: 'memory.enableLogDirty',
      target: g.domain(guest(g, (domain) => !domain.log.on || isUnfinished(domain))),
    };
  },
  'memory.disableLogDirty': (g) => {
    g.asToolstack();
    const id = guest(g, (domain) => isUnfinished(domain) || domain.log.on);
    const is = g.state.domains.get(id)?.log.unfinished?.action === 'disables';
    return { kind: 'memory.disableLogDirty', target: g.domain(id), resuming: resuming(g, is) };
  },
  'memory.logDirty': logDirty,
  'memory.modifiedMemory': (g) => {
    const id = guest(g, ({ log }) => log.on);
    g.asToolstack();
    if (g.agent.kind === 'toolstack' && g.share(50)) g.agent = { kind: 'deviceModel', domain: 0 as DomId, serves: id };
    const count = g.bends() ? g.prng.pick([0, 4096]) : g.prng.pick([1, 2, 4, 6, 8]);
    // The range ends below the highest gfn that was ever mapped.
    const most = Math.max(0, (g.state.domains.get(id)?.maxGfn ?? 0) - count);
    const at = g.oneOf(ramOf(g.state, id));
    const gfn = g.share(80) ? Math.min(at, most) : at;
    return { kind: 'memory.modifiedMemory', target: g.domain(id), gfn: g.gfn(gfn), count, start: g.start(count) };
  },
};

const some = (likes: (domain: Domain) => boolean) => (g: Gen) =>
  domainsOf(g.state).some((domain) => isGuest(domain) && likes(domain));

/** When a legal operation of a kind is possible. */
export const needs: Needs<LogOp> = {
  'memory.enableLogDirty': some((domain) => !domain.log.on || isUnfinished(domain)),
  'memory.disableLogDirty': (g) => some(isUnfinished)(g) || (g.share(50) && some(({ log }) => log.on)(g)),
  'memory.logDirty': some((domain) => domain.log.on || isUnfinished(domain)),
  'memory.modifiedMemory': some(({ log }) => log.on),
};
