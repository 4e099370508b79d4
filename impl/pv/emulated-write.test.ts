// Writes of a guest's kernel to its own tables: which are made for it, what comes of them, and who hears of a fault all the same.
// Directed. A first reader may skip this file.

import { describe, expect, it } from 'vitest';
import type { Gfn, Word } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import type { Op } from '#abi/operation.ts';
import type { Privilege } from '#abi/paging.ts';
import { DOMID_CONTROL } from '#abi/address.ts';
import { stopAt } from '../execution.ts';
import { bits, DOM, Guest, LEAVES, MIDDLE, ROOT, toolstack, vcpu } from './guest.testing.ts';

/** The lowest table for linear frames 0 to 3 is seen at 3, that above it at 2, both for reading alone. */
function writer(assist: 'enable' | 'disable' = 'enable'): Guest {
  const guest = new Guest();
  guest.word(LEAVES, 3, LEAVES, { lo: bits.P + bits.U }).word(LEAVES, 2, MIDDLE, { lo: bits.P + bits.U });
  guest.setContext(ROOT);
  guest.schedule(0, 0);
  guest.by(vcpu, { kind: 'pv.vmAssist', command: assist, assist: 'writablePagetables' });
  return guest;
}

interface Parts {
  readonly page?: number;
  readonly offset?: number;
  readonly size?: number;
  readonly as?: Privilege;
}

const writing = (value: Word, { page = 3, offset = 0, size = 8, as = 'supervisor' }: Parts = {}): Op<'concrete'> => ({
  kind: 'paging.write', gfn: page as Gfn, offset, size, value, via: 0, as,
}); // prettier-ignore

const exchanging = (expected: Word, value: Word, { offset = 0, size = 8 }: Parts = {}): Op<'concrete'> => ({
  kind: 'paging.compareExchange', gfn: 3 as Gfn, offset, size, expected, value, via: 0, as: 'supervisor',
}); // prettier-ignore

const KERNEL_HIGH = 2 ** 20;

describe('a write to a lowest table', () => {
  it('takes what the new entry leads to, and lets go of what the old one did', () => {
    const guest = writer();
    const { reply, how } = guest.does(vcpu, writing(guest.entry(8, { lo: bits.P + bits.W })));
    // What is forgotten is what frame 8 was before it became writable, not the leaf.
    expect([reply.status, how]).toEqual(['ok', ['walked', 'flush 0']]);
    expect(guest.flags(LEAVES, 0)).toEqual([bits.all, KERNEL_HIGH]);
    expect([guest.typed(0), guest.refs(0), guest.typed(8), guest.refs(8)]).toEqual(['writable 0 valid', 1, 'writable 1 valid', 2]); // prettier-ignore
    expect([guest.by(vcpu, writing({ lo: 0x50, hi: 3 })).status, guest.typed(8)]).toEqual(['ok', 'writable 0 valid']);
  });

  it('of part of an entry keeps the rest', () => {
    const guest = writer();
    expect(guest.by(vcpu, writing({ lo: bits.P + bits.U, hi: 0 }, { size: 1 })).status).toBe('ok');
    expect([guest.flags(LEAVES, 0)[0], guest.typed(0), guest.refs(0)]).toEqual([bits.P + bits.U + bits.G, 'writable 0 valid', 2]); // prettier-ignore
    expect(guest.by(vcpu, writing({ lo: 0x8000_0000, hi: 0 }, { offset: 4, size: 4 })).status).toBe('ok');
    expect(guest.flags(LEAVES, 0)[1]).toBe(0x8000_0000);
  });

  it.each<readonly [string, (guest: Guest) => Op<'concrete'>]>([
    ['that would make a table memory', (g) => writing(g.entry(MIDDLE))],
    ['with a flag that none may have', (g) => writing(g.entry(8, { lo: bits.all + bits.PCD }))],
    ['by its user', () => writing({ lo: 0, hi: 0 }, { as: 'user' })],
    ['across two entries', () => writing({ lo: 0, hi: 0 }, { offset: 4 })],
    ['of three bytes', () => writing({ lo: 0, hi: 0 }, { size: 3 })],
    ['to a table that is not a lowest one', () => writing({ lo: 0, hi: 0 }, { page: 2 })],
  ])('%s leaves the guest with its fault', (_, op) => {
    const guest = writer();
    guest.asks('newUserBaseptr', { frame: ROOT });
    const one = op(guest);
    const before = [guest.flags(LEAVES, 0), guest.refs(LEAVES), guest.refs(MIDDLE), guest.refs(8), guest.typed(0)];
    const { status, out } = guest.by(vcpu, one);
    expect([status, out]).toEqual(['pageFault', ['as' in one && one.as === 'user' ? 7 : 3]]);
    expect([guest.flags(LEAVES, 0), guest.refs(LEAVES), guest.refs(MIDDLE), guest.refs(8), guest.typed(0)]).toEqual(before); // prettier-ignore
  });

  it('is made for who has asked for it alone', () => {
    expect(writer('disable').by(vcpu, writing({ lo: 0, hi: 0 })).status).toBe('pageFault');
  });

  it('keeps others from the table while it is made', () => {
    const guest = writer();
    const held = guest.start(vcpu, writing(guest.entry(8)));
    expect(held.run(stopAt(guest.m.port, { class: 'store', object: 'table', nth: 1 })).kind).toBe('paused');
    const other = guest.start(toolstack, guest.updates([{ frame: LEAVES as never, index: 0 }]));
    expect(other.run().kind).toBe('blocked');
    expect([held.run().kind, other.run().kind]).toEqual(['done', 'done']);
    expect([guest.typed(0), guest.typed(8)]).toEqual(['writable 0 valid', 'writable 0 valid']);
  });
});

