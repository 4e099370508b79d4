// Random calls, several in flight and paused anywhere: counts equal a recount when all have ended, nothing that a processor remembers
// lets it write what is used as a table, and the guest's end leaves nothing. A first reader may skip the drawing of operations.

import { describe, expect, it } from 'vitest';
import type { DomId, Gfn } from '#abi/address.ts';
import { DOMID_SELF } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import type { Op } from '#abi/operation.ts';
import { mmuextCommands } from '#abi/pv.ts';
import { hasAll } from '#lib/bits.ts';
import { Prng } from '#lib/prng.ts';
import { domStates } from '../layout.ts';
import type { Execution } from '../execution.ts';
import { LINEAR } from '../tlb/linear-cache.ts';
import { frameIn, isPresent, isWritable, isXenSlot, levelOfCode, WRITABLE } from './entry.ts';
import { isMemory } from './frames.ts';
import { entryAt } from './release.ts';
import { DOM, Guest, KEY, machine, second, toolstack, vcpu } from './guest.testing.ts';

/** Frames that the guest owns, mostly few and mostly memory, and some that it does not. */
function frameFrom(prng: Prng, guest: Guest): number {
  const { f } = guest.m;
  const own = [...Array(96).keys()].filter((mfn) => f.frameOwner.get(mfn) === DOM + 1);
  if (prng.chance(1, 30) || own.length === 0) return machine(prng.below(120));
  return machine(prng.pick(prng.chance(1, 2) ? own.slice(2, 7) : own));
}

/** A frame that is used as a table, if one is drawn. */
function tableFrom(prng: Prng, guest: Guest): number {
  const frame = frameFrom(prng, guest);
  const { f } = guest.m;
  const tables = [...Array(96).keys()].filter((mfn) => levelOfCode(f.frameType.get(mfn)) > 0 && f.frameTypeCount.get(mfn) > 0); // prettier-ignore
  return tables.length === 0 || prng.chance(1, 4) ? frame : machine(prng.pick(tables));
}

function entryFrom(prng: Prng, guest: Guest) {
  const lo = prng.pick([7, 7, 7, 5, 5, 5, 1, 3, 0, 0x107, 0x17, 0x67]);
  return { lo: 0x1000 * guest.mfn(frameFrom(prng, guest)) + lo, hi: prng.pick([0, 0, 2 ** 20, 2 ** 31]) };
}

const pins = ['pinL1', 'pinL1', 'pinL2', 'pinL3', 'unpin', 'unpin'] as const;

function opFrom(prng: Prng, guest: Guest, agent: Agent): Op<'concrete'> {
  const owner = agent.kind === 'vcpu' ? DOMID_SELF : DOM;
  const page = prng.below(16) as Gfn;
  const kind = prng.below(12);
  if (kind < 4) {
    const elements = Array.from({ length: 1 + prng.below(3) }, () => ({ command: prng.pick(['normal', 'preserveAd'] as const), frame: tableFrom(prng, guest) as never, index: prng.below(4), value: entryFrom(prng, guest) })); // prettier-ignore
    return guest.updates(elements, { owner });
  }
  if (kind < 7) {
    const commands = prng.chance(1, 2) ? pins : mmuextCommands;
    const elements = Array.from({ length: 1 + prng.below(2) }, () => ({ command: prng.pick(commands), frame: frameFrom(prng, guest) as never, source: frameFrom(prng, guest) as never, page, vcpus: prng.below(4) })); // prettier-ignore
    return guest.extended(elements, { owner });
  }
  if (kind === 7 && prng.chance(1, 2)) return { kind: 'memory.decrease', target: owner, extents: { by: 'value', gfns: [guest.mfn(frameFrom(prng, guest)) as Gfn] }, order: 0, start: 0 }; // prettier-ignore
  if (kind === 7) return { kind: 'memory.populate', target: owner, extents: { by: 'value', gfns: [prng.below(64) as Gfn] }, order: 0, start: 0 }; // prettier-ignore
  if (agent.kind !== 'vcpu') return { kind: 'pv.setContext', target: DOM, vcpu: prng.below(2) as never, frame: guest.mfn(frameFrom(prng, guest)) as never, by: 'asker' }; // prettier-ignore
  return { kind: 'pv.updateVaMapping', page: (page % 8) as Gfn, value: entryFrom(prng, guest), flush: prng.pick(['nothing', 'nothing', 'everything', 'page'] as const), on: 'all', vcpus: 0, owner }; // prettier-ignore
}

/** Runs paused operations on for a while; `isLast`: to their end. */
function runOn(prng: Prng, guest: Guest, flying: Execution[], isLast: boolean): void {
  for (let turn = 0; flying.length > 0 && (isLast || turn < 4); turn += 1) {
    const one = prng.pick(flying);
    let left = isLast ? 1000 : prng.below(12);
    const outcome = one.run(() => {
      left -= 1;
      return left < 0;
    });
    if (outcome.kind !== 'done') continue;
    guest.m.finish(one);
    flying.splice(flying.indexOf(one), 1);
  }
}

