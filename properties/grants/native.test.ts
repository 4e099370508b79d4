// Grants of paravirtual guests, step by step: d1 and d2 are such guests, d3 is none. Both have their memory at linear frames 0 to 7, whose
// lowest tables are 4 and 5, and their grant frame at 8; that frame's lowest table, 6, has room at 9 to 11.
// A first reader may begin with the tests' names.

import { describe, expect, test } from 'vitest';
import { DOMID_SELF, type DomId, type GrantRef, type VcpuId } from '#abi/address.ts';
import { grantFlags, mapFlags } from '#abi/grants.ts';
import type { GfnOperand, Literal } from '#abi/operand.ts';
import type { Op } from '#abi/operation.ts';
import type { Agent } from '#abi/agents.ts';
import { tableFlags } from '#abi/paging.ts';
import type { DomainSetup } from '#abi/trace.ts';
import { Lockstep } from '../harness/lockstep.ts';
import { smallHeader } from '../harness/small.testing.ts';
import { clean } from '../harness/subject.ts';

const d = (id: number): DomId => id as DomId;
const ref = (n: number): GrantRef => n as GrantRef;
const at = (linear: number): GfnOperand => ({ raw: linear });
/** The number of the machine frame that a domain has at a gfn. */
const frame = (of: number, gfn: number): GfnOperand => ({ at: [Math.floor(gfn / 4), gfn % 4], of: d(of) });

const MEMORY = 2;
const TABLE = 6;
const GRANTS = 8;
const PTE = mapFlags.containsPte;
const RO = mapFlags.readOnly;

const guest = (id: number, kind: DomainSetup['kind']): DomainSetup => ({
  id: d(id),
  kind,
  vcpus: 1,
  maxPages: 16,
  poolFrames: kind === 'hvm' ? 8 : 0,
  grantFrames: id === 0 ? 0 : 1,
  ram: id === 0 ? [] : Array.from({ length: 8 }, (_, i) => ({ path: [Math.floor(i / 4), i % 4], order: 0 })),
  ...(id === 0 ? {} : { grantsAt: [2, 0] }),
  ...(kind === 'pv' ? { rootAt: [0, 1] } : {}),
  on: [id - 1],
});

const domains = [guest(0, 'control'), guest(1, 'pv'), guest(2, 'pv'), guest(3, 'hvm')];

/** A run of these, step by step. */
class Play {
  readonly #run = new Lockstep({ subject: clean, header: { ...smallHeader(domains), pcpus: 3 } });
  #label = 0;

