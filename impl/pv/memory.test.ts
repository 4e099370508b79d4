// Memory of paravirtual guests: how they come by it, how they lose it, what of others' they cannot have, how they end. Directed.
// A first reader may skip nothing.

import { describe, expect, it } from 'vitest';
import type { DomId, Gfn, Mfn } from '#abi/address.ts';
import { DOMID_SELF } from '#abi/address.ts';
import type { Op } from '#abi/operation.ts';
import { domStages, domStates } from '../layout.ts';
import { bits, DOM, Guest, KEY, LEAVES, machine, MIDDLE, OTHER_ROOT, ROOT, toolstack, vcpu } from './guest.testing.ts';

const values = (...gfns: readonly number[]) => ({ by: 'value', gfns: gfns.map((gfn) => gfn as Gfn) }) as const;

const decrease = (target: DomId, ...mfns: readonly number[]): Op<'concrete'> => ({ kind: 'memory.decrease', target, extents: values(...mfns), order: 0, start: 0 }); // prettier-ignore

describe('memory', () => {
  it('comes with the names that it was asked for by', () => {
    const guest = Guest.running();
    const { reply } = guest.does(vcpu, { kind: 'memory.populate', target: DOMID_SELF, extents: values(40), order: 2, start: 0 }); // prettier-ignore
    expect([reply.status, [40, 41, 42, 43].map((frame) => guest.mfn(frame) - guest.mfn(40))]).toEqual(['ok', [0, 1, 2, 3]]); // prettier-ignore
  });

  const array = (gfn: number, offset: number, count = 1) => ({ by: 'buffer', buffer: { in: 'guest', gfn: gfn as Gfn, offset }, count }) as const; // prettier-ignore

  it.each<readonly [status: string, page: number, offset: number]>([
    ['ok', 3, 8],
    // Across two pages; a page that cannot be written; one that is not there; the hole; the hypervisor's part; no address.
    ['ok', 2, 28],
    ['EFAULT', 1, 0],
    ['EFAULT', 9, 0],
    ['EFAULT', 31, 28],
    ['EFAULT', 32, 0],
    ['EFAULT', 2 ** 52 - 32, 0],
    ['EFAULT', 2 ** 52 - 17, 28],
    ['EFAULT', 2 ** 52 - 16, 0],
  ])('is told of where the kernel has its list: %s at page %i + %i', (status, page, offset) => {
    const guest = new Guest();
    guest.word(LEAVES, 1, 1, { lo: bits.P + bits.U });
    guest.setContext(ROOT);
    guest.schedule(0, 0);
    guest.m.f.vcpuUserRoot.set(KEY, 0);
    const populate: Op<'concrete'> = { kind: 'memory.populate', target: DOMID_SELF, extents: array(page, offset), order: 0, start: 0 }; // prettier-ignore
    expect(guest.by(vcpu, populate).status).toBe(status);
  });

  it('is told of by what the processor remembers, and marks what it reads', () => {
    const guest = Guest.running();
    guest.write(3);
    guest.word(LEAVES, 3, 2);
    const { reply, how } = guest.does(vcpu, { kind: 'memory.populate', target: DOMID_SELF, extents: array(3, 0), order: 0, start: 0 }); // prettier-ignore
    expect([reply.status, how.filter((one) => one === 'combined').length]).toEqual(['ok', 2]);
    expect(guest.m.f.memory.get(8 * guest.mfn(2))).toBe(0);
  });

  const exchange = (parts: Partial<Extract<Op<'concrete'>, { kind: 'memory.exchange' }>>): Op<'concrete'> => ({ kind: 'memory.exchange', target: DOMID_SELF, given: values(), givenOrder: 0, taken: values(), takenOrder: 0, start: 0, before: 0, ...parts }); // prettier-ignore

  it('is exchanged for other frames, which are called as the guest says', () => {
    const guest = Guest.running({ flush: 'lazy' });
    const [old, total] = [guest.mfn(9), guest.m.f.domTotalPages.get(DOM)];
    expect(guest.by(vcpu, exchange({ given: values(old), taken: values(33) })).status).toBe('ok');
    expect([guest.mfn(33) === old, guest.m.f.domTotalPages.get(DOM)]).toEqual([false, total]);
    expect([guest.refs(33), guest.typed(33), guest.m.f.frameOwner.get(old)]).toEqual([1, 'none 0', 0]);
  });

  it('is exchanged in larger pieces or smaller ones, chunk by chunk', () => {
    const guest = Guest.running();
    const fours = () => guest.by(vcpu, exchange({ given: values(...[8, 9, 10, 11].map((one) => guest.mfn(one))), taken: values(40), takenOrder: 2 })); // prettier-ignore
    expect([fours().status, [41, 42, 43].map((frame) => guest.mfn(frame) - guest.mfn(40))]).toEqual(['ok', [1, 2, 3]]);
    const first = guest.mfn(40);
    const back = exchange({ given: values(first), givenOrder: 2, taken: values(8, 9, 10, 11) });
    expect([guest.by(vcpu, back).status, [8, 9, 10, 11].every((frame) => guest.refs(frame) === 1)]).toEqual(['ok', true]); // prettier-ignore
    const two = exchange({ given: values(guest.mfn(8), guest.mfn(9)), taken: values(50, 51) });
    expect(guest.does(vcpu, two, 1).reply).toMatchObject({ status: 'preempted', done: 1 });
  });

  it.each<readonly [status: string, done: number, parts: (guest: Guest) => Parameters<typeof exchange>[0]]>([
    ['EINVAL', 0, (guest) => ({ given: values(guest.mfn(3)), taken: values(33) })],
    ['EINVAL', 0, (guest) => ({ given: values(guest.m.f.domSharedInfo.get(DOM)), taken: values(33) })],
    ['EINVAL', 0, () => ({ given: values(96), taken: values(33) })],
    ['EINVAL', 1, (guest) => ({ given: values(guest.mfn(9), guest.mfn(9)), taken: values(33, 34) })],
    ['EINVAL', 0, (guest) => ({ given: values(guest.mfn(9)), taken: values(33, 34) })],
    ['EINVAL', 2, (guest) => ({ given: values(guest.mfn(9)), taken: values(33), start: 2 })],
    ['ok', 1, (guest) => ({ given: values(guest.mfn(9)), taken: values(33), start: 1 })],
    ['EPERM', 0, (guest) => ({ given: values(guest.mfn(9)), givenOrder: 3, taken: values(33), takenOrder: 3 })],
    ['E2BIG', 0, () => ({ given: values(0, 0, 0, 0, 0, 0, 0), taken: values(0, 0, 0, 0, 0, 0, 0) })],
    ['EFAULT', 0, () => ({ given: array(2 ** 52 - 17, 0), taken: values(0) })],
    ['EFAULT', 0, () => ({ given: array(2 ** 52 - 16, 0, 0), before: 1 })],
    ['EFAULT', 0, (guest) => ({ given: values(guest.mfn(9)), taken: array(9, 0) })],
    ['EINVAL', 0, () => ({ given: values(0), taken: values(0), givenOrder: 1, takenOrder: 1, before: 1 })],
  ])('is exchanged on conditions: %s after %i', (status, done, parts) => {
    const guest = Guest.running();
    const total = guest.m.f.domTotalPages.get(DOM);
    const reply = guest.by(vcpu, exchange(parts(guest)));
    expect([reply.status, reply.done, guest.m.f.domTotalPages.get(DOM)]).toEqual([status, done, total]);
  });

  it('is not taken from who has come by the same id', () => {
    const guest = Guest.running();
    const given = values(guest.mfn(9), guest.mfn(10));
    const call = guest.m.start({ agent: toolstack, op: exchange({ target: DOM, given, taken: values(33, 34) }) });
    let references = 0;
    call.run(() => guest.m.port.pointClass === 'reference' && (references += 1) === 3);
    guest.by(toolstack, { kind: 'memory.killDomain', target: DOM });
    expect(guest.by(toolstack, { kind: 'memory.createDomain', target: DOM, vcpus: 1, maxPages: 99, grantFrames: 0, guest: 'hvm' }).status).toBe('ok'); // prettier-ignore
    guest.by(toolstack, { kind: 'memory.increase', target: DOM, count: 6, order: 2, start: 0 });
    guest.by(toolstack, { kind: 'memory.increase', target: DOM, count: 6, order: 2, start: 0 });
    expect(call.run()).toMatchObject({ reply: { status: 'EINVAL', done: 1 } });
  });

  it('is given back if there is none to be had for it; of a dying guest it is freed', () => {
    const failures = [{ class: 'heap', nth: 1 }] as const;
    const guest = Guest.running();
    const [old, total] = [guest.mfn(9), guest.m.f.domTotalPages.get(DOM)];
    const op = exchange({ target: DOM, given: values(old), taken: values(33) });
    const refused = guest.m.start({ agent: vcpu, op, failures });
    expect(refused.run()).toMatchObject({ reply: { status: 'ENOMEM', done: 0 } });
    guest.m.finish(refused);
    expect([guest.refs(9), guest.m.f.frameOwner.get(old), guest.m.f.domTotalPages.get(DOM)]).toEqual([
      1,
      DOM + 1,
      total,
    ]);
    const call = guest.m.start({ agent: toolstack, op, failures });
    call.run(() => guest.m.port.pointClass === 'allocate');
    guest.by(toolstack, { kind: 'memory.killDomain', target: DOM });
    expect([guest.m.f.domTotalPages.get(DOM), domStates[guest.m.f.domState.get(DOM)]]).toEqual([1, 'dead']);
    expect(call.run()).toMatchObject({ reply: { status: 'ENOMEM' } });
    expect([guest.m.f.frameOwner.get(old), domStates[guest.m.f.domState.get(DOM)]]).toEqual([0, 'none']);
  });

  it('is named in the buffer of who asks for it', () => {
    const guest = new Guest();
    guest.by(toolstack, { kind: 'memory.setPool', target: 0 as DomId, frames: 8 });
    guest.by(toolstack, { kind: 'memory.populate', target: 0 as DomId, extents: values(5), order: 0, start: 0 });
    const at = guest.m.f.memory;
    const own = [...Array(96).keys()].find((mfn) => guest.m.f.m2p.getWide(mfn) === 6 && guest.m.f.frameOwner.get(mfn) === 1) ?? 0; // prettier-ignore
    at.set(8 * own + 2, 50);
    const buffer = { in: 'guest', gfn: 5 as Gfn, offset: 8 } as const;
    const populate: Op<'concrete'> = { kind: 'memory.populate', target: DOM, extents: { by: 'buffer', buffer, count: 1 }, order: 0, start: 0 }; // prettier-ignore
    expect([guest.by(toolstack, populate).status, at.get(8 * own + 2)]).toEqual(['ok', guest.mfn(50)]);
    const failing = guest.m.start({ agent: toolstack, op: { ...populate, extents: { by: 'buffer', buffer, count: 1 } }, failures: [{ class: 'copyBack', nth: 1 }] }); // prettier-ignore
    expect(failing.run()).toMatchObject({ kind: 'done', reply: { status: 'EFAULT', done: 0 } });
  });

  it.each(['eager', 'lazy'] as const)('goes by machine frames, when nothing names it any more; flushed %s', (flush) => {
    const guest = Guest.running({ flush });
    const mfns = [8, 3].map((frame) => guest.mfn(frame));
    const total = guest.m.f.domTotalPages.get(DOM);
    guest.read(3);
    expect(guest.by(vcpu, decrease(DOMID_SELF, ...mfns)).status).toBe('ok');
    expect([guest.m.f.domTotalPages.get(DOM), guest.refs(machine(mfns[1] ?? 0))]).toEqual([total - 1, 1]);
    const { how } = guest.does(vcpu, guest.updates([{ frame: LEAVES as Mfn, index: 3 }], { owner: DOMID_SELF }));
    expect([how.filter((one) => one === 'flush 0').length, guest.m.f.domTotalPages.get(DOM)]).toEqual([flush === 'eager' ? 1 : 0, total - 2]); // prettier-ignore
    const taken = guest.does(toolstack, { kind: 'memory.increase', target: DOM, count: 1, order: 0, start: 0 });
    expect(taken.how.filter((one) => one.startsWith('flush'))).toEqual(flush === 'eager' ? [] : ['flush 0']);
    const statuses = [machine(0) - 1000, 96, 2 ** 52 - 1, mfns[0] ?? 0].map((mfn) => guest.by(vcpu, decrease(DOMID_SELF, mfn)).status); // prettier-ignore
    expect(statuses).toEqual(['ENXIO', 'EINVAL', 'EINVAL', 'ENXIO']);
  });

  it('that the hypervisor shares is not given back', () => {
    const guest = Guest.running();
    const info = guest.m.f.domSharedInfo.get(DOM);
    expect([guest.by(vcpu, decrease(DOMID_SELF, info)).status, guest.refs(machine(info)), guest.typed(machine(info))]).toEqual(['ok', 1, 'writable 1 valid']); // prettier-ignore
  });

  const frame = 96 as Mfn;
  it.each<readonly [status: string, op: Op<'concrete'>]>([
    ['EACCES', { kind: 'memory.addToPhysmap', target: DOM, space: 'sharedInfo', foreign: DOM, index: 0 as Gfn, gfn: 0 as Gfn }], // prettier-ignore
    ['EACCES', { kind: 'memory.removeFromPhysmap', target: DOM, gfn: 0 as Gfn }],
    ['EINVAL', { kind: 'memory.addToPhysmap', target: 0 as DomId, space: 'gmfnForeign', foreign: DOM, index: 0 as Gfn, gfn: 9 as Gfn }], // prettier-ignore
    ['EINVAL', { kind: 'memory.exchange', target: DOM, given: values(0), givenOrder: 0, taken: values(0), takenOrder: 0, start: 0, before: 0 }], // prettier-ignore
    // A list in memory can hold numbers so large that adding 1 changes nothing.
    ['EINVAL', { kind: 'memory.decrease', target: DOM, extents: values(2 ** 60), order: 0, start: 0 }],
    ['EINVAL', { kind: 'memory.populateOnDemand', target: DOM, extents: values(0), order: 0, start: 0 }],
    ['EINVAL', { kind: 'memory.setPodTarget', target: DOM, pages: 1 }],
    ['EINVAL', { kind: 'memory.podTarget', target: DOM }],
    ['EINVAL', { kind: 'memory.setPool', target: DOM, frames: 1 }],
    ['EINVAL', { kind: 'memory.enableLogDirty', target: DOM }],
    ['EINVAL', { kind: 'memory.disableLogDirty', target: DOM, resuming: 'anew' }],
    ['EINVAL', { kind: 'memory.logDirty', target: DOM, action: 'peeks', pages: 1, bitmap: { in: 'null' }, resuming: 'anew' }], // prettier-ignore
    ['EINVAL', { kind: 'memory.modifiedMemory', target: DOM, gfn: 0 as Gfn, count: 1, start: 0 }],
    ['EINVAL', { kind: 'memory.setMemType', target: DOM, gfn: 0 as Gfn, count: 1, type: 'ramRw', start: 0 }],
    ['EPERM', { kind: 'memory.mapMmio', target: DOM, action: 'maps', gfn: 0 as Gfn, frame, count: 1, start: 0 }],
  ])('is not managed like that of others: %s of %j', (status, op) => {
    const guest = new Guest();
    guest.by(toolstack, { kind: 'memory.setPool', target: 0 as DomId, frames: 8 });
    expect(guest.by(toolstack, op).status).toBe(status);
  });

  it('of devices is for its tables to name', () => {
    const guest = Guest.running();
    guest.by(toolstack, { kind: 'memory.iomemPermission', target: DOM, frame, count: 1, allow: 'yes' });
    expect(guest.by(toolstack, { kind: 'memory.mapMmio', target: DOM, action: 'maps', gfn: 0 as Gfn, frame, count: 1, start: 0 })).toMatchObject({ status: 'ok', done: 1 }); // prettier-ignore
    expect([guest.asks('flushCache'), guest.update(LEAVES, 0, guest.entry(machine(frame)), vcpu), guest.read(0)]).toEqual(['ok', 'ok', 'ok walked']); // prettier-ignore
  });

  it('is not granted', () => {
    const guest = Guest.running();
    expect(guest.by(vcpu, { kind: 'grants.query', target: DOMID_SELF }).status).toBe('EPERM');
    expect(guest.by(toolstack, { kind: 'grants.query', target: DOM }).out).toEqual([0, 0]);
  });
});