/** What pCPUs remember lets nobody write a table that is in use as one. */
function checkCaches(guest: Guest): void {
  const { f, pcpus, geometry } = guest.m;
  for (let pcpu = 0; pcpu < pcpus; pcpu += 1)
    for (let i = 0; i < geometry.capacity.cacheEntries; i += 1) {
      const slot = pcpu * geometry.capacity.cacheEntries + i;
      const bits = f.linearBits.get(slot);
      const mfn = f.linearMfn.get(slot);
      if (f.linearLevel.get(slot) === 0 || f.pcpuVcpu.get(pcpu) === 0 || !isMemory(guest.m, mfn)) continue;
      const type = f.frameType.get(mfn);
      const isInUse = f.frameTypeCount.get(mfn) > 0 && f.frameValidated.get(mfn) !== 0;
      expect(f.linearLife.get(slot), `life of frame ${mfn}`).toBe(f.frameIncarnation.get(mfn));
      if (!hasAll(bits, LINEAR.page)) expect([isInUse, levelOfCode(type)]).toEqual([true, f.linearLevel.get(slot) - 1]);
      else if (hasAll(bits, LINEAR.write) && isInUse) expect(type).toBe(WRITABLE);
    }
}

/** Counts equal a recount: nothing is in flight. */
function recount(guest: Guest): void {
  const { m } = guest;
  const { f } = m;
  const refs = new Map<number, number>();
  const types = new Map<number, number>();
  const add = (to: Map<number, number>, mfn: number): unknown => to.set(mfn, (to.get(mfn) ?? 0) + 1);
  const info = f.domSharedInfo.get(DOM);
  add(types, info);
  for (let mfn = 0; mfn < 96; mfn += 1) {
    if (f.frameOwner.get(mfn) !== DOM + 1) continue;
    if (f.frameAllocated.get(mfn) !== 0) add(refs, mfn);
    if (f.framePinned.get(mfn) !== 0) for (const to of [refs, types]) add(to, mfn);
    const level = levelOfCode(f.frameType.get(mfn));
    if (level < 1 || f.frameValidated.get(mfn) === 0) continue;
    for (let index = 0; index < 4; index += 1) {
      const entry = entryAt(m, { mfn, level, owner: DOM }, index);
      if (isXenSlot(m, level, index)) expect(entry).toEqual({ lo: 0, hi: 0 });
      if (!isPresent(entry) || !isMemory(m, frameIn(entry))) continue;
      add(refs, frameIn(entry));
      if (level > 1 || isWritable(entry)) add(types, frameIn(entry));
    }
  }
  for (const root of [0, 1].flatMap((i) => [f.vcpuRoot.getWide(KEY + i), f.vcpuUserRoot.get(KEY + i)])) if (root !== 0) for (const to of [refs, types]) add(to, root); // prettier-ignore
  for (let mfn = 0; mfn < 96; mfn += 1) {
    if (f.frameOwner.get(mfn) !== DOM + 1) continue;
    const counts = [f.frameRefs.get(mfn), f.frameTypeCount.get(mfn), f.pageLock.get(mfn), f.frameValidator.get(mfn)];
    expect([mfn, ...counts]).toEqual([mfn, refs.get(mfn) ?? 0, types.get(mfn) ?? 0, 0, 0]);
  }
}

describe.each(['eager', 'lazy'] as const)('random calls, flushed %s', (flush) => {
  it.each(Array.from({ length: 8 }, (_, seed) => seed + 1))('from seed %s', (seed) => {
    const prng = new Prng(seed);
    const guest = Guest.running({ flush, vendor: prng.pick(['intel', 'amd'] as const), width: { typeCount: prng.pick([3, 8]), refCount: prng.pick([4, 8]), tlbClock: prng.pick([2, 4]) } }); // prettier-ignore
    guest.setContext(12, 1);
    guest.schedule(1, 1);
    const flying: Execution[] = [];
    for (let round = 0; round < 250; round += 1) {
      const agent = prng.pick([vcpu, second, toolstack]);
      const isBusy = agent.kind === 'vcpu' && flying.some(({ call }) => call.agent === agent);
      if (flying.length < 3 && !isBusy) flying.push(guest.start(agent, opFrom(prng, guest, agent)));
      runOn(prng, guest, flying, false);
      const idle = [vcpu, second].filter((one) => flying.length < 3 && !flying.some(({ call }) => call.agent === one));
      for (const one of idle) {
        if (prng.chance(1, 2)) guest.write(prng.below(8), { agent: one });
        if (prng.chance(1, 10) && guest.m.f.vcpuUserRoot.get(KEY) !== 0 && one === vcpu) guest.read(prng.below(16), { agent: one, as: 'user' }); // prettier-ignore
      }
      checkCaches(guest);
      if (round % 10 !== 9) continue;
      runOn(prng, guest, flying, true);
      recount(guest);
    }
    const { status } = guest.by(toolstack, { kind: 'memory.killDomain', target: DOM as DomId });
    expect([status, domStates[guest.m.f.domState.get(DOM)]]).toEqual(['ok', 'none']);
    for (let mfn = 0; mfn < 96; mfn += 1) expect(guest.m.f.frameOwner.get(mfn)).not.toBe(DOM + 1);
  });
});
