// Processors that run paravirtual guests: what they translate by, what they remember, who makes them forget. Directed.
// A first reader may skip nothing.

import { describe, expect, it } from 'vitest';
import type { DomId, Gfn } from '#abi/address.ts';
import { DOMID_SELF } from '#abi/address.ts';
import { vendors } from '#abi/vendor.ts';
import { stopAt } from '../execution.ts';
import { bits, DOM, Guest, KEY, LEAVES, machine, MIDDLE, MORE, OTHER_ROOT, ROOT, second, toolstack, vcpu } from './guest.testing.ts'; // prettier-ignore

const user = { as: 'user' } as const;

/** A running guest whose user has a root of its own, with the first pages only. */
function withUser(): Guest {
  const guest = Guest.running();
  guest.asks('newUserBaseptr', { frame: OTHER_ROOT });
  return guest.word(OTHER_ROOT, 0, MIDDLE);
}

describe.each(vendors)('a processor of %s', (vendor) => {
  it('walks the tables as they stand', () => {
    const guest = Guest.running({ vendor });
    const { m } = guest;
    m.f.memory.set(8 * guest.mfn(2), 0x1234);
    const { reply, how } = guest.does(vcpu, { kind: 'paging.read', gfn: 2 as Gfn, offset: 0, size: 8, via: 0, as: 'supervisor' }); // prettier-ignore
    expect([reply.words, how]).toEqual([[{ lo: 0x1234, hi: 0 }], ['walked']]);
    expect([guest.read(2), guest.read(3), guest.read(4), guest.write(2)]).toEqual(['ok combined', 'ok combined', 'ok combined', 'ok combined']); // prettier-ignore
    expect([guest.flags(LEAVES, 2)[0], guest.flags(MIDDLE, 1)[0], m.f.linearAsid.get(0), m.f.linearTag.get(0)]).toEqual([bits.all + bits.G + bits.A + bits.D, bits.all + bits.A, 0, 0]); // prettier-ignore
    expect([guest.read(8), guest.read(16), guest.read(2 ** 52 - 32), guest.read(32)]).toEqual(['pageFault 0 combined', 'pageFault 0 walked', 'pageFault 0 walked', 'generalProtection']); // prettier-ignore
  });

  it('tells who accessed, and lets ring 3 alone', () => {
    const guest = withUser();
    guest.update(LEAVES, 0, guest.entry(0, { lo: bits.P }));
    expect([guest.write(0), guest.write(0, user), guest.write(1, user)]).toEqual(['pageFault 3 walked', 'pageFault 7 walked', 'ok walked']); // prettier-ignore
    guest.update(LEAVES, 1, guest.entry(1, { lo: bits.all, hi: 2 ** 31 }));
    guest.asks('tlbFlushLocal');
    const fetched = guest.by(vcpu, { kind: 'paging.fetch', gfn: 1 as Gfn, offset: 0, size: 8, via: 0, as: 'supervisor' }); // prettier-ignore
    expect([fetched.status, fetched.out]).toEqual(['pageFault', [17]]);
  });

  it('forgets on its way from kernel to user and back, but for global pages', () => {
    const guest = withUser();
    guest.update(LEAVES, 3, guest.entry(3, { lo: bits.P }));
    guest.asks('tlbFlushLocal');
    expect([guest.read(0), guest.read(3), guest.read(0, user), guest.read(3, user), guest.read(3)]).toEqual(['ok walked', 'ok combined', 'ok combined', 'ok walked', 'ok walked']); // prettier-ignore
    expect([guest.m.f.vcpuIsUser.get(KEY), guest.read(1, user), guest.m.f.vcpuIsUser.get(KEY)]).toEqual([0, 'ok walked', 1]); // prettier-ignore
    guest.asks('flushCache');
    expect(guest.m.f.vcpuIsUser.get(KEY)).toBe(0);
  });

  it('forgets nothing on that way where both have PCIDs, and flushes mean both', () => {
    const guest = Guest.running({ vendor, pcids: true });
    guest.asks('newUserBaseptr', { frame: ROOT });
    expect([guest.read(0), guest.read(0, user), guest.read(0), guest.read(0, user)]).toEqual(['ok walked', 'ok walked', 'ok combined', 'ok combined']); // prettier-ignore
    guest.asks('invlpgLocal', { page: 0 });
    expect([guest.read(0), guest.read(0, user)]).toEqual(['ok walked', 'ok walked']);
    guest.by(vcpu, { kind: 'tlb.invlpg', gfn: 0 as Gfn });
    expect([guest.read(0, user), guest.read(0)]).toEqual(['ok walked', 'ok walked']);
    guest.asks('newBaseptr', { frame: ROOT });
    expect([guest.read(0, user), guest.read(0)]).toEqual(['ok walked', 'ok walked']);
  });

  it('has no user mode without a root for it', () => {
    const guest = Guest.running({ vendor });
    expect([guest.read(0, user), guest.m.f.domCrashed.get(DOM), guest.read(0)]).toEqual(['gone', 1, 'gone']);
  });
});

