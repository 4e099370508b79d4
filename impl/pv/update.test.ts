// Words and entries written through the hypervisor: who may, what is refused, what the entry comes to be, what is let go of.
// Directed. A first reader may skip nothing.

import { describe, expect, it } from 'vitest';
import type { DomId } from '#abi/address.ts';
import { DOMID_SELF } from '#abi/address.ts';
import { stopAt } from '../execution.ts';
import { bits, DOM, Guest, LEAVES, machine, MIDDLE, MORE, OTHER_ROOT, ROOT, toolstack, vcpu } from './guest.testing.ts';

const CONTROL = 0 as DomId;

describe('mmu_update', () => {
  it('writes words of what is no table, as writable memory', () => {
    const guest = new Guest();
    expect([guest.update(3, 5, { lo: 7, hi: 8 }), guest.typed(3), guest.refs(3)]).toEqual(['ok', 'writable 0 valid', 1]); // prettier-ignore
    expect(guest.flags(3, 1)).toEqual([7, 8]);
    guest.asks('pinL3', { frame: ROOT }, toolstack);
    expect([guest.update(3, 1, { lo: 9, hi: 0 }), guest.flags(3, 1)]).toEqual(['ok', [9, 0]]);
  });

  it('changes entries of tables: takes, writes, lets go', () => {
    const guest = Guest.running();
    expect(guest.update(LEAVES, 0, guest.entry(8), vcpu)).toBe('ok');
    expect([guest.typed(0), guest.refs(0), guest.typed(8), guest.refs(8)]).toEqual(['writable 0 valid', 1, 'writable 1 valid', 2]); // prettier-ignore
    expect([guest.update(LEAVES, 0, { lo: 0x5550, hi: 1 }, vcpu), guest.typed(8)]).toEqual(['ok', 'writable 0 valid']);
    expect(guest.m.f.memory.get(8 * guest.mfn(LEAVES))).toBe(0x5550);
    const { reply, how } = guest.does(vcpu, guest.updates([{ frame: MIDDLE as never, index: 1 }], { owner: DOMID_SELF })); // prettier-ignore
    expect([reply.status, how, guest.typed(MORE), guest.refs(MORE), guest.typed(4)]).toEqual(['ok', ['forgotten', 'flush 0'], 'l1 0', 1, 'writable 0 valid']); // prettier-ignore
  });

  it('looks at what does no harm no further', () => {
    const guest = new Guest({ width: { typeCount: 2 } });
    guest.asks('pinL1', { frame: LEAVES }, toolstack);
    const before = guest.refs(1);
    expect(guest.update(LEAVES, 1, guest.entry(1, { lo: bits.all + bits.D + 0xe00, hi: 0xfff0_0000 }))).toBe('ok');
    expect([guest.flags(LEAVES, 1), guest.refs(1)]).toEqual([[bits.all + bits.D + 0xe00, 0xfff0_0000], before]);
    expect(guest.update(LEAVES, 1, guest.entry(1, { lo: bits.P }))).toBe('ok');
    expect([guest.typed(1), guest.refs(1)]).toEqual(['writable 0 valid', before]);
  });

  it('keeps what processors have set, if asked', () => {
    const guest = new Guest();
    guest.word(LEAVES, 1, 1, { lo: bits.all + bits.A });
    guest.asks('pinL1', { frame: LEAVES }, toolstack);
    const preserving = guest.start(toolstack, guest.updates([{ command: 'preserveAd', frame: LEAVES as never, index: 1, value: guest.entry(1, { lo: bits.P }) }])); // prettier-ignore
    expect(preserving.run(stopAt(guest.m.port, { class: 'compareExchange', object: 'table', nth: 1 })).kind).toBe('paused'); // prettier-ignore
    guest.word(LEAVES, 1, 1, { lo: bits.all + bits.A + bits.D });
    preserving.run();
    expect(guest.flags(LEAVES, 1)).toEqual([bits.P + bits.U + bits.A + bits.D, 2 ** 20]);
  });

  it.each<readonly [string, status: string, (guest: Guest) => string]>([
    ['a table written as memory', 'EBUSY', (g) => g.update(LEAVES, 0, g.entry(MIDDLE))],
    ['a shared info, cached in a way of its own', 'EINVAL', (g) => g.update(LEAVES, 0, g.entry(machine(g.m.f.domSharedInfo.get(DOM)), { lo: bits.all + bits.PWT }))], // prettier-ignore
    ['a shared info', 'ok', (g) => g.update(LEAVES, 0, g.entry(machine(g.m.f.domSharedInfo.get(DOM))))],
    ['a device', 'EPERM', (g) => g.update(LEAVES, 0, g.entry(machine(100)))],
    ['all ones', 'EINVAL', (g) => g.update(LEAVES, 0, { lo: 0xffff_f007, hi: 0xf_ffff })],
    ['nobody’s frame', 'EBUSY', (g) => g.update(LEAVES, 0, g.entry(machine(90)))],
    ['no table', 'EINVAL', (g) => g.update(MIDDLE, 0, g.entry(MIDDLE))],
    ['a global table', 'EINVAL', (g) => g.update(MIDDLE, 0, g.entry(LEAVES, { lo: bits.all + bits.G }))],
    ['the hypervisor’s slot', 'EINVAL', (g) => g.update(ROOT, 2, { lo: 0, hi: 0 })],
    ['a frame of the hypervisor', 'EINVAL', (g) => g.update(machine(g.m.f.domStructure.get(DOM)), 0, { lo: 0, hi: 0 })],
    ['a frame that is not there', 'EINVAL', (g) => g.update(machine(2000), 0, { lo: 0, hi: 0 })],
  ])('of %s: %s', (_, status, change) => {
    const guest = new Guest();
    guest.asks('pinL3', { frame: ROOT }, toolstack);
    const before = [guest.refs(LEAVES), guest.refs(MIDDLE), guest.typed(LEAVES)];
    expect(change(guest)).toBe(status);
    expect([guest.refs(LEAVES), guest.refs(MIDDLE), guest.typed(LEAVES)]).toEqual(before);
    expect(guest.typed(0)).toBe(status === 'ok' ? 'writable 0 valid' : 'writable 1 valid');
  });

  it('refuses who may not have a shared info cached in a way of its own, though it may have devices', () => {
    const guest = new Guest();
    guest.m.f.domIomem.set(DOM * 16, 1);
    guest.asks('pinL3', { frame: ROOT }, toolstack);
    const info = machine(guest.m.f.domSharedInfo.get(DOM));
    expect(guest.update(LEAVES, 0, guest.entry(info, { lo: bits.all + bits.PWT }))).toBe('EACCES');
    expect(guest.update(LEAVES, 0, guest.entry(1, { lo: bits.all + bits.PWT }))).toBe('ok');
    expect([guest.m.f.frameTypeCount.get(info - machine(0)), guest.refs(info)]).toEqual([1, 1]);
  });

  it('names frames', () => {
    const guest = Guest.running();
    const mfn = guest.mfn(9);
    const named = (owner: DomId, agent = vcpu): string => guest.by(agent, guest.updates([{ command: 'machphys', frame: machine(mfn) as never, value: { lo: 5, hi: 0xfff0_0001 } }], { owner })).status; // prettier-ignore
    expect([named(DOM, toolstack), named(DOMID_SELF, toolstack), named(DOMID_SELF)]).toEqual(['EPERM', 'EINVAL', 'ok']);
    expect(guest.m.f.m2p.getWide(mfn)).toBe(2 ** 32 + 6);
  });

  it('is about oneself, or others if one is the control domain', () => {
    const guest = Guest.running();
    const one = [{ frame: 3 as never }];
    const said = (agent = vcpu, owner = DOMID_SELF as DomId): string => guest.by(agent, guest.updates(one, { owner })).status; // prettier-ignore
    expect([said(), said(vcpu, DOM), said(vcpu, 3 as DomId), said(vcpu, CONTROL)]).toEqual(['ok', 'ESRCH', 'ESRCH', 'EOPNOTSUPP']); // prettier-ignore
    expect([said(toolstack), said(toolstack, CONTROL), said(toolstack, DOM)]).toEqual(['EOPNOTSUPP', 'ESRCH', 'ok']);
    guest.by(toolstack, { kind: 'memory.createDomain', target: 2 as DomId, vcpus: 1, maxPages: 4, grantFrames: 0, guest: 'pv' }); // prettier-ignore
    expect([said(vcpu, 2 as DomId), guest.by(vcpu, guest.updates([{ command: 'unknown' }], { owner: DOMID_SELF })).status]).toEqual(['EPERM', 'ENOSYS']); // prettier-ignore
  });

  it('goes on for nobody when its owner has gone, though another domain has come by its id', () => {
    const guest = new Guest();
    const held = guest.start(toolstack, guest.updates([{ frame: 3 as never }, { frame: 3 as never, index: 1 }]));
    held.run(stopAt(guest.m.port, { class: 'store', object: 'guest', nth: 1 }));
    guest.by(toolstack, { kind: 'memory.killDomain', target: DOM });
    held.run(stopAt(guest.m.port, { class: 'reference', object: 'frame', nth: 3 }));
    guest.by(toolstack, { kind: 'memory.createDomain', target: DOM, vcpus: 1, maxPages: 64, grantFrames: 0, guest: 'hvm' }); // prettier-ignore
    held.run();
    expect(held.reply).toMatchObject({ status: 'EINVAL', done: 1 });
  });

  it('goes on where it was preempted, and ends where it fails', () => {
    const guest = new Guest();
    const elements = [0, 1, 2, 3].map((frame) => ({ frame: (frame === 2 ? machine(2000) : frame) as never }));
    const ended = (start: number, preempt?: number) => {
      const { reply } = guest.does(toolstack, guest.updates(elements, { start }), preempt);
      return [reply.status, reply.done];
    };
    expect([ended(0, 1), ended(1), ended(3), ended(4), ended(9)]).toEqual([['preempted', 1], ['EINVAL', 2], ['ok', 4], ['ok', 4], ['ok', 9]]); // prettier-ignore
  });
});

