// Tables that are left partial, as the log says where calls have stopped; every call is audited, so that what is counted is what is there.
// Directed. A first reader may skip nothing.

import { describe, expect, it } from 'vitest';
import { DOMID_SELF, type DomId, type Gfn, type VcpuId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import type { Choice } from '#abi/choices.ts';
import { contextOf } from '../paging/context.ts';
import { entry, GUEST, guest, Machine, page, toolstack } from './guest.testing.ts';

const at = (n: number, index: number, way: 'takes' | 'drops'): Choice => ({
  kind: 'preempted',
  within: { mfn: page(n), index, way },
});

/** The guest on a tree of its own, and a table of level 2 in page 8 with two entries for tables in pages 9 and 10; page 11 is a root over it. */
function built(): Machine {
  const machine = new Machine();
  machine.boot();
  const words = [[8, 0, 9], [8, 2, 10], [11, 0, 8]] as const; // prettier-ignore
  for (const [n, index, to] of words) machine.update(toolstack, { mfn: page(n), index }, entry(page(to)));
  return machine;
}

type Command = 'pinL2' | 'pinL3' | 'unpin' | 'unknown';

interface Called {
  readonly choices?: readonly Choice[];
  readonly agent?: Agent;
}

const asks = (machine: Machine, command: Command, n: number, { choices = [], agent = guest }: Called = {}): string => {
  const owner = agent.kind === 'vcpu' ? (DOMID_SELF as DomId) : GUEST;
  const element = { command, frame: page(n), source: page(n), page: 0 as Gfn, vcpus: 0 };
  const { status, done } = machine.call(agent, { kind: 'pv.mmuext', elements: [element], owner, start: 0 }, choices);
  return `${status} ${done}`;
};

const old = (machine: Machine): number => contextOf(machine.state, { domain: GUEST, vcpu: 0 as VcpuId }).oldTable;

describe('what is stopped in', () => {
  it('is partial, and gone on with by who asks again', () => {
    const machine = built();
    expect(asks(machine, 'pinL3', 11, { choices: [at(8, 2, 'takes')] })).toBe('preempted 0');
    expect(machine.frame(8)).toMatchObject({ typeCount: 1, validated: false, partial: { entries: 2, holds: false }, refs: 3 }); // prettier-ignore
    expect(machine.frame(11)).toMatchObject({ typeCount: 1, partial: { entries: 0, holds: true }, refs: 2 });
    expect([machine.frame(9).typeCount, machine.frame(10).typeCount]).toEqual([1, 0]);
    expect(asks(machine, 'pinL2', 8, { agent: toolstack })).toBe('ok 1');
    expect(asks(machine, 'pinL3', 11)).toBe('ok 1');
    expect(machine.frame(8)).toMatchObject({ typeCount: 2, validated: true, partial: undefined, refs: 3 });
  });

  it('on the way out is left to the next call of the same vCPU', () => {
    const machine = built();
    asks(machine, 'pinL3', 11);
    expect(asks(machine, 'unpin', 11, { choices: [at(8, 0, 'drops')] })).toBe('preempted 1');
    expect([old(machine), machine.frame(11).partial, machine.frame(8).partial]).toEqual([page(11), { entries: 0, holds: true }, { entries: 1, holds: false }]); // prettier-ignore
    expect(asks(machine, 'unknown', 0, { agent: toolstack })).toBe('EOPNOTSUPP 0');
    expect(old(machine)).toBe(page(11));
    expect(asks(machine, 'unknown', 0)).toBe('ENOSYS 0');
    expect([old(machine), machine.frame(11).refs, machine.frame(8).refs, machine.frame(9).typeCount]).toEqual([0, 1, 1, 0]); // prettier-ignore
  });

  it('ends with its domain', () => {
    const machine = built();
    asks(machine, 'pinL3', 11, { choices: [at(8, 2, 'takes')] });
    expect(machine.call(toolstack, { kind: 'memory.killDomain', target: GUEST }).status).toBe('ok');
    expect(machine.frame(8)).toMatchObject({ role: 'free', partial: undefined });
  });
});

describe('what may not be', () => {
  it('leaves nothing behind, unless that is stopped in', () => {
    const machine = built();
    machine.update(toolstack, { mfn: page(8), index: 3 }, entry(4000));
    expect(asks(machine, 'pinL3', 11)).toBe('EINVAL 0');
    expect(machine.frame(8)).toMatchObject({ type: 'l2', typeCount: 0, partial: undefined, refs: 1 });
    expect(asks(machine, 'pinL3', 11, { choices: [at(8, 0, 'drops')] })).toBe('EINVAL 0');
    expect([old(machine), machine.frame(8).partial]).toEqual([page(11), { entries: 1, holds: false }]);
  });
});
