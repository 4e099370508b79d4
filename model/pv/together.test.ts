// Operations of direct paging in flight together: who waits for whom, and what may be reached meanwhile.
// A first reader may skip this file.

import type { Agent } from '#abi/agents.ts';
import { walkRight } from '#abi/rights.ts';
import { present } from '#lib/invariant.ts';
import { describe, expect, it } from 'vitest';
import { authority } from '../isolation.ts';
import type { Progress } from '../progress.ts';
import { frameOf, type State } from '../state.ts';
import { advance, begin } from '../step.ts';
import { ABSENT, entry, GUEST, guest, Machine, page, READ_ONLY, toolstack } from './guest.testing.ts';
import type { Act } from './work.ts';

/** An operation in flight that is advanced act by act. */
class Flight {
  progress: Progress;
  readonly machine: Machine;

  constructor(machine: Machine, agent: Agent, op: Progress['op']) {
    this.machine = machine;
    this.progress = begin(agent, op);
  }

  /** Performs one micro-step; answers how it came out. */
  step(): string {
    const outcome = advance(this.machine.state, this.progress, [], true);
    if (outcome.kind === 'done' || outcome.kind === 'moved') this.machine.state = outcome.state;
    if (outcome.kind === 'moved') this.progress = outcome.progress;
    return outcome.kind;
  }

  /** Goes on until such an act is due. */
  until(act: Act['do']): void {
    for (let i = 0; i < 100 && this.progress.work.pv.todo[0]?.do !== act; i += 1) this.step();
  }

  /** Goes on to the end. */
  finish(): string {
    for (let i = 0; i < 100; i += 1) if (this.step() === 'done') break;
    const { ending } = this.progress;
    return present(ending?.kind === 'exact' ? ending.reply.status : undefined, 'it has ended');
  }
}

const pin = (n: number): Progress['op'] => ({
  kind: 'pv.mmuext',
  elements: [{ command: 'pinL1', frame: page(n), source: page(n), page: 0 as never, vcpus: 0 }],
  owner: GUEST,
  start: 0,
});

const update = (n: number, index: number, value = ABSENT): Progress['op'] => ({
  kind: 'pv.mmuUpdate',
  elements: [{ command: 'normal', frame: page(n), index, value }],
  owner: 0x7ff0 as never,
  start: 0,
});

const typed = (state: State, n: number): number => frameOf(state, page(n)).typeCount;

describe('together', () => {
  it('one finds a table fit while the other waits', () => {
    const machine = new Machine();
    machine.update(toolstack, { mfn: page(5), index: 0 }, entry(page(3)));
    const first = new Flight(machine, toolstack, pin(5));
    first.until('take');
    const second = new Flight(machine, toolstack, pin(5));
    second.until('getType');
    expect(second.step()).toBe('waits');
    expect(first.finish()).toBe('ok');
    expect(second.finish()).toBe('EINVAL');
    expect(frameOf(machine.state, page(5))).toMatchObject({ typeCount: 1, refs: 2, pinned: true });
  });

  it('one changes a table while the other waits for its lock', () => {
    const machine = new Machine();
    machine.boot();
    const first = new Flight(machine, guest, update(2, 0));
    first.until('write');
    const second = new Flight(machine, toolstack, { ...update(2, 3, entry(page(5))), owner: GUEST } as Progress['op']);
    second.until('lock');
    expect(second.step()).toBe('waits');
    expect([first.finish(), second.finish()]).toEqual(['ok', 'ok']);
    expect([typed(machine.state, 3), typed(machine.state, 5)]).toEqual([0, 1]);
  });

  it('a frame may be written until processors have been flushed, and is no table before', () => {
    const machine = new Machine();
    machine.boot();
    machine.access('paging.write', 0);
    machine.update(guest, { mfn: page(2), index: 0 }, entry(page(3), READ_ONLY));
    const rights = (): readonly number[] => authority(machine.state, page(3)).map((one) => one.rights);
    expect(rights()).toEqual([7]);
    const flight = new Flight(machine, toolstack, pin(3));
    flight.until('flushType');
    expect(rights()).toEqual([5 + walkRight(1), 7]);
    expect(flight.finish()).toBe('ok');
    expect(rights()).toEqual([5 + walkRight(1)]);
  });

  it('a batch goes on for nobody when its owner has gone, though another domain has come by its id', () => {
    const machine = new Machine();
    const elements = [0, 1].map(
      (index) => ({ command: 'normal', frame: page(5), index, value: entry(page(3)) }) as const,
    );
    const flight = new Flight(machine, toolstack, { kind: 'pv.mmuUpdate', elements, owner: GUEST, start: 0 });
    flight.until('write');
    const kill = new Flight(machine, toolstack, { kind: 'memory.killDomain', target: GUEST });
    expect(kill.finish()).toBe('ok');
    expect(flight.finish()).toBe('EINVAL');
    expect(machine.state.domains.has(GUEST)).toBe(false);
  });

  it('a domain that is being torn down keeps no pin', () => {
    const machine = new Machine();
    machine.boot();
    const flight = new Flight(machine, toolstack, pin(5));
    flight.until('pin');
    const kill = new Flight(machine, { kind: 'toolstack' }, { kind: 'memory.killDomain', target: GUEST });
    expect([kill.finish(), machine.state.domains.get(GUEST)?.state]).toEqual(['ok', 'dead']);
    expect([flight.finish(), machine.state.domains.has(GUEST)]).toEqual(['ok', false]);
  });
});