describe('the end', () => {
  const kill = { kind: 'memory.killDomain', target: DOM } as const;

  it('lets go of roots, then of pins, and leaves nothing', () => {
    const guest = Guest.running();
    const free = (): number => guest.m.f.heapFree.get(0);
    guest.asks('newUserBaseptr', { frame: OTHER_ROOT });
    guest.setContext(ROOT, 1);
    for (const [command, frame] of [['pinL3', ROOT], ['pinL3', OTHER_ROOT], ['pinL2', MIDDLE]] as const) guest.asks(command, { frame }); // prettier-ignore
    // One page is held by its pin alone.
    guest.by(vcpu, decrease(DOMID_SELF, guest.mfn(OTHER_ROOT)));
    expect(guest.refs(OTHER_ROOT)).toBe(2);
    const total = guest.m.f.domTotalPages.get(DOM);
    const before = free();
    const replies: string[] = [];
    const stages = new Set<string>();
    for (let reply = 'preempted'; reply === 'preempted';) {
      const { reply: answer } = guest.does(toolstack, kill, 1);
      reply = answer.status;
      replies.push(reply);
      stages.add(domStages[guest.m.f.domStage.get(DOM)] ?? '');
    }
    expect([replies.length, stages]).toEqual([3 + total + 2, new Set(['roots', 'pages'])]);
    expect([domStates[guest.m.f.domState.get(DOM)], free() - before]).toEqual(['none', total + 2]);
  });

  it('takes back what is pinned by others meanwhile', () => {
    const guest = new Guest();
    guest.does(toolstack, kill, 1);
    expect([guest.asks('pinL1', { frame: OTHER_ROOT }, toolstack), guest.typed(OTHER_ROOT)]).toEqual(['ok', 'l1 0']);
    expect([guest.by(toolstack, kill).status, domStates[guest.m.f.domState.get(DOM)]]).toEqual(['ok', 'none']);
    expect([guest.asks('pinL1', { frame: machine(1) }, toolstack), guest.setContext(machine(1))]).toEqual(['ESRCH', 'ESRCH']); // prettier-ignore
  });
});
