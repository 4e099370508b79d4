// What a listener leaves of a guest's memory: every kind of it, what gives way, what waits, what stops a guest, and what it does not concern.
// A first reader may skip it. Sources: Xen arch/x86/mm/mem_access.c, common/mem_access.c, arch/x86/hvm/hvm.c (hvm_hap_nested_page_fault).

import { describe, expect, test } from 'vitest';
import type { DomId, VcpuId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { p2mAccesses } from '#abi/hap.ts';
import type { MemoryOp } from '#abi/memory.ts';
import type { Op } from '#abi/operation.ts';
import type { Header } from '#abi/trace.ts';
import { Lockstep } from '../harness/lockstep.ts';
import { smallDomain, smallHeader } from '../harness/small.testing.ts';
import { clean } from '../harness/subject.ts';

const target = 1 as DomId;
/** The guest has gfns 0 to 3 as one superpage. */
const header: Header = {
  ...smallHeader([
    smallDomain(0, { ram: [{ path: [0], order: 0 }] }),
    smallDomain(1, { ram: [{ path: [0], order: 2 }] }),
  ]),
  superpages: true,
};

type Call = readonly [Agent, Op<'symbolic'>];
type Access = Extract<MemoryOp<'symbolic'>, { kind: 'memory.setMemAccess' }>['access'];

const toolstack = (op: Op<'symbolic'>): Call => [{ kind: 'toolstack' }, op];
const guest: Agent = { kind: 'vcpu', domain: target, vcpu: 0 as VcpuId };
const anew = { raw: 0 };

const listen = toolstack({ kind: 'memory.monitor', target, action: 'listens' });
const leave = toolstack({ kind: 'memory.monitor', target, action: 'stops listening' });
const demandListener = toolstack({ kind: 'memory.setAccessRequired', target, required: 'yes' });
const restrict = (access: Access, gfn = 1, count = 1): Call =>
  toolstack({ kind: 'memory.setMemAccess', target, scope: 'gfns', gfn: { raw: gfn }, count, access, start: anew });
const byDefault = (access: Access): Call =>
  toolstack({ kind: 'memory.setMemAccess', target, scope: 'default', gfn: anew, count: 0, access, start: anew });
const ask = (gfn = 1): Call => toolstack({ kind: 'memory.memAccess', target, scope: 'gfns', gfn: { raw: gfn } });
const code = (access: (typeof p2mAccesses)[number]): number => p2mAccesses.indexOf(access);

const at = (gfn: number, as: 'supervisor' | 'user' = 'supervisor') => ({
  gfn: { raw: gfn },
  offset: 0,
  size: 8,
  via: 0,
  as,
});
const read = (gfn = 1): Call => [guest, { kind: 'paging.read', ...at(gfn) }];
const fetch = (gfn = 1): Call => [guest, { kind: 'paging.fetch', ...at(gfn) }];
const write = (gfn = 1): Call => [guest, { kind: 'paging.write', ...at(gfn), value: { as: 'fresh' } }];

function run(calls: readonly Call[], on: Header = header): Lockstep {
  const lockstep = new Lockstep({ subject: clean, header: on });
  calls.forEach(([agent, op], label) => lockstep.apply({ label, agent, op }));
  lockstep.finish();
  expect(lockstep.failure).toBeUndefined();
  return lockstep;
}

/** What the callers hear; no law breaks. */
const statuses = (calls: readonly Call[], on?: Header): readonly (string | undefined)[] => {
  const lockstep = run(calls, on);
  return calls.map((_, label) => lockstep.replyOf(label)?.status);
};

/** What is left of gfn 1 in the end. */
function left(calls: readonly Call[], gfn = 1): number | undefined {
  const all = [...calls, listen, ask(gfn)];
  return run(all).replyOf(all.length - 1)?.out[0];
}

describe('with a listener', () => {
  test.each([
    ['n', 'ERESTART', 'ERESTART', 'ERESTART'],
    ['r', 'ok', 'ERESTART', 'ERESTART'],
    ['rw', 'ok', 'ok', 'ERESTART'],
    ['x', 'ERESTART', 'ERESTART', 'ok'],
    ['rx', 'ok', 'ERESTART', 'ok'],
    ['rwx', 'ok', 'ok', 'ok'],
    ['default', 'ok', 'ok', 'ok'],
    ['rx2rw', 'ok', 'ok', 'ERESTART'],
    ['n2rwx', 'ok', 'ok', 'ok'],
  ] as const)('of a gfn of which %s is left: a read is %s, then a write %s, then a fetch %s', (access, ...expected) => {
    expect(statuses([listen, restrict(access), read(), write(), fetch()]).slice(2)).toEqual(expected);
  });

  test('rx2rw gives way at a write, n2rwx at any use', () => {
    expect(left([listen, restrict('rx2rw'), read(), leave])).toBe(code('rx2rw'));
    expect(left([listen, restrict('rx2rw'), write(), leave])).toBe(code('rw'));
    expect(left([listen, restrict('n2rwx'), fetch(), leave])).toBe(code('rwx'));
  });

  test.each(['w', 'wx'] as const)('what leaves %s is malformed: its guest is stopped', (access) => {
    expect(statuses([listen, restrict(access), write(), read()]).slice(2)).toEqual(['ERESTART', 'gone']);
  });

  test('a user hears of an invalid opcode', () => {
    const use: Call = [guest, { kind: 'paging.read', ...at(1, 'user') }];
    expect(statuses([listen, restrict('wx'), use, read(2)]).slice(2)).toEqual(['invalidOpcode', 'ok']);
  });

  test('only what the type gives can be left', () => {
    const retype = toolstack({
      kind: 'memory.setMemType',
      target,
      gfn: { raw: 1 },
      count: 1,
      type: 'ramRo',
      start: anew,
    });
    expect(statuses([retype, listen, restrict('rw'), read(), write(), fetch()]).slice(3)).toEqual([
      'ok',
      'violation',
      'ERESTART',
    ]);
    // Read-only RAM of which w is left has no rights and is no malformed entry.
    expect(statuses([retype, listen, restrict('w'), write()]).slice(3)).toEqual(['violation']);
  });
});

describe('without a listener', () => {
  test('what was kept is given back at the first use of it', () => {
    expect(statuses([listen, restrict('n'), leave, read()])).toEqual(['ok', 'ok', 'ok', 'ok']);
    expect(left([listen, restrict('r'), leave, read()])).toBe(code('r'));
    expect(left([listen, restrict('r'), leave, write()])).toBe(code('rwx'));
  });

  test('a guest that requires one is stopped', () => {
    expect(statuses([listen, restrict('r'), leave, demandListener, read(), write(), read()]).slice(4)).toEqual([
      'ok',
      'ERESTART',
      'gone',
    ]);
    expect(left([listen, restrict('n2rwx'), leave, demandListener, read()])).toBe(code('rwx'));
  });

  test('nothing is set or told', () => {
    expect(statuses([restrict('r'), ask()])).toEqual(['ENODEV', 'ENODEV']);
  });
});

describe('where it meets other things', () => {
  test('a superpage is split for one gfn, and the others keep their rights', () => {
    expect(statuses([listen, restrict('n'), read(0), read(2), read()]).slice(2)).toEqual(['ok', 'ok', 'ERESTART']);
    expect(left([listen, restrict('r', 0, 4), leave], 3)).toBe(code('r'));
  });

  test('a log of writes keeps it, and forgets it where a write is noted', () => {
    const log = toolstack({ kind: 'memory.enableLogDirty', target });
    expect(statuses([listen, restrict('r'), log, read(), write()]).slice(3)).toEqual(['ok', 'ERESTART']);
    expect(left([listen, restrict('rw'), log, leave])).toBe(code('rw'));
    expect(left([listen, restrict('rw'), log, write(), leave])).toBe(code('rwx'));
  });

  test('what is on demand is populated first', () => {
    const mark = toolstack({ kind: 'memory.populateOnDemand', target, extents: { by: 'value', gfns: [{ raw: 4 }] }, order: 0, start: anew }); // prettier-ignore
    const pay = toolstack({ kind: 'memory.setPodTarget', target, pages: 5 });
    const calls = [mark, pay, listen, ask(4), restrict('r', 4), ask(4), write(4)];
    expect(statuses(calls).slice(3)).toEqual(['ESRCH', 'ok', 'ok', 'ERESTART']);
  });

  test('new entries leave what they leave by default', () => {
    const more = toolstack({ kind: 'memory.populate', target, extents: { by: 'value', gfns: [{ raw: 6 }] }, order: 0, start: anew }); // prettier-ignore
    expect(statuses([listen, byDefault('r'), more, read(6), write(6), write(1)]).slice(3)).toEqual([
      'ok',
      'ERESTART',
      'ok',
    ]);
  });

  test('calls find their memory all the same', () => {
    const list = { by: 'buffer', buffer: { in: 'guest', gfn: { raw: 1 }, offset: 0 }, count: 1 } as const;
    const call: Call = [guest, { kind: 'memory.decrease', target, extents: list, order: 0, start: anew }];
    expect(statuses([write(), listen, restrict('n'), call]).at(-1)).toBe('ENOENT');
  });
});

describe('who is refused', () => {
  test('the caller itself, domains that are not there, and everybody without privilege', () => {
    const of = (id: number, agent: Agent): Call => [
      agent,
      { kind: 'memory.memAccess', target: id as DomId, scope: 'default', gfn: anew },
    ];
    expect(statuses([of(0, { kind: 'toolstack' }), of(3, { kind: 'toolstack' }), of(1, guest)])).toEqual([
      'EPERM',
      'ESRCH',
      'EPERM',
    ]);
    expect(statuses([[guest, { kind: 'memory.memAccess', target: 0 as DomId, scope: 'default', gfn: anew }]])).toEqual([
      'EPERM',
    ]);
  });

  test('ranges beyond the highest gfn that was ever mapped, and empty ones', () => {
    expect(statuses([listen, restrict('r', 3, 2), restrict('r', 3, 0), ask(9)]).slice(1)).toEqual([
      'EINVAL',
      'EINVAL',
      'EINVAL',
    ]);
  });

  test('guests of AMD processors: their entries have no room', () => {
    const amd: Header = { ...header, vendor: 'amd' };
    expect(statuses([listen, restrict('r'), ask(), write()], amd)).toEqual(['ok', 'EINVAL', 'EINVAL', 'ok']);
  });

  test('a second listener, and one that is not there', () => {
    expect(statuses([leave, listen, listen])).toEqual(['EINVAL', 'ok', 'EBUSY']);
  });
});

test('a call that is preempted goes on at the stretch where it stopped', () => {
  const lockstep = new Lockstep({ subject: clean, header });
  const [agent, op] = restrict('rx', 0, 4);
  const [first, asking] = listen;
  lockstep.apply({ label: 0, agent: first, op: asking });
  expect(lockstep.apply({ label: 1, agent, op, preempt: 1 }).reply).toMatchObject({ status: 'preempted', done: 3 });
  const again = { ...op, start: { step: 1, index: 0 } } as Op<'symbolic'>;
  expect(lockstep.apply({ label: 2, agent, op: again }).reply).toMatchObject({ status: 'ok', done: 4 });
  lockstep.finish();
  expect(lockstep.failure).toBeUndefined();
});
