// The model's operations put to Xen one to one: the hypercall or the access that each is, its arguments as bytes, and what comes
// back. Sources: Xen public/memory.h, public/grant_table.h, public/domctl.h.

import { DOMID_SELF, INVALID_GFN } from '#abi/address.ts';
import { type Agent, callerOf } from '#abi/agents.ts';
import { geometries } from '#abi/geometry.ts';
import type { Buffer as Place, Extents } from '#abi/operand.ts';
import type { Op } from '#abi/operation.ts';
import { errnoName, type Heard, statusName } from './heard.ts';
import { FRAME, IMAGE, type Mailbox, Silent } from './mailbox.ts';
import { FLAT } from './place.ts';
import { addressOf, quadOf, wordOf } from './quads.ts';
import { DOMCTL, GRANT, HYPERCALL, MEMORY, reservation, structure } from './wire.ts';
import type { World } from './world.ts';

type Concrete = Op<'concrete'>;
type OpOf<K extends Concrete['kind']> = Extract<Concrete, { kind: K }>;

/** Who asks, and which handle of Xen's each of the model's is. */
export interface Caller {
  readonly world: World;
  readonly box: Mailbox;
  readonly domain: number;
  readonly handles: Handles;
}

/** Handles by mapper: the model's number, then Xen's. */
export class Handles {
  readonly #known = new Map<string, number>();

  note(mapper: number, handle: number, xen: number): void {
    this.#known.set(`${mapper} ${handle}`, xen);
  }

  /** Xen's number; one that no maptrack has if the model's was never handed out. */
  of(mapper: number, handle: number): number {
    return this.#known.get(`${mapper} ${handle}`) ?? 0xffff_ffff;
  }
}

const { capacity } = geometries.x86;

/** Arguments begin with a structure; what it points to follows. */
const LIST_AT = 512;
const LIST = IMAGE.argumentsAt + LIST_AT;

/** An address of Xen's own, which no guest may name. */
const HYPERVISOR = 0xffff_82d0_4000_0000n;
const NON_CANONICAL = 0x8000_0000_0000_0000n;

/** A buffer's linear address. */
function address(place: Place<'concrete'>): bigint {
  switch (place.in) {
    case 'guest':
      return BigInt(FLAT) + addressOf(place.gfn, place.offset);
    case 'hypervisor':
      return HYPERVISOR;
    case 'nonCanonical':
      return NON_CANONICAL;
    case 'null':
      return 0n;
  }
}

const padded = (head: Buffer, rest: Buffer): Buffer => Buffer.concat([head, Buffer.alloc(LIST_AT - head.length), rest]);

/** A list of gfns: where it begins, how long it is, and its bytes if they lie in the arguments, from `at` on. */
function listed(
  extents: Extents<'concrete'>,
  at = LIST,
): {
  readonly start: bigint;
  readonly count: number;
  readonly bytes: Buffer;
} {
  if (extents.by === 'buffer') return { start: address(extents.buffer), count: extents.count, bytes: Buffer.alloc(0) };
  const bytes = Buffer.alloc(8 * extents.gfns.length);
  extents.gfns.forEach((gfn, i) => bytes.writeBigUInt64LE(BigInt(gfn), 8 * i));
  return { start: BigInt(at), count: extents.gfns.length, bytes };
}

/** A command of memory_op, with the extent to begin at above its low six bits. */
const command = (number: number, start: number): bigint => BigInt(number) + 64n * BigInt(start);

const memoryOp = ({ box }: Caller, cmd: number | bigint, bytes: Buffer): Promise<number> =>
  box.call(HYPERCALL.memoryOp, [cmd, IMAGE.argumentsAt], bytes);

async function reserve(caller: Caller, op: OpOf<'memory.populate' | 'memory.decrease'>): Promise<Heard> {
  const { start, count, bytes } = listed(op.extents);
  const head = reservation({ start, count, order: op.order, domain: op.target });
  const number = op.kind === 'memory.populate' ? MEMORY.populate : MEMORY.decrease;
  return { done: await memoryOp(caller, command(number, op.start), padded(head, bytes)) };
}