describe('a processor', () => {
  it('runs no vCPU that has no root', () => {
    const guest = new Guest();
    expect([guest.schedule(0, 0), guest.setContext(ROOT), guest.schedule(0, 0), guest.schedule(1, 1)]).toEqual(['EINVAL', 'ok', 'ok', 'EINVAL']); // prettier-ignore
    expect([guest.setContext(ROOT), guest.setContext(OTHER_ROOT), guest.setContext(ROOT, 2), guest.setContext(LEAVES, 1)]).toEqual(['ok', 'EOPNOTSUPP', 'EINVAL', 'EINVAL']); // prettier-ignore
    expect([guest.setContext(ROOT, 1), guest.typed(ROOT), guest.refs(ROOT), guest.m.f.vcpuControls.get(KEY + 1)]).toEqual(['ok', 'l3 2 valid', 3, 0b1111]); // prettier-ignore
  });

  it('knows nothing of such guests when a vCPU comes to run on it', () => {
    const guest = Guest.running();
    expect([guest.read(0), guest.read(0), guest.schedule(0, 0), guest.read(0)]).toEqual(['ok walked', 'ok combined', 'ok', 'ok walked']); // prettier-ignore
  });

  it('is flushed before a frame that it could write becomes a table', () => {
    const guest = Guest.running();
    guest.word(MIDDLE, 2, 8).asks('tlbFlushLocal');
    guest.write(3);
    // The page is made read-only, which its processor does not hear of.
    expect(guest.update(LEAVES, 3, guest.entry(3, { lo: bits.P }), vcpu)).toBe('ok');
    expect([guest.write(3), guest.typed(3)]).toEqual(['ok combined', 'writable 0 valid']);
    const { reply, how } = guest.does(vcpu, guest.extended([{ command: 'pinL1', frame: 3 as never }], { owner: DOMID_SELF })); // prettier-ignore
    expect([reply.status, how, guest.write(3)]).toEqual(['ok', ['flush 0'], 'pageFault 3 walked']);
    // It has forgotten since.
    guest.asks('unpin', { frame: 3 });
    expect(guest.does(vcpu, guest.extended([{ command: 'pinL2', frame: 3 as never }], { owner: DOMID_SELF })).how).toEqual(['flush 0']); // prettier-ignore
  });

  it('is not flushed for a type of which it can know nothing any more', () => {
    const guest = Guest.running();
    guest.asks('clearPage', { frame: 9 });
    const pin = (command: 'pinL1' | 'pinL2') => guest.does(vcpu, guest.extended([{ command, frame: 9 as never }], { owner: DOMID_SELF })).how; // prettier-ignore
    guest.asks('tlbFlushLocal');
    expect(pin('pinL1')).toEqual([]);
  });

  it('is flushed whatever the clock has wrapped to', () => {
    const guest = Guest.running();
    for (let round = 0; round < 40; round += 1) {
      guest.update(LEAVES, 3, guest.entry(3), vcpu);
      guest.write(3);
      guest.update(LEAVES, 3, guest.entry(3, { lo: bits.P }), vcpu);
      for (let tick = 0; tick < round % 17; tick += 1) guest.asks('tlbFlushAll', {}, vcpu);
      if (round % 17 === 0) expect(guest.write(3)).toBe('ok combined');
      guest.asks('pinL1', { frame: 3 });
      expect(guest.write(3)).toMatch(/^pageFault/u);
      guest.asks('unpin', { frame: 3 });
    }
  });

  it('is flushed before what a table led to is let go of', () => {
    const guest = Guest.running();
    guest.read(4);
    const change = guest.start(vcpu, guest.updates([{ frame: MIDDLE as never, index: 1 }], { owner: DOMID_SELF }));
    change.run(stopAt(guest.m.port, { class: 'flush', object: 'cache', nth: 1 }));
    expect([guest.typed(MORE), guest.m.f.linearLevel.get(0)]).toEqual(['l1 1 valid', 3]);
    change.run(stopAt(guest.m.port, { class: 'reference', object: 'frame', nth: 1 }));
    expect([guest.typed(MORE), guest.m.f.linearLevel.get(0)]).toEqual(['l1 1 valid', 0]);
  });

  it('forgets what its guest says', () => {
    const guest = Guest.running();
    guest.setContext(ROOT, 1);
    guest.schedule(1, 1);
    const remembered = (): readonly number[] => [0, 1].map((pcpu) => [...Array(48).keys()].filter((i) => guest.m.f.linearLevel.get(pcpu * 48 + i) !== 0).length); // prettier-ignore
    const after = (
      command: 'invlpgLocal' | 'invlpgMulti' | 'invlpgAll' | 'tlbFlushLocal' | 'tlbFlushMulti' | 'tlbFlushAll',
      rest: object,
    ) => {
      // prettier-ignore
      for (const agent of [vcpu, second]) for (const page of [0, 1]) guest.read(page, { agent });
      guest.asks(command, rest);
      return remembered();
    };
    expect(after('invlpgLocal', { page: 0 })).toEqual([1, 4]);
    expect(after('invlpgLocal', { page: 32 })).toEqual([4, 4]);
    expect(after('invlpgLocal', { page: 2 ** 52 - 32 })).toEqual([2, 4]);
    expect(after('invlpgAll', { page: 2 ** 52 - 32 })).toEqual([2, 4]);
    expect(after('invlpgAll', { page: 1 })).toEqual([1, 1]);
    expect(after('invlpgMulti', { page: 1, vcpus: 0xfe })).toEqual([4, 1]);
    expect(after('tlbFlushLocal', {})).toEqual([0, 4]);
    expect(after('tlbFlushMulti', { vcpus: 2 })).toEqual([4, 0]);
    expect(after('tlbFlushAll', {})).toEqual([0, 0]);
  });

  it('leaves some instructions to the hypervisor', () => {
    const guest = Guest.running();
    guest.asks('pinL3', { frame: OTHER_ROOT });
    guest.read(0);
    expect(guest.by(vcpu, { kind: 'tlb.invlpg', gfn: 0 as Gfn }).status).toBe('ok');
    const root = (mfn: number): string => guest.by(vcpu, { kind: 'paging.setRoot', gfn: mfn as Gfn, pcid: 0, flush: 'flushing' }).status; // prettier-ignore
    expect([guest.read(0), root(guest.mfn(OTHER_ROOT)), guest.read(0), root(guest.mfn(LEAVES)), root(2 ** 40)]).toEqual(['ok walked', 'ok', 'pageFault 0 walked', 'generalProtection', 'generalProtection']); // prettier-ignore
    expect([guest.typed(ROOT), guest.refs(ROOT), guest.typed(OTHER_ROOT)]).toEqual(['l3 0', 1, 'l3 2 valid pinned']);
    expect(guest.by(vcpu, { kind: 'paging.setRoot', gfn: guest.mfn(OTHER_ROOT) as Gfn, pcid: 0, flush: 'keeping' }).status).toBe('generalProtection'); // prettier-ignore
    const others = [
      { kind: 'tlb.invpcid', type: 'everything', pcid: 0, gfn: 0 as Gfn },
      { kind: 'paging.setControl', control: 'smep', to: 'on' },
    ] as const;
    expect(others.map((op) => guest.by(vcpu, op).status)).toEqual(['generalProtection', 'generalProtection']);
  });

  it('keeps its place among guests with nested tables', () => {
    const guest = Guest.running();
    guest.by(toolstack, { kind: 'memory.createDomain', target: 2 as DomId, vcpus: 1, maxPages: 4, grantFrames: 0, guest: 'hvm' }); // prettier-ignore
    guest.read(0);
    expect([guest.schedule(0, 0, 2), guest.m.f.pcpuAsid.get(0) > 0, guest.read(0)]).toEqual(['ok', true, 'gone']);
    expect([guest.schedule(0, 0), guest.m.f.pcpuAsid.get(0), guest.read(0)]).toEqual(['ok', 0, 'ok walked']);
  });
});

