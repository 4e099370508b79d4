// Marks that a run leaves when an interesting state is reached. `sometimes` laws are about them: a mark that no run of the
// budget leaves fails the suite, for then some law has been judged over nothing.
//
//   returned:<operation>:<status>      an operation came to this end
//   paused:<class>:<object>            an operation was paused before such an act
//   overtaken:<class>:<object>         another agent completed an operation on a shared domain meanwhile
//   answered:<leaf|structure>          an access was answered from an entry whose table had changed
//   linear:<what>                      what happened to a vCPU with paging on (paging/linear-marks.ts)
//   asid:<renewed|round|wrapped|stale>  what happened to ASIDs (tlb/asids.ts)
//   moment:<law>                       an operation came back that shows what the law is about (moments.ts)
//   only:<reason>                      nothing but this reason of `authority` justified a way to a frame

import { DOMID_INVALID, DOMID_SELF } from '#abi/address.ts';
import { bytesPerFrame } from '#abi/geometry.ts';
import { callerOf, type Agent } from '#abi/agents.ts';
import type { Op, OpKind } from '#abi/operation.ts';
import type { ObjectKind, PointClass } from '#abi/points.ts';
import type { Status } from '#abi/reply.ts';
import { linearContext } from '#model/paging/context.ts';
import { entryOf, placeOfVcpu } from '#model/state.ts';
import { linearMarks } from '../paging/linear-marks.ts';
import { moments } from './moments.ts';
import type { Reach } from './reach.ts';
import { lastAttempt, type Returned } from './view.ts';

interface Paused {
  readonly agent: Agent;
  readonly op: Op<'concrete'>;
  readonly at: { readonly class: PointClass; readonly object: ObjectKind };
}

/** The domains that an operation is about, its caller's own among them. */
export const domainsNamed = (agent: Agent, op: Op<'concrete'> | Op<'symbolic'>): ReadonlySet<number> => {
  const named = new Set<number>();
  const self = callerOf(agent) ?? DOMID_INVALID;
  if ('domain' in agent) named.add(agent.domain);
  if ('target' in op) named.add(op.target);
  if ('owner' in op) named.add(op.owner);
  if ('elements' in op)
    for (const element of op.elements) {
      if ('domain' in element) named.add(element.domain);
      if ('sourceDomain' in element) named.add(element.sourceDomain).add(element.destDomain);
    }
  if (named.delete(DOMID_SELF)) named.add(self);
  return named;
};

/** The marks of one run; mutable, owned by it. */
export class Marks {
  readonly seen = new Set<string>();
  /** How operations have ended so far, so that a mark is made up once. */
  readonly #ends = new Map<OpKind, Set<Status>>();

  add(mark: string): void {
    this.seen.add(mark);
  }

  /** An operation stands before an act. */
  paused({ at }: Paused): void {
    this.add(`paused:${at.class}:${at.object}`);
  }

  /** An operation has returned, perhaps while others stand paused. */
  returned(returned: Returned, run: { readonly reach: Reach; readonly flights: readonly Paused[] }): void {
    const { agent, op, reply } = returned;
    this.#ended(op.kind, reply.status);
    for (const { status } of reply.elements) this.#ended(op.kind, status);
    const isDone = reply.status === 'ok' || reply.status === 'okay';
    if (run.flights.length > 0 && isDone) this.#overtaken(domainsNamed(agent, op), run.flights);
    if (reply.status === 'ok' && 'via' in op) this.#answered(returned, run.reach);
    for (const mark of linearMarks(returned)) this.add(mark);
    for (const { mark, isShown } of moments) if (!this.seen.has(mark) && isShown(returned)) this.add(mark);
  }

  #ended(kind: OpKind, status: Status): void {
    let statuses = this.#ends.get(kind);
    if (statuses === undefined) this.#ends.set(kind, (statuses = new Set()));
    if (statuses.has(status)) return;
    statuses.add(status);
    this.add(`returned:${kind}:${status}`);
  }

  #overtaken(named: ReadonlySet<number>, flights: readonly Paused[]): void {
    for (const { agent, op, at } of flights)
      for (const domain of domainsNamed(agent, op))
        if (named.has(domain)) {
          this.add(`overtaken:${at.class}:${at.object}`);
          this.add(`overtaken:${at.class}`);
        }
  }

  /** Whether a cached answer was no longer what the P2M says. `reach` is as it was before the access. */
  #answered({ agent, op, before, log }: Returned, reach: Reach): void {
    if (agent.kind !== 'vcpu' || !('via' in op) || linearContext(before, agent) !== undefined) return;
    const size = bytesPerFrame(before.geometry);
    const first = op.gfn + Math.floor(op.offset / size);
    let piece = 0;
    for (const { choice } of lastAttempt(log)) {
      if (choice.kind !== 'cached' && choice.kind !== 'walked') continue;
      const gfn = first + piece;
      piece += 1;
      if (choice.kind === 'walked') continue;
      const pcpu = placeOfVcpu(before, agent.domain, agent.vcpu);
      const ways = [...reach.cachedOf(choice.mfn)].filter(
        (one) => one.pcpu === pcpu && one.gfn + (choice.mfn - one.mfn) === gfn,
      );
      // Reach follows an upper entry only if its table is no longer linked where it was.
      const isLeaf = ways.some(({ kind }) => kind === 'leaf');
      if (!isLeaf && ways.length > 0) this.add('answered:structure');
      if (isLeaf && entryOf(before, agent.domain, gfn)?.mfn !== choice.mfn) this.add('answered:leaf');
    }
  }
}
