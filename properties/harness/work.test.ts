// Who is told to stop has to answer so: a log that says that it was told is no answer. And who never answers is stopped.
// A first reader may skip it.

import { expect, test } from 'vitest';
import { DOMID_SELF, type DomId, type Mfn, type VcpuId } from '#abi/address.ts';
import type { Choice } from '#abi/choices.ts';
import { reply, type Reply } from '#abi/reply.ts';
import { Execution } from '#impl/execution.ts';
import { Machine } from '#impl/machine.ts';
import type { Step } from '#impl/port.ts';
import type { AlwaysLaw, Problem } from './law.ts';
import { Lockstep } from './lockstep.ts';
import { smallDomain, smallHeader } from './small.testing.ts';
import { clean } from './subject.ts';
import { workIsBounded } from './work.ts';

const ram = [0, 1].map((gfn) => ({ path: [gfn], order: 0 }));
const header = smallHeader([0, 1].map((id) => smallDomain(id, { ram })));

/** What the law says of a batch that is told to stop between its two elements, had it answered and logged this instead. */
function judged(answer: Reply, choice: Choice): Problem | undefined {
  let problem: Problem | undefined;
  const probe: AlwaysLaw = {
    ...workIsBounded,
    judge: (view) => {
      const { returned } = view;
      if (returned?.op.kind !== 'memory.decrease') return undefined;
      const log = returned.log.map((one) => (one.choice.kind === 'preempted' ? { ...one, choice } : one));
      problem = workIsBounded.judge({ ...view, returned: { ...returned, reply: answer, log } });
      return undefined;
    },
  };
  const run = new Lockstep({ subject: clean, header, settings: { laws: [probe] } });
  const extents = { by: 'value' as const, gfns: [{ path: [0] }, { path: [1] }] };
  run.apply({
    label: 1,
    agent: { kind: 'vcpu', domain: 1 as DomId, vcpu: 0 as VcpuId },
    op: { kind: 'memory.decrease', target: DOMID_SELF, extents, order: 0, start: { raw: 0 } },
    preempt: 1,
  });
  run.finish();
  expect(run.failure).toBeUndefined();
  return problem;
}

const between: Choice = { kind: 'preempted', done: 1 };
const within: Choice = { kind: 'preempted', within: { mfn: 3 as Mfn, index: 1, way: 'takes' } };

test('whoever is told to stop says so', () => {
  expect(judged(reply('preempted', { done: 1 }), between)).toBeUndefined();
});

test('whoever is told to stop between two elements neither finishes nor fails', () => {
  for (const status of ['ok', 'EINVAL'] as const)
    expect(judged(reply(status, { done: 1 }), between)).toMatchObject({ invariant: 'WORK' });
});

test('whoever is told to stop within a table may fail, and not finish', () => {
  expect(judged(reply('EINVAL', { done: 1 }), within)).toBeUndefined();
  expect(judged(reply('ok', { done: 1 }), within)).toMatchObject({ invariant: 'WORK' });
});

/** What becomes of a run in which every call of a vCPU goes round like this. */
function endless(round: (m: Machine) => Step<void>): string | undefined {
  class Stuck extends Machine {
    override start(call: Execution['call']): Execution {
      const execution = super.start(call);
      if (call.agent.kind !== 'vcpu') return execution;
      const body = (function* go(m: Machine): Step<Reply> {
        for (;;) yield* round(m);
      })(this);
      const stuck = new Execution(this.port, { call, slot: execution.slot, body, sequence: () => 1 });
      this.inFlight[execution.slot - 1] = stuck;
      return stuck;
    }
  }
  const run = new Lockstep({ subject: { name: 'stuck', create: (of) => new Stuck(of) }, header });
  const agent = { kind: 'vcpu' as const, domain: 1 as DomId, vcpu: 0 as VcpuId };
  run.apply({ label: 1, agent, op: { kind: 'memory.reservation', target: DOMID_SELF } });
  expect(run.failure?.law).toBe(workIsBounded.id);
  return run.failure?.sentence;
}

test('whoever never answers is stopped, whatever it does meanwhile', () => {
  expect(endless((m) => m.port.point('store', 'domain'))).toContain('acts');
  expect(
    endless(function* choose(m) {
      yield* m.port.point('store', 'domain');
      m.port.refuse('pool');
    }),
  ).toContain('choices');
  expect(
    endless(function* ask(m) {
      yield* m.port.point('store', 'domain');
      m.port.preempts(1);
    }),
  ).toContain('whether to stop');
});
