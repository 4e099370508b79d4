// Tables that are left partial: by a preemption check within them, on the way in and on the way out, and by an entry that may not be. Who
// goes on with them, and what is left in the end. Directed. A first reader may skip nothing.

import { describe, expect, it } from 'vitest';
import { DOMID_SELF } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { Guest, LEAVES, machine, MIDDLE, MORE, OTHER_ROOT, ROOT, second, toolstack, vcpu, DOM, KEY } from './guest.testing.ts'; // prettier-ignore

type Command = 'pinL2' | 'pinL3' | 'unpin' | 'newBaseptr';

interface Fate {
  readonly preempt?: number;
  readonly agent?: Agent;
}

/** The guest asks, and is perhaps stopped at a check. */
const stopped = (guest: Guest, command: Command, frame: number, { preempt, agent = vcpu }: Fate = {}): string => {
  const op = guest.extended([{ command, frame: frame as never }], { owner: DOMID_SELF });
  const { status, done } = guest.does(agent, op, preempt).reply;
  return `${status} ${done}`;
};

/** How far a table is; what its vCPU has kept. */
const partial = (guest: Guest, frame: number): string => {
  const { f } = guest.m;
  const mfn = guest.mfn(frame);
  const code = f.framePartial.get(mfn) - 1;
  return code < 0 ? 'whole' : `${Math.floor(code / 2)}${code % 2 === 0 ? '' : '+'}`;
};

const old = (guest: Guest): number => guest.m.f.vcpuOldTable.get(KEY);

const all = [ROOT, MIDDLE, LEAVES, MORE, OTHER_ROOT];
const counts = (guest: Guest): readonly string[] => all.map((frame) => `${guest.typed(frame)}, ${guest.refs(frame)}`);

/** A guest on another root, its first tree in no use. */
function idleTree(): Guest {
  const guest = new Guest();
  guest.setContext(OTHER_ROOT);
  guest.schedule(0, 0);
  guest.setContext(OTHER_ROOT, 1);
  guest.schedule(1, 1);
  return guest;
}

describe('a table that is stopped in on the way in', () => {
  it('counts as one, holds what it has come to, and is gone on with by another', () => {
    const guest = idleTree();
    const before = counts(guest);
    expect(stopped(guest, 'pinL2', MIDDLE, { preempt: 1 })).toBe('preempted 0');
    expect([partial(guest, MIDDLE), guest.typed(MIDDLE), guest.refs(MIDDLE)]).toEqual(['1', 'l2 1', 2]);
    expect([guest.typed(LEAVES), guest.typed(MORE), old(guest)]).toEqual(['l1 1 valid', 'none 0', 0]);
    // Nobody can use it as anything else, nor change it.
    expect([guest.update(MIDDLE, 0, guest.entry(MORE), vcpu), guest.asks('pinL1', { frame: MIDDLE })]).toEqual(['EINVAL', 'EINVAL']); // prettier-ignore
    expect(stopped(guest, 'pinL2', MIDDLE, { agent: second })).toBe('ok 1');
    expect([partial(guest, MIDDLE), guest.typed(MIDDLE), guest.refs(MIDDLE)]).toEqual(['whole', 'l2 1 valid pinned', 2]); // prettier-ignore
    expect(stopped(guest, 'unpin', MIDDLE)).toBe('ok 1');
    expect([guest.refs(LEAVES), guest.refs(MORE), counts(guest)[0]]).toEqual([1, 1, before[0]]);
  });

  it('is held by the entry above that has come to it', () => {
    const guest = idleTree();
    expect(stopped(guest, 'pinL3', ROOT, { preempt: 1 })).toBe('preempted 0');
    expect([partial(guest, ROOT), partial(guest, MIDDLE), guest.refs(MIDDLE)]).toEqual(['0+', '1', 3]);
    // Somebody else has the table below by now, whole.
    expect(stopped(guest, 'pinL2', MIDDLE, { agent: second })).toBe('ok 1');
    expect(stopped(guest, 'pinL3', ROOT)).toBe('ok 1');
    expect([guest.typed(ROOT), guest.typed(MIDDLE), guest.refs(MIDDLE)]).toEqual([
      'l3 1 valid pinned',
      'l2 2 valid pinned',
      3,
    ]);
  });
});