describe('update_va_mapping', () => {
  const mapping = (guest: Guest, page: number, frame: number, rest: object = {}) =>
    guest.by(vcpu, { kind: 'pv.updateVaMapping', page: page as never, value: guest.entry(frame), flush: 'nothing', on: 'local', vcpus: 0, owner: DOMID_SELF, ...rest }).status; // prettier-ignore

  it('finds the entry by the tables, and flushes as asked', () => {
    const guest = Guest.running();
    for (const page of [0, 1, 2]) guest.read(page);
    // What is written already changes no type, so nobody has to forget.
    expect([mapping(guest, 0, 5), mapping(guest, 1, 6, { flush: 'page' })]).toEqual(['ok', 'ok']);
    expect([guest.read(0), guest.read(1), guest.read(2)]).toEqual(['ok combined', 'ok walked', 'ok combined']);
    expect([mapping(guest, 0, 6, { flush: 'everything', on: 'some', vcpus: 2 }), guest.read(0)]).toEqual(['ok', 'ok combined']); // prettier-ignore
    expect([mapping(guest, 0, 7, { flush: 'everything', on: 'some', vcpus: 1 }), guest.read(0)]).toEqual(['ok', 'ok walked']); // prettier-ignore
  });

  it.each<readonly [page: number, frame: number, rest: object, status: string]>([
    [8, 0, {}, 'EINVAL'],
    [16, 0, {}, 'EINVAL'],
    [32, 0, {}, 'EINVAL'],
    [2 ** 52 - 32, 0, {}, 'EINVAL'],
    [2 ** 52 - 1, 0, {}, 'EINVAL'],
    [0, ROOT, {}, 'EBUSY'],
    [0, 0, { owner: CONTROL }, 'EPERM'],
    [0, 0, { owner: 3 }, 'ESRCH'],
  ])('of page %s by frame %s, %s: %s', (page, frame, rest, status) => {
    expect(mapping(Guest.running(), page, frame, rest)).toBe(status);
  });

  it('is not for others', () => {
    const guest = Guest.running();
    expect(guest.by(toolstack, { kind: 'pv.updateVaMapping', page: 0 as never, value: { lo: 0, hi: 0 }, flush: 'nothing', on: 'local', vcpus: 0, owner: DOM }).status).toBe('ENOSYS'); // prettier-ignore
    expect(guest.typed(OTHER_ROOT)).toBe('none 0');
  });
});
