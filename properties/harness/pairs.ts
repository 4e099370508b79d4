// Noninterference, tested on pairs of runs: worlds that differ only in what one domain holds and does on its own look equal
// to everybody else. Allowed flows are data: each names the calls that open it. What a flow shows are words; from then on
// words are not compared any more, but all the rest of every reply is. Calls of managers are no flow: whatever they are told
// about a domain does not depend on what it holds.
// A first reader may skip `varied`, which makes the second world, and `Pair`, which drives both.

import type { DomId } from '#abi/address.ts';
import { callerOf, hearsReplies } from '#abi/agents.ts';
import { invariants } from '#abi/invariants.ts';
import { mechanismOf, type Op } from '#abi/operation.ts';
import { reply, replyObservers, type Reply } from '#abi/reply.ts';
import { isAct, type ActStep, type Step, type Trace } from '#abi/trace.ts';
import { describeReply } from '#abi/describe.ts';
import type { Label } from '#abi/operand.ts';
import { freshTag, LABEL_MAX } from '#abi/tags.ts';
import type { PairLaw, Problem } from './law.ts';
import { Lockstep } from './lockstep.ts';
import { replyDifference } from './replies.ts';
import type { Subject } from './subject.ts';

/** A completed operation as a flow sees it. */
interface Event {
  readonly op: Op<'concrete'>;
  readonly caller: DomId | undefined;
  readonly reply: Reply;
  readonly scrub: 'always' | 'dying';
}

/** A way in which words that `secret` holds may come to others, with the sentence that justifies it. */
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

/** Every declassification that the interface provides. Replies to management calls on the secret are none. */
export const flows: readonly Flow[] = [
  {
    because: 'a grant lets the named domain reach the frame',
    opens: ({ op, caller, reply }, secret) =>
      (op.kind === 'grants.map' || op.kind === 'grants.copy') &&
      // A status that could not be written does not undo what it was about.
      (isDone(reply) || reply.status === 'EFAULT') &&
      (caller === secret || names(op, secret)),
  },
  {
    because: 'the control domain may map frames of any domain',
    opens: ({ op, reply }, secret) =>
      (op.kind === 'memory.addToPhysmap' || op.kind === 'memory.addBatch') &&
      op.space === 'gmfnForeign' &&
      (op.kind === 'memory.addBatch' || isDone(reply)) &&
      op.foreign === secret,
  },
  {
    because: 'a living domain that gives memory back unscrubbed has erased it itself',
    opens: ({ op, caller, scrub }, secret) =>
      scrub === 'dying' &&
      (op.kind === 'memory.decrease' ||
        op.kind === 'memory.addToPhysmap' ||
        op.kind === 'memory.addRange' ||
        op.kind === 'memory.addBatch') &&
      (op.target === secret || caller === secret),
  },
];

/** Arguments that lie in memory: once words of the secret were shown they can be among them, and steer the call. */
const isSteered = (op: Op<'concrete'>): boolean =>
  // An address can be linear, and the tables that it goes by be memory that was shown.
  'via' in op ||
  mechanismOf(op.kind) === 'grants' ||
  ('extents' in op && op.extents.by === 'buffer') ||
  ('given' in op && (op.given.by === 'buffer' || op.taken.by === 'buffer')) ||
  ('indices' in op && (op.indices.by === 'buffer' || op.gfns.by === 'buffer'));

const isBy = (step: Step, domain: DomId): step is ActStep =>
  isAct(step) && step.agent.kind === 'vcpu' && step.agent.domain === domain;

type Store = Extract<Op<'symbolic'>, { readonly kind: 'paging.write' | 'paging.compareExchange' }>;

/** Whether a store writes a whole word that means nothing to anybody: as an entry or a gfn every such tag is alike. */
const isTag = (op: Op<'symbolic'>): op is Store =>
  (op.kind === 'paging.write' || op.kind === 'paging.compareExchange') &&
  op.value.as === 'fresh' &&
  op.size === 8 &&
  op.offset % 8 === 0;

/** A world in which `secret` writes other tags and looks at its memory more often. Labels of others stay. */
export function varied(trace: Trace, secret: DomId): Trace {
  const last = Math.max(0, ...trace.steps.map(({ label }) => label));
  const steps = trace.steps.flatMap((step, i): readonly Step[] => {
    if (!isBy(step, secret)) return [step];
    const { op } = step;
    if (isTag(op)) return [{ ...step, op: { ...op, value: { as: 'word', ...freshTag(LABEL_MAX - step.label, i) } } }];
    return op.kind === 'paging.read' && step.pause === undefined ? [step, { ...step, label: last + 1 + i }] : [step];
  });
  return { ...trace, steps };
}

const observes = ({ agent }: ActStep, secret: DomId): boolean => callerOf(agent) !== secret && hearsReplies[agent.kind];

