// What becomes of a case before an emulator sees it: a job, or the reason why it cannot be asked. Reasons are counted and told.
// What an emulator does wrong is no reason here; that is for rules.ts.

import type { AccessOutcome } from '#abi/case.ts';
import type { Mfn, Word } from '#abi/address.ts';
import { field, hasAny } from '#lib/bits.ts';
import { translateAccess } from '#model/paging/translate.ts';
import { memoryOf } from '#model/paging/memory.ts';
import { type OracleName, rulesFor } from './rules.ts';
import {
  type AccessCase,
  isCanonical,
  isLongMode,
  type Manner,
  STUB_DESCRIPTOR,
  stubOf,
  type Vehicle,
} from './pack.ts';
import { CASE_FRAMES_FROM, isOurs } from './pattern.ts';
import { CASE_FRAMES } from '#abi/case.ts';
import { route } from './route.ts';
import { expected } from './window.ts';

/** A case ready for an emulator, and what the model makes of it. */
export interface Planned {
  readonly case: AccessCase;
  readonly outcome: AccessOutcome;
  readonly manner: Manner;
}

export type Plan = { readonly ok: true; readonly planned: Planned } | { readonly ok: false; readonly reason: string };

const CR0_PE = 1;
const CR4_PKS = 2 ** 24;
const PAGE = 4096;
/** Of a descriptor; and of one of a system segment in long mode, whose second half is read if the first says so. */
const DESCRIPTOR_BYTES = 8;
const DESCRIPTOR_BYTES_LONG = 16;

const offsetOf = ({ access }: AccessCase): number => access.linear.lo % PAGE;

/** Why no instruction of the kernel does this access as the case has it. */
function unfitAccess(one: AccessCase): string | undefined {
  const { kind, size } = one.access;
  const stub = stubOf(one);
  const offset = offsetOf(one);
  if (stub === undefined) return 'no instruction does such an access';
  const straddles = offset + size > PAGE;
  if (stub === STUB_DESCRIPTOR) {
    if (!isCanonical(one)) return 'a descriptor table does not begin at such an address';
    if (offset + DESCRIPTOR_BYTES > PAGE !== straddles) return 'a descriptor has 8 bytes';
    const mayStraddle = isLongMode(one) && offset + DESCRIPTOR_BYTES_LONG > PAGE;
    return mayStraddle && !straddles ? 'a descriptor of long mode may have 16 bytes' : undefined;
  }
  if (kind !== 'fetch') return undefined;
  // Undefined opcodes of the pattern begin at these places, the last one across the boundary.
  if (straddles) return offset === PAGE - 1 ? undefined : 'no instruction of the pattern lies so';
  return offset % 8 === 0 || offset % 8 === 5 ? undefined : 'no instruction of the pattern begins there';
}

/** Why the kernel would not come back from the state. */
function unfitState(one: AccessCase): string | undefined {
  const { cr0, cr3, cr4, pkrs, maxPhysAddr, page1Gb } = one.registers;
  if (!hasAny(cr0, CR0_PE)) return 'real mode';
  if (page1Gb === 'absent') return 'processors without 1 GiB pages';
  if (one.engine === 'native' && isLongMode(one)) {
    const keys = Array.from({ length: 16 }, (_, key) => field(pkrs, 2 * key, 2));
    if (hasAny(cr4, CR4_PKS) && !keys.includes(0)) return 'PKRS leaves the kernel no key';
    // What does not fault at once takes the kernel's own tables away.
    if (cr3.hi !== 0 && field(cr3.hi, maxPhysAddr - 32, 64 - maxPhysAddr) === 0) return 'CR3 beyond the memory';
  }
  return undefined;
}

/** Whether a word lies where cases have memory. */
const isRemembered = (mfn: number): boolean => mfn >= CASE_FRAMES_FROM && mfn < CASE_FRAMES;

/** The outcome, and whether the model looked for tables where the emulator has no memory of ours. */
function outcomeOf(one: AccessCase): { readonly outcome: AccessOutcome; readonly strays: boolean } {
  const memory = memoryOf(one.image);
  let strays = false;
  const read = (mfn: Mfn, index: number): Word => {
    strays ||= !isRemembered(mfn);
    return memory(mfn, index);
  };
  const outcome = translateAccess(one, read);
  return { outcome, strays };
}

/** Where a write may land, to be looked at first. */
/** Whether a guest begins right at the target of its fetch, so that none of the kernel's instructions is needed. */
const isDirect = (one: AccessCase, vehicle: Vehicle): boolean =>
  vehicle !== 'native' && one.access.kind === 'fetch' && isCanonical(one);

const hintsOf = ({ result }: AccessOutcome): readonly number[] =>
  result.kind === 'done' ? result.bytes.map(({ maddr }) => Math.floor(maddr / PAGE)) : [];

/** Why the access must not come about: it would touch what is not a case's, or run what is no instruction of the pattern. */
function unfitTarget(one: AccessCase, { result }: AccessOutcome): string | undefined {
  if (result.kind !== 'done') return undefined;
  if (result.bytes.some(({ maddr }) => maddr < CASE_FRAMES_FROM * PAGE)) return "the page is the kernel's";
  if (one.access.kind !== 'fetch') return undefined;
  if (!result.bytes.every(({ maddr }) => isOurs(maddr))) return 'nothing to run where there is no memory';
  const isPoked = result.bytes.some(({ maddr }) =>
    one.image.some(({ mfn, index }) => mfn * 512 + index === Math.floor(maddr / 8)),
  );
  return isPoked ? 'an entry of a table would be run' : undefined;
}

/** Makes a case ready for an emulator. */
export function plan(one: AccessCase, witness: { oracle: OracleName; vehicle: Vehicle }): Plan {
  const { vehicle } = witness;
  const routed = route(one);
  if (!routed.ok) return routed;
  const reason = unfitAccess(routed.case) ?? unfitState(routed.case);
  if (reason !== undefined) return { ok: false, reason };
  const { outcome, strays } = outcomeOf(routed.case);
  if (strays) return { ok: false, reason: 'tables where there is no memory' };
  const target = unfitTarget(routed.case, outcome);
  if (target !== undefined) return { ok: false, reason: target };
  const direct = isDirect(routed.case, vehicle);
  const manner = {
    vehicle,
    hasPcid: !rulesFor(witness).some((rule) => rule.adapts?.(one) === true),
    direct,
    hints: hintsOf(outcome),
  };
  const ready = expected(routed.case, direct, outcome);
  if (ready === undefined) return { ok: false, reason: 'the guest does not reach the instructions of the kernel' };
  return { ok: true, planned: { case: routed.case, outcome: ready, manner } };
}