describe('a compare-exchange of an entry', () => {
  it('changes what is as expected, and tells what is not', () => {
    const guest = writer();
    const old = guest.entry(0, { lo: bits.all + bits.G });
    guest.asks('newUserBaseptr', { frame: ROOT });
    const there: Word = { lo: guest.m.f.memory.get(8 * guest.mfn(LEAVES)), hi: 0 };
    expect(there.lo % 0x1000).toBe(old.lo % 0x1000);
    expect(guest.by(vcpu, exchanging({ lo: 1, hi: 0 }, guest.entry(8)))).toMatchObject({
      status: 'ok',
      words: [there],
    });
    expect([guest.refs(8), guest.typed(0)]).toEqual([1, 'writable 1 valid']);
    expect(guest.by(vcpu, exchanging(there, guest.entry(8)))).toMatchObject({ status: 'ok', words: [there] });
    expect([guest.refs(8), guest.typed(8), guest.typed(0)]).toEqual([2, 'writable 1 valid', 'writable 0 valid']);
  });

  it('lets go of the new entry where a processor has set flags in between', () => {
    const guest = writer();
    const there: Word = { lo: guest.m.f.memory.get(8 * guest.mfn(LEAVES)), hi: 0 };
    const held = guest.start(vcpu, exchanging(there, guest.entry(8)));
    held.run(stopAt(guest.m.port, { class: 'compareExchange', object: 'table', nth: 1 }));
    guest.word(LEAVES, 0, 0, { lo: bits.all + bits.G + bits.D });
    held.run();
    expect(held.reply).toMatchObject({ status: 'ok', words: [{ lo: there.lo + bits.D, hi: 0 }] });
    expect([guest.refs(8), guest.typed(8), guest.typed(0)]).toEqual([1, 'writable 0 valid', 'writable 1 valid']);
  });
});

describe('vm_assist', () => {
  const said = (guest: Guest, agent: Agent, command: 'enable' | 'unknown', assist: 'architecturalIopl' | 'runstateUpdateFlag' | 'unknown') => guest.by(agent, { kind: 'pv.vmAssist', command, assist }).status; // prettier-ignore

  it('knows other assists for other guests', () => {
    const guest = writer();
    expect([said(guest, vcpu, 'enable', 'architecturalIopl'), said(guest, vcpu, 'enable', 'unknown')]).toEqual(['ok', 'EINVAL']); // prettier-ignore
    expect([said(guest, vcpu, 'unknown', 'architecturalIopl'), said(guest, vcpu, 'unknown', 'unknown')]).toEqual(['ENOSYS', 'EINVAL']); // prettier-ignore
    guest.m.f.domKind.set(DOMID_CONTROL, guest.m.f.domKind.get(DOM) === 0 ? 1 : 0);
    expect([said(guest, toolstack, 'enable', 'architecturalIopl'), said(guest, toolstack, 'enable', 'runstateUpdateFlag')]).toEqual(['EINVAL', 'ok']); // prettier-ignore
  });
});