  /** What a domain hears: of the first element, of an access the word, else the answer. */
  by(domain: number, op: Op<'symbolic'>): string {
    const agent: Agent = domain === 0 ? { kind: 'toolstack' } : { kind: 'vcpu', domain: d(domain), vcpu: 0 as VcpuId };
    const { reply } = this.#run.apply({ label: (this.#label += 1), agent, op });
    expect(this.#run.failure?.sentence).toBeUndefined();
    const word = reply?.status === 'ok' ? reply.words[0] : undefined;
    return word === undefined ? (reply?.elements[0]?.status ?? reply?.status ?? 'none') : String(word.lo);
  }

  get label(): number {
    return this.#label;
  }

  write(domain: number, linear: number, value: number | Literal, offset = 0): string {
    const literal = typeof value === 'number' ? ({ as: 'word', lo: value, hi: 0 } as const) : value;
    return this.by(domain, { kind: 'paging.write', gfn: at(linear), offset, size: 8, value: literal, via: 0, as: 'supervisor' }); // prettier-ignore
  }

  read(domain: number, linear: number): string {
    return this.by(domain, { kind: 'paging.read', gfn: at(linear), offset: 0, size: 8, via: 0, as: 'supervisor' });
  }

  /** `granter` gives `to` its frame at `gfn`, as reference 1. */
  grant(granter: number, to: number, gfn: number, more = 0): this {
    const named = granter === 3 ? at(gfn) : frame(granter, gfn);
    const entry = { as: 'grantEntry', flags: grantFlags.permitAccess + more, domain: d(to), gfn: named } as const;
    expect(this.write(granter, GRANTS, entry, 8)).toBe('ok');
    return this;
  }

  map(mapper: number, granter: number, place: { gfn: GfnOperand; offset?: number; flags?: number }): string {
    const { gfn, offset = 0, flags = 0 } = place;
    const element = { flags: mapFlags.host + flags, domain: d(granter), ref: ref(1), gfn, offset };
    return this.by(mapper, { kind: 'grants.map', elements: [element], results: { in: 'null' }, start: { raw: 0 } });
  }

  unmap(mapper: number, step: number, place: { gfn: GfnOperand; offset?: number }): string {
    const element = { handle: { step, index: 0 }, gfn: place.gfn, dev: 'none', offset: place.offset ?? 0 } as const;
    return this.by(mapper, { kind: 'grants.unmap', elements: [element], results: { in: 'null' }, start: { raw: 0 } });
  }

  replace(mapper: number, step: number, linear: number, source: { page: number; offset?: number }): string {
    const element = {
      handle: { step, index: 0 },
      gfn: at(linear),
      newGfn: at(source.page),
      offset: 0,
      newOffset: source.offset ?? 0,
    };
    return this.by(mapper, { kind: 'grants.replace', elements: [element], results: { in: 'null' }, start: { raw: 0 } });
  }

  /** Changes the entry of a linear frame, without a flush. */
  change(domain: number, linear: number, value: Literal): string {
    return this.by(domain, { kind: 'pv.updateVaMapping', page: at(linear), value, flush: 'nothing', on: 'local', vcpus: 0, owner: DOMID_SELF }); // prettier-ignore
  }

  pin(domain: number, gfn: number): string {
    const element = { command: 'pinL1', frame: { domain: d(domain), gfn: at(gfn) }, source: { raw: 0 }, page: at(0), vcpus: 0 } as const; // prettier-ignore
    return this.by(domain, { kind: 'pv.mmuext', elements: [element], owner: DOMID_SELF, start: { raw: 0 } });
  }

  copy(caller: number, dest: { by: 'ref' | 'gfn'; domain: number; gfn: GfnOperand }): string {
    const own = caller === 3 ? at(0) : frame(caller, 0);
    const source = { sourceBy: 'gfn', sourceDomain: DOMID_SELF, sourceRef: ref(0), sourceGfn: own, sourceOffset: 0 } as const; // prettier-ignore
    const to = { destBy: dest.by, destDomain: d(dest.domain), destRef: ref(1), destGfn: dest.gfn, destOffset: 0 };
    const elements = [{ ...source, ...to, length: 8 }];
    return this.by(caller, { kind: 'grants.copy', elements, results: { in: 'null' }, start: { raw: 0 } });
  }

  kill(domain: number): string {
    return this.by(0, { kind: 'memory.killDomain', target: d(domain) });
  }
}

const NOTHING: Literal = { as: 'word', lo: 0, hi: 0 };
const NINE = { gfn: at(9) };

/** d2 has d1's memory at linear frame 9. */
function mapped(flags = 0): Play {
  const play = new Play().grant(1, 2, MEMORY, flags === RO ? grantFlags.readOnly : 0);
  expect(play.map(2, 1, { ...NINE, flags })).toBe('okay');
  return play;
}

describe('a paravirtual guest maps', () => {
  test('a frame of another at a linear address, and what it writes is there', () => {
    const play = mapped();
    expect(play.write(2, 9, 7)).toBe('ok');
    expect(play.read(1, MEMORY)).toBe('7');
  });

  test('by the machine address of an entry, which must be one of a lowest table', () => {
    const play = new Play().grant(1, 2, MEMORY);
    const place = { gfn: frame(2, TABLE), flags: PTE };
    expect(play.map(2, 1, { ...place, offset: 20 })).toBe('generalError');
    expect(play.map(2, 1, { ...place, gfn: frame(2, MEMORY), offset: 16 })).toBe('generalError');
    expect(play.map(2, 1, { ...place, gfn: frame(1, TABLE), offset: 16 })).toBe('generalError');
    expect(play.map(2, 1, { ...place, offset: 16 })).toBe('okay');
    expect(play.write(2, 10, 7)).toBe('ok');
    const handle = play.label - 1;
    expect(play.unmap(2, handle, { gfn: frame(2, TABLE), offset: 24 })).toBe('generalError');
    expect(play.unmap(2, handle, { gfn: frame(2, TABLE), offset: 16 })).toBe('okay');
    expect(play.read(2, 10)).toBe('pageFault');
  });

  test('nowhere, where there is no table, and in the hypervisor part', () => {
    const play = new Play().grant(1, 2, MEMORY);
    expect(play.map(2, 1, { gfn: at(14) })).toBe('generalError');
    expect(play.map(2, 1, { gfn: { raw: 2 ** 52 - 17 } })).toBe('generalError');
  });

  test('for reading what was granted so', () => {
    const play = mapped(RO);
    expect(play.write(2, 9, 7)).toBe('pageFault');
    expect(play.map(2, 1, { gfn: at(10) })).toBe('generalError');
  });

  test('a table for reading alone', () => {
    const play = new Play().grant(1, 2, TABLE);
    expect(play.map(2, 1, NINE)).toBe('generalError');
    expect(play.map(2, 1, { ...NINE, flags: RO })).toBe('okay');
    expect(play.read(2, 9)).not.toBe('pageFault');
  });

  test('frames of a translated guest, and that guest its frames', () => {
    const play = new Play().grant(3, 2, MEMORY);
    expect(play.map(2, 3, NINE)).toBe('okay');
    expect(play.write(2, 9, 7)).toBe('ok');
    expect(play.read(3, MEMORY)).toBe('7');
    expect(play.grant(1, 3, MEMORY).map(3, 1, NINE)).toBe('okay');
    expect(play.write(3, 9, 8)).toBe('ok');
    expect(play.read(1, MEMORY)).toBe('8');
    expect(play.pin(1, MEMORY)).toBe('EINVAL');
  });
});

describe('a mapping of a paravirtual guest', () => {
  test('keeps the frame from becoming a table until it is unmapped', () => {
    const play = mapped();
    const handle = play.label;
    expect(play.pin(1, MEMORY)).toBe('EINVAL');
    expect(play.unmap(2, handle, { gfn: at(10) })).toBe('generalError');
    expect(play.unmap(2, handle, { gfn: at(0) })).toBe('okay');
    expect(play.pin(1, MEMORY)).toBe('EINVAL');
    expect(play.unmap(2, handle, NINE)).toBe('okay');
    expect(play.unmap(2, handle, NINE)).toBe('badHandle');
    expect(play.change(1, MEMORY, NOTHING)).toBe('ok');
    expect(play.pin(1, MEMORY)).toBe('ok');
  });

  test('goes with its entry, whose processors forget it', () => {
    const play = mapped();
    const handle = play.label;
    expect(play.write(2, 9, 0)).toBe('ok');
    expect(play.change(2, 9, NOTHING)).toBe('ok');
    expect(play.unmap(2, handle, NINE)).toBe('generalError');
    expect(play.change(1, MEMORY, NOTHING)).toBe('ok');
    expect(play.pin(1, MEMORY)).toBe('ok');
    expect(play.write(2, 9, 1)).toBe('pageFault');
    // Who has it still is told apart from who never had it.
    expect(play.map(2, 1, NINE)).toBe('generalError');
    expect(play.map(2, 1, { ...NINE, flags: RO })).toBe('okay');
  });

  test('cannot be made or changed by the guest itself, but for what does no harm', () => {
    const play = mapped();
    const value = (flags: number): Literal => ({ as: 'tableEntry', flags, gfn: frame(1, MEMORY) });
    const { present, write, user } = tableFlags;
    expect(play.change(2, 10, value(present + user))).toBe('EBUSY');
    expect(play.change(2, 9, value(present + user))).toBe('EBUSY');
    expect(play.change(2, 9, value(present + write + user))).toBe('ok');
    expect(play.write(2, 9, 5)).toBe('ok');
  });

  test('gives way to another entry, or is lost where that cannot be', () => {
    const play = mapped();
    const handle = play.label;
    expect(play.write(2, 0, 9)).toBe('ok');
    // An address of zero would mean that nothing is to come there.
    expect(play.replace(2, handle, 9, { page: 0, offset: 8 })).toBe('okay');
    expect(play.read(2, 9)).toBe('9');
    expect(play.read(2, 0)).toBe('pageFault');
    expect(play.map(2, 1, { gfn: at(11) })).toBe('okay');
    expect(play.replace(2, play.label, 10, { page: 9 })).toBe('generalError');
    expect(play.read(2, 9)).toBe('pageFault');
  });

  test('outlives its granter, and ends with its mapper', () => {
    const play = mapped();
    expect(play.write(2, 9, 7)).toBe('ok');
    expect(play.kill(1)).toBe('ok');
    expect(play.read(2, 9)).toBe('7');
    expect(play.kill(2)).toBe('ok');
  });

  test('that has lost its granter stops who wants to unmap it', () => {
    const play = mapped();
    const handle = play.label;
    expect(play.change(2, 9, NOTHING)).toBe('ok');
    expect(play.kill(1)).toBe('ok');
    expect(play.unmap(2, handle, NINE)).toBe('badHandle');
    expect(play.read(2, 0)).toBe('gone');
    expect(play.kill(2)).toBe('ok');
  });
});

test('no translated guest replaces a mapping', () => {
  const play = new Play().grant(1, 3, MEMORY);
  expect(play.map(3, 1, NINE)).toBe('okay');
  const handle = play.label;
  expect(play.replace(3, handle, 9, { page: 10 })).toBe('generalError');
  expect(play.replace(3, handle, 9, { page: 0 })).toBe('okay');
});

describe('copies', () => {
  test('to and from paravirtual guests move memory', () => {
    const play = new Play().grant(1, 2, MEMORY);
    expect(play.write(2, 0, 5)).toBe('ok');
    expect(play.copy(2, { by: 'ref', domain: 1, gfn: at(0) })).toBe('okay');
    expect(play.read(1, MEMORY)).toBe('5');
    expect(play.copy(2, { by: 'gfn', domain: DOMID_SELF, gfn: frame(2, MEMORY) })).toBe('okay');
    expect(play.read(2, MEMORY)).toBe('5');
    expect(play.grant(1, 3, MEMORY).copy(3, { by: 'ref', domain: 1, gfn: at(0) })).toBe('okay');
  });

  test('write no table, and take no frame of another by its number', () => {
    const play = new Play().grant(1, 2, TABLE);
    expect(play.copy(2, { by: 'ref', domain: 1, gfn: at(0) })).toBe('generalError');
    expect(play.copy(2, { by: 'gfn', domain: DOMID_SELF, gfn: frame(2, TABLE) })).toBe('generalError');
    expect(play.copy(2, { by: 'gfn', domain: DOMID_SELF, gfn: frame(1, MEMORY) })).toBe('badPage');
  });
});
