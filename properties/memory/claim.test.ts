// Claims of frames: who may make them, what they keep from others, and how they go.
// A first reader may skip it. Sources: Xen common/page_alloc.c (domain_set_outstanding_pages, alloc_heap_pages), common/memory.c.

import { describe, expect, test } from 'vitest';
import type { DomId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { geometries } from '#abi/geometry.ts';
import type { Op } from '#abi/operation.ts';
import { freeFrames } from '#model/claims.ts';
import { Lockstep } from '../harness/lockstep.ts';
import { smallDomain, smallHeader } from '../harness/small.testing.ts';
import { clean } from '../harness/subject.ts';

const header = smallHeader([0, 1, 2].map((id) => smallDomain(id, { ram: [{ path: [0], order: 0 }] })));

type Call = readonly [Agent, Op<'symbolic'>];

const toolstack = (op: Op<'symbolic'>): Call => [{ kind: 'toolstack' }, op];
const anew = { raw: 0 };
const limit = (id: number, maxPages: number): Call =>
  toolstack({ kind: 'memory.setMaxPages', target: id as DomId, maxPages });
const claim = (id: number, pages: number): Call => toolstack({ kind: 'memory.claimPages', target: id as DomId, pages });
const more = (id: number, count: number, order = 0): Call =>
  toolstack({ kind: 'memory.increase', target: id as DomId, count, order, start: anew });
const kill = (id: number): Call => toolstack({ kind: 'memory.killDomain', target: id as DomId });

function run(calls: readonly Call[]): Lockstep {
  const lockstep = new Lockstep({ subject: clean, header });
  calls.forEach(([agent, op], label) => lockstep.apply({ label, agent, op }));
  lockstep.finish();
  expect(lockstep.failure).toBeUndefined();
  return lockstep;
}

const statuses = (calls: readonly Call[]): readonly (string | undefined)[] => {
  const lockstep = run(calls);
  return calls.map((_, label) => lockstep.replyOf(label)?.status);
};

const claimOf = (id: number, calls: readonly Call[]): number | undefined => run(calls).state.domains.get(id)?.claim;

/** Frames that are free in the beginning: a domain that has one page and claims all of them will have one more. */
const free = freeFrames(run([]).state);
const roomy = [limit(1, 200), limit(2, 200)];

test('there is a heap worth claiming', () => {
  expect(free).toBeGreaterThan(16);
  expect(free).toBeLessThan(geometries.tiny.frameCount);
});

describe('a claim', () => {
  test('is of what is not there yet, and shrinks as that is taken', () => {
    expect(claimOf(1, [claim(1, 5)])).toBe(4);
    expect(claimOf(1, [claim(1, 5), more(1, 2)])).toBe(2);
    expect(claimOf(1, [claim(1, 3), more(1, 4)])).toBe(0);
  });

  test('does not grow as pages are given back', () => {
    const back = toolstack({ kind: 'memory.decrease', target: 1 as DomId, extents: { by: 'value', gfns: [{ raw: 0 }] }, order: 0, start: anew }); // prettier-ignore
    expect(claimOf(1, [claim(1, 5), back])).toBe(4);
  });

  test('is given up by claiming nothing, and with its domain', () => {
    expect(claimOf(1, [claim(1, 5), claim(1, 0)])).toBe(0);
    expect(statuses([...roomy, claim(1, 1 + free), claim(2, 3), kill(1), claim(2, 3)]).slice(3)).toEqual([
      'ENOMEM',
      'ok',
      'ok',
    ]);
  });

  test('is refused twice, for what is there already, beyond the limit, and beyond what is free', () => {
    expect(statuses([claim(1, 5), claim(1, 6)])).toEqual(['ok', 'EINVAL']);
    expect(statuses([claim(1, 1), claim(1, 9), claim(3, 1)])).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
    expect(statuses([...roomy, claim(1, 2 + free), claim(1, 1 + free)]).slice(2)).toEqual(['ENOMEM', 'ok']);
  });

  test('is for the control domain to make', () => {
    const guest: Agent = { kind: 'vcpu', domain: 1 as DomId, vcpu: 0 as never };
    expect(statuses([[guest, { kind: 'memory.claimPages', target: 1 as DomId, pages: 5 }]])).toEqual(['EPERM']);
  });
});

describe('what is claimed', () => {
  test('is kept from other domains and from the hypervisor, and not from who claimed it', () => {
    const grow = toolstack({ kind: 'memory.setPool', target: 2 as DomId, frames: 9 });
    expect(statuses([...roomy, claim(1, 1 + free), more(2, 1), grow, more(1, 4)]).slice(3)).toEqual([
      'ENOMEM',
      'ENOMEM',
      'ok',
    ]);
  });

  test('does not keep the rest from anybody', () => {
    expect(statuses([...roomy, claim(1, free - 1), more(2, 2), more(2, 1)]).slice(3)).toEqual(['ok', 'ENOMEM']);
  });

  test('does not serve a request that is larger than the claim', () => {
    expect(statuses([...roomy, claim(1, 2), claim(2, free), more(1, 1, 1), more(1, 1)]).slice(2)).toEqual([
      'ok',
      'ok',
      'ENOMEM',
      'ok',
    ]);
  });
});