async function increase(caller: Caller, op: OpOf<'memory.increase'>): Promise<Heard> {
  const head = reservation({ start: 0, count: op.count, order: op.order, domain: op.target });
  return { done: await memoryOp(caller, command(MEMORY.increase, op.start), head) };
}

async function exchange(caller: Caller, op: OpOf<'memory.exchange'>): Promise<Heard> {
  const given = listed(op.given);
  const taken = listed(op.taken, LIST + given.bytes.length);
  const into = { ...given, order: op.givenOrder, domain: op.target };
  const out = { ...taken, order: op.takenOrder, domain: op.target };
  const done = Buffer.alloc(8);
  done.writeBigUInt64LE(BigInt(op.start));
  const head = Buffer.concat([reservation(into), reservation(out), done]);
  const bytes = Buffer.concat([given.bytes, taken.bytes]);
  return { status: errnoName(await memoryOp(caller, MEMORY.exchange, padded(head, bytes))) };
}

/** "No gfn" has all 64 bits set for Xen. */
const gfnWord = (gfn: number): number => (gfn === INVALID_GFN ? -1 : gfn);

const SPACES = { sharedInfo: 0, grantTable: 1, gmfn: 2, gmfnForeign: 4, devMmio: 5 } as const;

/** Foreign frames are only taken in batches: here of one, whose index, gfn and error follow the structure. */
async function addForeign(caller: Caller, op: OpOf<'memory.addToPhysmap'>): Promise<Heard> {
  const head = structure(32, [
    [2, 0, op.target],
    [2, 2, SPACES.gmfnForeign],
    [2, 4, 1],
    [2, 6, op.foreign],
    [8, 8, LIST],
    [8, 16, LIST + 8],
    [8, 24, LIST + 16],
  ]);
  const list = structure(24, [
    [8, 0, op.index],
    [8, 8, gfnWord(op.gfn)],
  ]);
  const answer = await memoryOp(caller, MEMORY.addBatch, padded(head, list));
  const error = caller.box.arguments(LIST_AT + 24).readInt32LE(LIST_AT + 16);
  return { status: errnoName(answer === 0 ? error : answer) };
}

async function addToPhysmap(caller: Caller, op: OpOf<'memory.addToPhysmap'>): Promise<Heard> {
  if (op.space === 'gmfnForeign') return addForeign(caller, op);
  const bytes = structure(24, [
    [2, 0, op.target],
    [4, 4, SPACES[op.space]],
    [8, 8, op.index],
    [8, 16, gfnWord(op.gfn)],
  ]);
  return { status: errnoName(await memoryOp(caller, MEMORY.addToPhysmap, bytes)) };
}

async function removeFromPhysmap(caller: Caller, op: OpOf<'memory.removeFromPhysmap'>): Promise<Heard> {
  const bytes = structure(16, [
    [2, 0, op.target],
    [8, 8, op.gfn],
  ]);
  return { status: errnoName(await memoryOp(caller, MEMORY.removeFromPhysmap, bytes)) };
}

async function count(caller: Caller, op: OpOf<'memory.reservation'>): Promise<Heard> {
  const answer = await memoryOp(caller, MEMORY.reservation, structure(8, [[2, 0, op.target]]));
  const target = op.target === DOMID_SELF ? caller.domain : op.target;
  const hidden = caller.world.hiddenIn(target);
  return answer < 0 ? { status: errnoName(answer), out: [] } : { status: 'ok', out: [answer - hidden] };
}

const domctlNumbers = {
  'memory.pauseDomain': DOMCTL.pause,
  'memory.unpauseDomain': DOMCTL.unpause,
  'memory.killDomain': DOMCTL.destroy,
} as const;