describe('mmuext_op', () => {
  it('changes roots', () => {
    const guest = Guest.running();
    guest.word(OTHER_ROOT, 1, MIDDLE);
    expect([guest.asks('newBaseptr', { frame: OTHER_ROOT }), guest.typed(ROOT), guest.typed(OTHER_ROOT)]).toEqual(['ok', 'l3 0', 'l3 1 valid']); // prettier-ignore
    expect([guest.read(0), guest.read(16), guest.read(16)]).toEqual(['pageFault 0 walked', 'ok walked', 'ok combined']);
    expect([guest.asks('newBaseptr', { frame: OTHER_ROOT }), guest.read(16)]).toEqual(['ok', 'ok walked']);
    expect([guest.asks('newUserBaseptr', { frame: ROOT }), guest.asks('newUserBaseptr', { frame: LEAVES }), guest.typed(ROOT)]).toEqual(['ok', 'EINVAL', 'l3 1 valid']); // prettier-ignore
    expect([guest.asks('newUserBaseptr', { frame: machine(0) }), guest.typed(ROOT), guest.refs(ROOT)]).toEqual(['ok', 'l3 0', 1]); // prettier-ignore
  });

  it('clears and copies', () => {
    const guest = Guest.running();
    guest.update(8, 1, { lo: 5, hi: 6 });
    expect([guest.asks('copyPage', { source: 8, frame: 9 }), guest.flags(9, 1)]).toEqual(['ok', [5, 6]]);
    expect([guest.asks('clearPage', { frame: 9 }), guest.flags(9, 1), guest.typed(9), guest.refs(8)]).toEqual(['ok', [0, 0], 'writable 0 valid', 1]); // prettier-ignore
    expect([guest.asks('clearPage', { frame: LEAVES }), guest.asks('copyPage', { source: 8, frame: LEAVES }), guest.asks('copyPage', { source: machine(2000), frame: 9 })]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']); // prettier-ignore
    expect([guest.refs(8), guest.refs(LEAVES), guest.asks('copyPage', { source: LEAVES, frame: 9 })]).toEqual([1, 2, 'ok']); // prettier-ignore
  });

  it('is no matter of others, pins apart', () => {
    const guest = Guest.running();
    for (const command of ['newBaseptr', 'tlbFlushAll', 'clearPage', 'flushCache', 'unknown'] as const) expect(guest.asks(command, {}, toolstack)).toBe('EOPNOTSUPP'); // prettier-ignore
    expect([guest.asks('unknown'), guest.asks('markSuper'), guest.asks('flushCache')]).toEqual(['ENOSYS', 'EOPNOTSUPP', 'EACCES']); // prettier-ignore
    expect([DOM, 0, 3].map((owner) => guest.by(vcpu, guest.extended([], { owner: owner as DomId })).status)).toEqual(['ESRCH', 'EINVAL', 'ESRCH']); // prettier-ignore
  });
});
