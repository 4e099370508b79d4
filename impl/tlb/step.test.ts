// Acts of fate on processors and instructions that make them forget, as calls: who may, what is refused, what they come to.
// Directed; what each instruction forgets is in linear-cache.test.ts. A first reader may skip nothing.

import { describe, expect, it } from 'vitest';
import type { DomId, Gfn, PcpuId, VcpuId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import type { Control } from '#abi/paging.ts';
import type { TlbOp } from '#abi/tlb.ts';
import { vendors } from '#abi/vendor.ts';
import { domStates } from '../layout.ts';
import { bits, DOM, Guest, KEY, LEAVES, MIDDLE } from '../paging/guest.testing.ts';

const fate: Agent = { kind: 'fate' };
const HIGH = 2 ** 52;

type Type = Extract<TlbOp<'concrete'>, { kind: 'tlb.invpcid' }>['type'];

const invpcid = (type: Type, pcid: number, page = 0): TlbOp<'concrete'> => ({ kind: 'tlb.invpcid', type, pcid, gfn: page as Gfn }); // prettier-ignore
const invlpg = (page: number): TlbOp<'concrete'> => ({ kind: 'tlb.invlpg', gfn: page as Gfn });
const schedule = (target: number, vcpu: number, pcpu: number): TlbOp<'concrete'> => ({ kind: 'tlb.schedule', target: target as DomId, vcpu: vcpu as VcpuId, pcpu: pcpu as PcpuId }); // prettier-ignore
const evict = (pcpu: number, index: number): TlbOp<'concrete'> => ({ kind: 'tlb.evict', pcpu: pcpu as PcpuId, index });
const fill = (pcpu: number, page: number): TlbOp<'concrete'> => ({ kind: 'tlb.fill', pcpu: pcpu as PcpuId, gfn: page as Gfn }); // prettier-ignore

describe.each(vendors)('who may, with %s', (vendor) => {
  it.each<readonly [TlbOp<'concrete'>, Agent['kind']]>([
    [invlpg(0), 'vcpu'],
    [invpcid('everything', 0), 'vcpu'],
    [schedule(DOM, 0, 0), 'fate'],
    [fill(0, 0), 'fate'],
    [evict(0, 0), 'fate'],
  ])('$kind', (op, who) => {
    const guest = new Guest(vendor);
    const statuses = [guest.does(op).reply.status, guest.does(op, fate).reply.status, guest.does(op, { kind: 'toolstack' }).reply.status]; // prettier-ignore
    expect(statuses).toEqual(who === 'vcpu' ? ['ok', 'EPERM', 'EPERM'] : ['EPERM', 'ok', 'EPERM']);
  });
});

describe.each(vendors)('INVPCID of %s', (vendor) => {
  it.each<readonly [Type, pcid: number, page: number, on: readonly Control[], isRefused: boolean]>([
    ['reserved', 0, 0, ['pcids'], true],
    ['address', 0, 0, [], false],
    ['address', 1, 0, [], true],
    ['address', 1, 0, ['pcids'], false],
    ['address', 4095, 0, ['pcids'], false],
    ['address', 4096, 0, ['pcids'], true],
    ['address', 0, 31, [], false],
    ['address', 0, 32, [], true],
    ['address', 0, HIGH - 33, [], true],
    ['address', 0, HIGH - 32, [], false],
    ['context', 0, 32, [], false],
    ['context', 1, 0, [], true],
    ['context', 1, 0, ['pcids'], false],
    ['context', 4096, 0, ['pcids'], true],
    ['everything', 1, 32, [], false],
    ['everything', 4096, 0, [], true],
    ['everythingButGlobals', 1, 32, [], false],
    ['everythingButGlobals', 4096, 0, [], true],
  ])('%s, PCID %s, %s with %s', (type, pcid, page, ...[on, isRefused]) => {
    const { reply } = new Guest(vendor).turnOn(...on).does(invpcid(type, pcid, page));
    expect(reply.status).toBe(isRefused ? 'generalProtection' : 'ok');
  });

  it.each<readonly [string, TlbOp<'concrete'>, answers: readonly string[]]>([
    ['a page and what leads to it', invpcid('address', 0, 0), ['walked', 'page', 'page', 'page']],
    ['no page that has none', invpcid('address', 0, 7), ['page', 'page', 'page', 'page']],
    ['no page of another PCID', invpcid('address', 5, 0), ['page', 'page', 'page', 'page']],
    ['no global page', invpcid('address', 0, 3), ['page', 'page', 'page', 'page']],
    ['all of a PCID', invpcid('context', 0, 7), ['walked', 'walked', 'walked', 'page']],
    ['nothing of another PCID', invpcid('context', 5, 0), ['page', 'page', 'page', 'page']],
    ['everything', invpcid('everything', 0, 7), ['walked', 'walked', 'walked', 'walked']],
    ['everything but globals', invpcid('everythingButGlobals', 0, 0), ['walked', 'walked', 'walked', 'page']],
    ['INVLPG: a page', invlpg(1), ['page', 'walked', 'page', 'page']],
    ['INVLPG: a global page', invlpg(3), ['page', 'page', 'page', 'walked']],
    ['INVLPG: only what leads to tables', invlpg(7), ['page', 'page', 'page', 'page']],
  ])('forgets %s', (_, op, answers) => {
    const seen = [0, 1, 2, 3].map((page) => {
      const guest = new Guest(vendor).turnOn('pcids', 'globalPages');
      guest.entry(LEAVES, 3, 3, { lo: bits.all + bits.G });
      for (const each of [0, 1, 2, 3]) guest.read(each);
      guest.does(op);
      return guest.read(page);
    });
    expect(seen).toEqual(answers.map((how, page) => `gfn ${page} ${how}`));
  });

  it('and INVLPG go by the bits that tables translate', () => {
    const guest = new Guest(vendor);
    guest.m.f.vcpuRoot.setWide(KEY, MIDDLE);
    // From this root page 0 is under two tables only: the third is the table of pages itself.
    guest.entry(MIDDLE, 2, MIDDLE).entry(MIDDLE, 0, LEAVES).entry(LEAVES, 0, LEAVES);
    const page = HIGH - 32;
    expect([guest.read(page), guest.read(page)].map((text) => text.split(' ').at(-1))).toEqual(['walked', 'page']);
    guest.does(invlpg(page));
    expect(guest.read(page)).toMatch(/walked$/u);
    guest.does(invpcid('address', 0, page));
    expect(guest.read(page)).toMatch(/walked$/u);
  });
});

describe.each(vendors)('fate with %s', (vendor) => {
  it.each<readonly [string, readonly [target: number, vcpu: number, pcpu: number], status: string]>([
    ['a domain beyond all', [4, 0, 0], 'ESRCH'],
    ['a domain that is not there', [2, 0, 0], 'ESRCH'],
    ['a vCPU that it has not', [DOM, 2, 0], 'EINVAL'],
    ['a domain that is dying', [3, 0, 0], 'EINVAL'],
    ['a vCPU', [DOM, 1, 1], 'ok'],
  ])('schedules %s: %s', (_, [target, vcpu, pcpu], status) => {
    const guest = new Guest(vendor);
    guest.m.f.domState.set(3, domStates.indexOf('dying'));
    guest.m.f.domVcpus.set(3, 1);
    expect(guest.does(schedule(target, vcpu, pcpu), fate).reply.status).toBe(status);
  });

  it('does not schedule who crashed', () => {
    const guest = new Guest(vendor);
    guest.m.f.domCrashed.set(DOM, 1);
    expect(guest.does(schedule(DOM, 0, 1), fate).reply.status).toBe('EINVAL');
  });

  it('moves vCPUs, and displaces who was there', () => {
    const guest = new Guest(vendor);
    const { m } = guest;
    const where = (): readonly number[] => [m.f.vcpuOn.get(KEY), m.f.vcpuOn.get(KEY + 1), m.f.pcpuVcpu.get(0), m.f.pcpuVcpu.get(1)]; // prettier-ignore
    const seen = [where()];
    for (const [vcpu, pcpu] of [
      [1, 1],
      [0, 1],
      [0, 0],
      [1, 0],
      [1, 2],
      [1, -1],
    ] as const) {
      // prettier-ignore
      guest.does(schedule(DOM, vcpu, pcpu), fate);
      seen.push(where());
    }
    expect(seen).toEqual([
      [1, 0, KEY + 1, 0],
      [1, 2, KEY + 1, KEY + 2],
      [2, 0, 0, KEY + 1],
      [1, 0, KEY + 1, 0],
      [0, 1, KEY + 2, 0],
      [0, 0, 0, 0],
      [0, 0, 0, 0],
    ]);
  });

  it('has a processor walk ahead: without paging by nested tables, with it by those of the guest', () => {
    const guest = new Guest(vendor);
    const remembered = (pcpu: number): readonly boolean[] => {
      const { f, geometry } = guest.m;
      const slot = pcpu * geometry.capacity.cacheEntries;
      return [f.cacheTag.get(slot) !== 0, f.linearLevel.get(slot) !== 0];
    };
    guest.m.f.vcpuControls.set(KEY, 0);
    expect([guest.fill(0, 1), guest.fill(0, 2), guest.fill(0, -1), remembered(0), remembered(1)]).toEqual(['ok', 'ok', 'ok', [false, false], [false, false]]); // prettier-ignore
    guest.fill(0);
    expect([remembered(0), remembered(1)]).toEqual([[true, false], [false, false]]); // prettier-ignore
    guest.turnOn('paging').fill(32);
    expect(remembered(0)).toEqual([true, false]);
    guest.fill(0);
    expect([remembered(0), guest.read(0)]).toEqual([[true, true], 'gfn 0 page']);
    for (const pcpu of [1, 2, -1]) guest.does(evict(pcpu, 0), fate);
    expect(remembered(0)).toEqual([true, true]);
    guest.does(evict(0, 0), fate);
    // What is of nested tables moves together, what is of the guest's leaves a hole.
    expect(remembered(0)).toEqual([true, false]);
  });
});