describe('a table that is stopped in on the way out', () => {
  it('is let go of by the next call of the same vCPU', () => {
    const guest = idleTree();
    const before = counts(guest);
    stopped(guest, 'pinL3', ROOT);
    expect(stopped(guest, 'unpin', ROOT, { preempt: 1 })).toBe('preempted 1');
    expect([old(guest), partial(guest, ROOT), partial(guest, MIDDLE), guest.refs(ROOT)]).toEqual([guest.mfn(ROOT), '0+', '1', 3]); // prettier-ignore
    expect([guest.typed(LEAVES), guest.typed(MORE)]).toEqual(['l1 1 valid', 'l1 0']);
    expect(guest.by(second, guest.updates([], { owner: DOMID_SELF })).status).toBe('ok');
    expect(old(guest)).toBe(guest.mfn(ROOT));
    expect(guest.by(vcpu, guest.updates([], { owner: DOMID_SELF })).status).toBe('ok');
    expect([old(guest), partial(guest, ROOT), partial(guest, MIDDLE)]).toEqual([0, 'whole', 'whole']);
    expect(counts(guest).map((one) => one.replace(/^l\d/u, 'none'))).toEqual(
      before.map((one) => one.replace(/^l\d/u, 'none')),
    );
  });

  it('is nothing more to let go of once another has it whole again', () => {
    const guest = idleTree();
    stopped(guest, 'pinL2', MIDDLE);
    expect(stopped(guest, 'unpin', MIDDLE, { preempt: 1 })).toBe('preempted 1');
    expect(stopped(guest, 'pinL2', MIDDLE, { agent: second })).toBe('ok 1');
    expect([guest.refs(MIDDLE), guest.typed(MIDDLE)]).toEqual([3, 'l2 1 valid pinned']);
    expect(stopped(guest, 'unpin', ROOT)).toBe('EINVAL 0');
    expect([old(guest), guest.refs(MIDDLE), guest.typed(MIDDLE)]).toEqual([0, 2, 'l2 1 valid pinned']);
  });

  it('may be a root that was replaced', () => {
    const guest = Guest.running();
    stopped(guest, 'pinL2', OTHER_ROOT);
    stopped(guest, 'unpin', OTHER_ROOT);
    expect(stopped(guest, 'newBaseptr', OTHER_ROOT, { preempt: 1 })).toBe('preempted 0');
    expect([old(guest), guest.m.f.vcpuRoot.getWide(KEY)]).toEqual([guest.mfn(ROOT), guest.mfn(OTHER_ROOT)]);
    expect(stopped(guest, 'newBaseptr', OTHER_ROOT)).toBe('ok 1');
    expect([old(guest), guest.refs(ROOT), guest.refs(MIDDLE), guest.typed(ROOT)]).toEqual([0, 1, 1, 'l3 0']);
  });

  it('goes with its domain, wherever that stops', () => {
    for (let nth = 1; nth < 12; nth += 1) {
      const guest = idleTree();
      const free = guest.m.f.heapFree.get(0);
      stopped(guest, 'pinL3', ROOT);
      stopped(guest, 'unpin', ROOT, { preempt: 1 });
      stopped(guest, 'pinL2', MIDDLE, { preempt: 1, agent: second });
      const kill = { kind: 'memory.killDomain', target: DOM } as const;
      const replies = [guest.does(toolstack, kill, nth).reply.status, guest.does(toolstack, kill).reply.status];
      expect(replies).toEqual(['preempted', 'ok']);
      expect(guest.m.f.heapFree.get(0) - free).toBe(16 + 2);
    }
  });
});

describe('a table with an entry that may not be', () => {
  it('is let go of before the call ends, from whatever depth', () => {
    const guest = idleTree();
    guest.word(MIDDLE, 1, machine(99));
    const before = counts(guest);
    expect(stopped(guest, 'pinL3', ROOT)).toBe('EINVAL 0');
    expect([partial(guest, ROOT), partial(guest, MIDDLE), old(guest)]).toEqual(['whole', 'whole', 0]);
    expect(counts(guest).map((one) => one.replace(/^l\d/u, 'none'))).toEqual(
      before.map((one) => one.replace(/^l\d/u, 'none')),
    );
  });

  it('may be stopped in meanwhile: the error is heard all the same, and the rest is done later', () => {
    const guest = idleTree();
    guest.word(MIDDLE, 1, MORE).word(MIDDLE, 2, machine(99));
    expect(stopped(guest, 'pinL2', MIDDLE, { preempt: 3 })).toBe('EINVAL 0');
    expect([old(guest), partial(guest, MIDDLE)]).toEqual([guest.mfn(MIDDLE), '1']);
    expect(stopped(guest, 'unpin', ROOT)).toBe('EINVAL 0');
    expect([old(guest), guest.typed(MIDDLE), guest.refs(MIDDLE), guest.refs(LEAVES)]).toEqual([0, 'l2 0', 1, 1]);
  });
});