async function control(caller: Caller, op: OpOf<keyof typeof domctlNumbers>): Promise<Heard> {
  return { status: errnoName(await caller.world.domctl(domctlNumbers[op.kind], op.target, [], caller.box)) };
}

async function limit(caller: Caller, op: OpOf<'memory.setMaxPages'>): Promise<Heard> {
  return { status: errnoName(await caller.world.limit(op.target, op.maxPages, caller.box)) };
}

/** The table begins with one frame; the others that the operation asks for are a call of their own. */
async function create(caller: Caller, op: OpOf<'memory.createDomain'>): Promise<Heard> {
  const { target, vcpus, maxPages } = op;
  const of = { vcpus, maxPages, grantFrames: capacity.grantFrames, maptrackFrames: capacity.maptrackFrames };
  const answer = await caller.world.create(target, of, caller.box);
  if (answer === 0 && op.grantFrames > 1) await caller.world.growGrants(target, op.grantFrames);
  return { status: errnoName(answer) };
}

const statuses = (bytes: Buffer, of: { size: number; at: number; count: number }): string[] =>
  Array.from({ length: of.count }, (_, i) => statusName(bytes.readInt16LE(i * of.size + of.at)));

/** A batch of grant operations; what became of the elements, or the error of the whole call. */
async function batch(
  caller: Caller,
  number: number,
  elements: readonly Buffer[],
): Promise<{ readonly answer: number; readonly bytes: Buffer }> {
  const bytes = Buffer.concat(elements);
  const answer = await caller.box.call(HYPERCALL.grantTableOp, [number, IMAGE.argumentsAt, elements.length], bytes);
  return { answer, bytes: caller.box.arguments(bytes.length) };
}

async function map(caller: Caller, op: OpOf<'grants.map'>): Promise<Heard> {
  const elements = op.elements.slice(op.start).map((one) =>
    structure(32, [
      [8, 0, addressOf(one.gfn)],
      [4, 8, one.flags],
      [4, 12, one.ref],
      [2, 16, one.domain],
    ]),
  );
  const { answer, bytes } = await batch(caller, GRANT.map, elements);
  if (answer !== 0) return { status: errnoName(answer) };
  const named = statuses(bytes, { size: 32, at: 18, count: elements.length });
  const handles = named.map((status, i) => (status === 'okay' ? bytes.readUInt32LE(i * 32 + 20) : -1));
  return { status: 'ok', elements: named, handles };
}

/** Byte 1 of frame 0: an address of 0 would mean "nothing to unmap"; the low bits are not looked at. */
const hostAddress = (gfn: number): bigint => (gfn === 0 ? 1n : addressOf(gfn));

async function unmap(caller: Caller, op: OpOf<'grants.unmap'>): Promise<Heard> {
  const elements = op.elements.slice(op.start).map((one) =>
    structure(24, [
      [8, 0, hostAddress(one.gfn)],
      [8, 8, one.dev === 'none' ? 0 : FRAME],
      [4, 16, caller.handles.of(caller.domain, one.handle)],
    ]),
  );
  const { answer, bytes } = await batch(caller, GRANT.unmap, elements);
  if (answer !== 0) return { status: errnoName(answer) };
  return { status: 'ok', elements: statuses(bytes, { size: 24, at: 20, count: elements.length }) };
}

const BY_REF = { source: 1, dest: 2 } as const;

async function copy(caller: Caller, op: OpOf<'grants.copy'>): Promise<Heard> {
  const elements = op.elements.slice(op.start).map((one) =>
    structure(40, [
      [8, 0, one.sourceBy === 'ref' ? one.sourceRef : one.sourceGfn],
      [2, 8, one.sourceDomain],
      [2, 10, one.sourceOffset],
      [8, 16, one.destBy === 'ref' ? one.destRef : one.destGfn],
      [2, 24, one.destDomain],
      [2, 26, one.destOffset],
      [2, 32, one.length],
      [2, 34, (one.sourceBy === 'ref' ? BY_REF.source : 0) + (one.destBy === 'ref' ? BY_REF.dest : 0)],
    ]),
  );
  const { answer, bytes } = await batch(caller, GRANT.copy, elements);
  if (answer !== 0) return { status: errnoName(answer) };
  return { status: 'ok', elements: statuses(bytes, { size: 40, at: 36, count: elements.length }) };
}

