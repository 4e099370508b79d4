// Guest-physical memory behind AMD's nested page tables: tables of the host's own paging mode, walked as for a user.
// A first reader may skip `isBeyondReach`. Sources: AMD APM vol. 2, "Nested Paging": "Nested Table Walk", "Nested versus Guest Page
// Faults, Fault Ordering" (with the bits of EXITINFO1), "Combining Nested and Guest Attributes".

import type { Word } from '#abi/address.ts';
import type { AccessResult } from '#abi/case.ts';
import { bit } from '#lib/bits.ts';
import { isTooWide, wordOf } from '../paging/address.ts';
import { ABSENT, offsetBits, tableShapes } from '../paging/entry.ts';
import { NO_MARKS } from '../paging/memory.ts';
import { type Attempt, type Cause, errorCode, forbids, isWrite } from '../paging/rights.ts';
import {
  type Located,
  machineSpace,
  setFlags,
  type Space,
  type TablePaging,
  type Use,
  walkTables,
} from '../paging/walk.ts';
import type { WordReader } from './walk.ts';

/** Bits 32 and 33 of EXITINFO1, in its high half: the guest's final address, or an access to the guest's tables. */
const FINAL = bit(0);
const GUEST_TABLE = bit(1);

/**
 * What the nested tables are asked for: every access is a user access, and the walk of guest tables is a data write even if it
 * only reads, so tables behind write-protected nested entries cannot be walked.
 */
const attemptOf = (use: Use): Attempt => ({
  kind: use.kind === 'operand' ? use.access : 'write',
  privilege: 'user',
  ac: 'clear',
});

/**
 * Beyond what the nested tables can map: 32 bits for a host in 32-bit or PAE paging, 48 or 57 in long mode. The manual does not say what
 * becomes of such an address; nothing maps it, so it is taken as not present.
 */
const isBeyondReach = ({ mode }: TablePaging, address: Word): boolean =>
  isTooWide(address, mode === 'pae' ? 32 : offsetBits(mode, tableShapes[mode].levels + 1));

/** A nested page fault. The error code is that of a page fault in the host's mode: bit 4 needs the host's NXE or SMEP. */
const nestedFault = (host: TablePaging, asked: { use: Use; address: number }, cause: Cause): AccessResult => ({
  kind: 'nestedPageFault',
  info: { lo: errorCode(host, attemptOf(asked.use), cause), hi: asked.use.kind === 'operand' ? FINAL : GUEST_TABLE },
  guestPhysical: asked.address,
});

function locate(host: TablePaging, memory: WordReader, asked: { use: Use; address: number }): Located {
  const attempt = attemptOf(asked.use);
  const address = wordOf(asked.address);
  if (isBeyondReach(host, address))
    return { kind: 'failed', result: nestedFault(host, asked, ABSENT), marks: NO_MARKS };
  const walk = walkTables(machineSpace, host, { memory, address });
  const cause =
    walk.kind === 'page' ? forbids(host, attempt, walk.page) : walk.kind === 'fault' ? walk.cause : undefined;
  // The nested tables are ordinary tables: accessed everywhere, dirty where written, behind guest tables too.
  const { marks } = setFlags(machineSpace, host, walk, cause === undefined && isWrite(attempt));
  if (walk.kind === 'page' && cause === undefined) return { kind: 'found', maddr: walk.address, marks };
  return { kind: 'failed', result: nestedFault(host, asked, cause ?? ABSENT), marks };
}

/** Guest-physical memory as a host in `host` paging maps it. Its CR0.WP, SMAP and protection keys play no part. */
export const nptSpace = (host: TablePaging): Space => ({
  locate: (memory, address, use) => locate(host, memory, { address, use }),
});
