// Noninterference, tested on pairs of runs: worlds that differ only in what one domain holds and does on its own look equal
// to everybody else, until a flow that is allowed has happened. Allowed flows are data: each names the replies that open it.
// A first reader may skip `varied`, which makes the second world.

import type { DomId } from '#abi/address.ts';
import { callerOf } from '#abi/agents.ts';
import { invariants } from '#abi/invariants.ts';
import { mechanismOf, type Op } from '#abi/operation.ts';
import type { Reply } from '#abi/reply.ts';
import { isAct, type ActStep, type Step, type Trace } from '#abi/trace.ts';
import { describeReply } from '#abi/describe.ts';
import type { PairLaw, Problem } from './law.ts';
import { Lockstep, type StepResult } from './lockstep.ts';
import { replyDifference } from './replies.ts';
import type { Subject } from './subject.ts';

/** A completed operation as a flow sees it. */
interface Event {
  readonly op: Op<'concrete'>;
  readonly caller: DomId | undefined;
  readonly reply: Reply;
  readonly scrub: 'always' | 'dying';
}

/** A way in which what `secret` holds may come to others, with the sentence that justifies it. */
interface Flow {
  readonly because: string;
  readonly opens: (event: Event, secret: DomId) => boolean;
}

const isDone = ({ status, elements }: Reply): boolean =>
  status === 'ok' || status === 'preempted' || status === 'okay' || elements.some((one) => one.status === 'okay');

const names = (op: Op<'concrete'>, domain: DomId): boolean =>
  'elements' in op &&
  op.elements.some(
    (element) =>
      ('domain' in element && element.domain === domain) ||
      ('sourceDomain' in element && (element.sourceDomain === domain || element.destDomain === domain)),
  );

/** Every declassification that the interface provides. */
export const flows: readonly Flow[] = [
  {
    because: 'a grant lets the named domain reach the frame',
    opens: ({ op, caller, reply }, secret) =>
      (op.kind === 'grants.map' || op.kind === 'grants.copy') &&
      isDone(reply) &&
      (caller === secret || names(op, secret)),
  },
  {
    because: 'the control domain may map frames of any domain',
    opens: ({ op, reply }, secret) =>
      op.kind === 'memory.addToPhysmap' && op.space === 'gmfnForeign' && isDone(reply) && op.foreign === secret,
  },
  {
    because: 'a living domain that gives memory back unscrubbed has erased it itself',
    opens: ({ op, caller, scrub }, secret) =>
      scrub === 'dying' &&
      (op.kind === 'memory.decrease' || op.kind === 'memory.addToPhysmap') &&
      (op.target === secret || caller === secret),
  },
  {
    because: 'arguments of management calls on a domain depend on what it is',
    opens: ({ op, caller }, secret) =>
      'target' in op && op.target === secret && caller !== secret && caller !== undefined,
  },
];

const isBy = (step: Step, domain: DomId): step is ActStep =>
  isAct(step) && step.agent.kind === 'vcpu' && step.agent.domain === domain;

/** A world in which `secret` writes other words and looks at its memory more often. Labels of others stay. */
export function varied(trace: Trace, secret: DomId): Trace {
  const last = Math.max(0, ...trace.steps.map(({ label }) => label));
  const steps = trace.steps.flatMap((step, i): readonly Step[] => {
    if (!isBy(step, secret)) return [step];
    const { op } = step;
    const isTag = op.kind === 'paging.write' && op.value.as === 'fresh' && op.size === 8;
    if (isTag) return [{ ...step, op: { ...op, value: { as: 'word', lo: 0xfeed_0000 + i, hi: 0xbeef_0000 + i } } }];
    return op.kind === 'paging.read' && step.pause === undefined ? [step, { ...step, label: last + 1 + i }] : [step];
  });
  return { ...trace, steps };
}

const eventOf = (step: ActStep, { op, reply }: StepResult, trace: Trace): Event | undefined =>
  op === undefined || reply === undefined
    ? undefined
    : { op, reply, caller: callerOf(step.agent), scrub: trace.header.scrub };

const observes = (step: ActStep, secret: DomId): boolean =>
  callerOf(step.agent) !== secret && step.agent.kind !== 'fate';

function difference(step: ActStep, a: Reply, b: Reply): Problem | undefined {
  const part = replyDifference(a, b);
  if (part === undefined) return undefined;
  return {
    invariant: 'LEAK',
    mechanism: mechanismOf(step.op.kind),
    field: `pair.${part}`,
    sentence: `the reply to step ${step.label} tells (${part}) what another domain holds`,
    expected: describeReply(a),
    actual: describeReply(b),
  };
}

/** The first reply to anybody but `secret` that differs between two worlds although no flow was open. */
export function pairProblem(subject: Subject, trace: Trace, secret: DomId): Problem | undefined {
  const other = varied(trace, secret);
  const known = new Set(trace.steps.map(({ label }) => label));
  const one = new Lockstep({ subject, header: trace.header, settings: { laws: [] } });
  const two = new Lockstep({ subject, header: other.header, settings: { laws: [] } });
  let next = 0;
  for (const step of trace.steps) {
    const a = one.apply(step);
    let b: StepResult = { kind: 'skipped' };
    // Extra steps of the second world come after the step they repeat.
    for (let isSame = false; !isSame; next += 1) {
      const twin = other.steps[next];
      if (twin === undefined) break;
      isSame = twin.label === step.label;
      const result = two.apply(twin);
      if (isSame) b = result;
    }
    while (next < other.steps.length && !known.has(other.steps[next]?.label ?? -1)) {
      two.apply(other.steps[next] as Step);
      next += 1;
    }
    if (!isAct(step) || step.pause !== undefined) continue;
    if (observes(step, secret) && a.reply !== undefined && b.reply !== undefined) {
      const problem = difference(step, a.reply, b.reply);
      if (problem !== undefined) return problem;
    }
    const event = eventOf(step, a, trace);
    if (event !== undefined && flows.some(({ opens }) => opens(event, secret))) return undefined;
  }
  return undefined;
}

/** Every guest of the header is the secret once. */
export const strangersLookAlike: PairLaw = {
  kind: 'pair',
  id: 'harness/strangersLookAlike',
  invariant: 'LEAK',
  statement: `${invariants.LEAK} Worlds that differ only in what one guest holds look equal to all others, up to allowed flows.`,
  judge: (trace, subject) => {
    for (const { id, kind } of trace.header.domains) {
      if (kind !== 'hvm') continue;
      const problem = pairProblem(subject, trace, id);
      if (problem !== undefined) return problem;
    }
    return undefined;
  },
};
