// What a processor's raw answer means, in the words of the model: a result of an access, or that the access never took place.
// A first reader may skip the numbers. Sources: AMD APM vol. 2, appendix "SVM Intercept Codes"; Intel SDM vol. 3D, appendix
// "VMX Basic Exit Reasons".

import type { AccessResult } from '#abi/case.ts';
import type { Word } from '#abi/address.ts';
import { and, field, hasAll } from '#lib/bits.ts';
import { type AccessCase, isLongMode, type Raw, STUB_DESCRIPTOR, stubAt, stubOf } from './pack.ts';
import { hex, hexWord, isSame, numberOf, wordOf } from './words.ts';

/** A result as an emulator shows it. done: the bytes are in the raw answer, in the form of what was read or hit. */
export type Seen =
  | Exclude<AccessResult, { readonly kind: 'done' }>
  | { readonly kind: 'done' }
  /** The state was refused by an instruction of the way into it: general protection or no such state, as the case goes. */
  | { readonly kind: 'refused' }
  /** The kernel's instructions were out of reach, so the access was not tried. */
  | { readonly kind: 'unreached' }
  | { readonly kind: 'unexpected'; readonly why: string };

const VECTOR = { undefinedOpcode: 6, stack: 12, generalProtection: 13, pageFault: 14 } as const;
const SVM = { exceptions: 0x40, nestedPageFault: 0x400, invalid: 0xffff_ffff } as const;
const VMX = { exception: 0, violation: 48, misconfiguration: 49 } as const;
const LINEAR_VALID = 0x80;

/** Where a successful fetch ends, relative to its target: the pattern (kernel/frames.c) has undefined opcodes at two places. */
const fetchEnd = (target: Word): Word => {
  const place = target.lo % 8;
  return place === 0 ? { lo: target.lo + 5, hi: target.hi } : target;
};

const unexpected = (why: string): Seen => ({ kind: 'unexpected', why });

/** An exception in the world of the case. */
function ofException(one: AccessCase, at: { vector: number; errorCode: number; cr2: Word; rip: Word }): Seen {
  const { vector, errorCode, cr2, rip } = at;
  const { start, end } = stubAt(one);
  const isFetch = one.access.kind === 'fetch';
  if (isSame(rip, wordOf(start))) return { kind: 'unreached' };
  if (vector === VECTOR.undefinedOpcode) {
    const linear = isLongMode(one) ? one.access.linear : { lo: one.access.linear.lo, hi: 0 };
    const isEnd = isSame(rip, isFetch ? fetchEnd(linear) : wordOf(end));
    return isEnd ? { kind: 'done' } : unexpected(`undefined opcode at ${hexWord(rip)}`);
  }
  if (vector === VECTOR.pageFault) return { kind: 'pageFault', errorCode, linear: cr2 };
  if (vector === VECTOR.generalProtection || vector === VECTOR.stack) return { kind: 'generalProtection' };
  return unexpected(`exception ${vector} at ${hexWord(rip)}`);
}

function ofSvmExit(one: AccessCase, { code, info1, info2, rip }: Raw): Seen {
  if (code === SVM.invalid) return { kind: 'invalidState' };
  const isUnreached = isSame(rip, wordOf(stubAt(one).start));
  if (code === SVM.nestedPageFault)
    return isUnreached
      ? { kind: 'unreached' }
      : { kind: 'nestedPageFault', info: info1, guestPhysical: numberOf(info2) };
  if (code >= SVM.exceptions && code < SVM.exceptions + 32)
    return ofException(one, { vector: code - SVM.exceptions, errorCode: info1.lo, cr2: info2, rip });
  return unexpected(`exit code ${hex(code)}`);
}

const ENTRY_FAILED = 2 ** 31;

function ofVmxExit(one: AccessCase, { code, event, info1, info2, linear, rip }: Raw): Seen {
  if (hasAll(code, ENTRY_FAILED)) return { kind: 'invalidState' };
  const reason = field(code, 0, 16);
  if (reason === VMX.exception)
    return ofException(one, { vector: field(event, 0, 8), errorCode: info1.lo, cr2: info2, rip });
  if (isSame(rip, wordOf(stubAt(one).start))) return { kind: 'unreached' };
  if (reason === VMX.misconfiguration) return { kind: 'eptMisconfiguration', guestPhysical: numberOf(info2) };
  if (reason === VMX.violation) {
    const isLinear = and(info1.lo, LINEAR_VALID) !== 0;
    return {
      kind: 'eptViolation',
      qualification: info1.lo,
      guestPhysical: numberOf(info2),
      linear: isLinear ? linear : undefined,
    };
  }
  return unexpected(`exit reason ${reason}`);
}

/** What `raw` means for `one`. */
export function interpret(one: AccessCase, raw: Raw): Seen {
  switch (raw.answer) {
    case 'exception':
      return ofException(one, { vector: raw.code, errorCode: raw.info1.lo, cr2: raw.info2, rip: raw.rip });
    case 'refused':
      return raw.code === VECTOR.generalProtection
        ? { kind: 'refused' }
        : unexpected(`exception ${raw.code} at ${hexWord(raw.rip)} on the way in`);
    case 'svmExit':
      return ofSvmExit(one, raw);
    case 'vmxExit':
      return ofVmxExit(one, raw);
    case 'vmxRefused':
      return { kind: 'invalidState' };
    case 'nothing':
      return unexpected('no answer at all');
  }
}

/** Whether what was read can be told: descriptors come back in parts only. */
export const tellsValue = (one: AccessCase): boolean =>
  one.access.kind !== 'write' &&
  stubOf(one) !== STUB_DESCRIPTOR &&
  (one.access.kind !== 'fetch' || one.access.linear.lo % 8 === 0);