/** Parts of a reply that nobody observes say nothing. */
const unheard = Object.fromEntries(
  Object.entries(reply('ok')).filter(([part]) => replyObservers[part as keyof Reply] === 'nobody'),
);

const heard = (answer: Reply): Reply => ({ ...answer, ...unheard });

const wordless = (answer: Reply): Reply => ({ ...heard(answer), words: [] });

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

/** What comparing two worlds came to. */
export interface Comparison {
  readonly problem: Problem | undefined;
  /** Replies to others than the secret that were compared, and how many of them with their words. */
  readonly compared: number;
  readonly whole: number;
}

interface Call {
  readonly step: ActStep;
  readonly op: Op<'concrete'>;
}

/** Two worlds side by side. */
class Pair {
  readonly #trace: Trace;
  readonly #other: Trace;
  readonly #secret: DomId;
  readonly #one: Lockstep;
  readonly #two: Lockstep;
  /** Steps of the second world that are done. */
  #next = 0;
  /** Calls without an answer in both worlds. */
  readonly #open = new Map<Label, Call>();
  /** Whether words of the secret may have been shown. */
  #shown = false;
  /** Whether what was shown has steered a call: nothing is comparable any more. */
  #over = false;
  compared = 0;
  whole = 0;

  constructor(subject: Subject, trace: Trace, secret: DomId) {
    this.#trace = trace;
    this.#other = varied(trace, secret);
    this.#secret = secret;
    const settings = { laws: [] };
    this.#one = new Lockstep({ subject, header: trace.header, settings });
    this.#two = new Lockstep({ subject, header: this.#other.header, settings });
  }

  /** The first difference that no flow explains. */
  run(): Problem | undefined {
    const known = new Set(this.#trace.steps.map(({ label }) => label));
    for (const step of this.#trace.steps) {
      const { op } = this.#one.apply(step);
      this.#follow(step.label, known);
      if (isAct(step) && op !== undefined) this.#called(step, op);
      const problem = this.#compare();
      if (problem !== undefined || this.#over) return problem;
    }
    return this.#finish();
  }

  /** A call that opens a flow if it succeeds may show something before it returns. */
  #called(step: ActStep, op: Op<'concrete'>): void {
    const result = this.#one.replyOf(step.label) ?? reply('ok');
    const event = { op, reply: result, caller: callerOf(step.agent), scrub: this.#trace.header.scrub };
    this.#open.set(step.label, { step, op });
    this.#shown ||= flows.some(({ opens }) => opens(event, this.#secret));
  }

  /** The second world comes up to the same step, and goes on to what it has in addition. */
  #follow(label: Label, known: ReadonlySet<Label>): void {
    const { steps } = this.#other;
    for (let isSame = false; this.#next < steps.length; this.#next += 1) {
      const twin = steps[this.#next] as Step;
      if (isSame && known.has(twin.label)) return;
      this.#two.apply(twin);
      isSame ||= twin.label === label;
    }
  }

  /** Those still paused run to their end, in starting order. */
  #finish(): Problem | undefined {
    const labels = [...this.#open.keys()];
    for (const label of labels) {
      for (const run of [this.#one, this.#two]) run.apply({ label: Infinity, resume: label });
      const problem = this.#compare();
      if (problem !== undefined || this.#over) return problem;
    }
    return undefined;
  }

  /** Compares every reply that has come in both worlds since the last time. */
  #compare(): Problem | undefined {
    for (const [label, call] of this.#open) {
      const a = this.#one.replyOf(label);
      const b = this.#two.replyOf(label);
      if (a === undefined || b === undefined) continue;
      this.#open.delete(label);
      if (!observes(call.step, this.#secret)) continue;
      this.compared += 1;
      if (!this.#shown) this.whole += 1;
      const problem = this.#shown
        ? difference(call.step, wordless(a), wordless(b))
        : difference(call.step, heard(a), heard(b));
      this.#over = problem !== undefined && this.#shown && isSteered(call.op);
      if (problem !== undefined) return this.#over ? undefined : problem;
    }
    return undefined;
  }
}

/** Compares two worlds that differ in `secret` alone. */
export function comparison(subject: Subject, trace: Trace, secret: DomId): Comparison {
  const pair = new Pair(subject, trace, secret);
  const problem = pair.run();
  return { problem, compared: pair.compared, whole: pair.whole };
}

/** Every guest of the header is the secret once. */
export const strangersLookAlike: PairLaw = {
  kind: 'pair',
  id: 'harness/strangersLookAlike',
  invariant: 'LEAK',
  statement: `${invariants.LEAK} Worlds that differ only in what one guest holds look equal to all others, up to allowed flows.`,
  judge: (trace, subject) => {
    for (const { id, kind } of trace.header.domains) {
      if (kind === 'control') continue;
      const { problem } = comparison(subject, trace, id);
      if (problem !== undefined) return problem;
    }
    return undefined;
  },
};