async function query(caller: Caller, op: OpOf<'grants.query'>): Promise<Heard> {
  const { answer, bytes } = await batch(caller, GRANT.query, [structure(16, [[2, 0, op.target]])]);
  if (answer !== 0) return { status: errnoName(answer), out: [] };
  const status = statusName(bytes.readInt16LE(12));
  return { status, out: status === 'okay' ? [bytes.readUInt32LE(4), bytes.readUInt32LE(8)] : [] };
}

async function setupTable(caller: Caller, op: OpOf<'grants.setupTable'>): Promise<Heard> {
  const element = structure(24, [
    [2, 0, op.target],
    [4, 4, op.frames],
    [8, 16, address(op.list)],
  ]);
  const { answer, bytes } = await batch(caller, GRANT.setupTable, [element]);
  return { status: answer === 0 ? statusName(bytes.readInt16LE(8)) : errnoName(answer) };
}

type Access = OpOf<'paging.read' | 'paging.write' | 'paging.compareExchange'>;

async function access({ box }: Caller, op: Access): Promise<Heard> {
  const at = address({ in: 'guest', gfn: op.gfn, offset: op.offset });
  const { size } = op;
  switch (op.kind) {
    case 'paging.read':
      return { words: [wordOf(await box.ask({ kind: 'load', size, words: [at] }), size)] };
    case 'paging.write':
      await box.ask({ kind: 'store', size, words: [at, quadOf(op.value)] });
      return {};
    case 'paging.compareExchange': {
      const words = [at, quadOf(op.expected), quadOf(op.value)];
      return { words: [wordOf(await box.ask({ kind: 'compareExchange', size, words }), size)] };
    }
  }
}

/** Carries out `op`, one of those that Xen is asked. */
function carryOut(caller: Caller, op: Concrete): Promise<Heard> {
  switch (op.kind) {
    case 'memory.populate':
    case 'memory.decrease':
      return reserve(caller, op);
    case 'memory.increase':
      return increase(caller, op);
    case 'memory.exchange':
      return exchange(caller, op);
    case 'memory.addToPhysmap':
      return addToPhysmap(caller, op);
    case 'memory.removeFromPhysmap':
      return removeFromPhysmap(caller, op);
    case 'memory.reservation':
      return count(caller, op);
    case 'memory.createDomain':
      return create(caller, op);
    case 'memory.pauseDomain':
    case 'memory.unpauseDomain':
    case 'memory.killDomain':
      return control(caller, op);
    case 'memory.setMaxPages':
      return limit(caller, op);
    case 'grants.map':
      return map(caller, op);
    case 'grants.unmap':
      return unmap(caller, op);
    case 'grants.copy':
      return copy(caller, op);
    case 'grants.query':
      return query(caller, op);
    case 'grants.setupTable':
      return setupTable(caller, op);
    case 'paging.read':
    case 'paging.write':
    case 'paging.compareExchange':
      return access(caller, op);
    default:
      throw new Silent(`${op.kind} cannot be asked`);
  }
}

/** Lets `agent` do `op` on Xen. Throws `Silent` if its domain does not answer. */
export async function perform(world: World, handles: Handles, of: { agent: Agent; op: Concrete }): Promise<Heard> {
  const domain = callerOf(of.agent) ?? 0;
  const box = domain === 0 ? world.control : world.guests.get(domain)?.box;
  if (box === undefined) throw new Silent(`domain ${domain} has nothing that could be asked`);
  const heard = await carryOut({ world, box, domain, handles }, of.op);
  if (of.op.kind === 'memory.killDomain' && heard.status === 'ok') world.buried(of.op.target);
  return heard;
}
