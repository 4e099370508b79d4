// Who may do what with a page: how rights fold over the levels, which accesses they allow, and what a page fault reports.
// Sources: Intel SDM vol. 3A, "Access Rights" ("Determination of Access Rights", "Protection Keys"), "Page-Fault Exceptions";
// AMD APM vol. 2, "Page-Protection Checks", "Memory Protection Keys".

import type { CaseOf } from '#abi/case.ts';
import { and, bit, field, hasAll } from '#lib/bits.ts';
import type { Paging } from './mode.ts';

/** What is tried: kind, privilege, and whether EFLAGS.AC lifts SMAP. */
export type Attempt = Pick<CaseOf<'native'>['access'], 'kind' | 'privilege' | 'ac'>;

/** What all levels must grant together. */
export interface Rights {
  readonly write: boolean;
  /** Access from user mode; what has it is a user page, with rules of its own for the supervisor. */
  readonly user: boolean;
  readonly execute: boolean;
}

/** Rights of entries as bits. */
export const RIGHT_BITS = { write: 1, user: 2, execute: 4 } as const;

/** Nothing withheld: what the root, and a PDPTE of PAE paging, give. */
export const ALL_RIGHTS = RIGHT_BITS.write + RIGHT_BITS.user + RIGHT_BITS.execute;

/** Every level must grant a right for the translation to have it. */
export const fold = (a: number, b: number): number => and(a, b);

/** What the bits say. */
export const rightsOfBits = (bits: number): Rights => ({
  write: hasAll(bits, RIGHT_BITS.write),
  user: hasAll(bits, RIGHT_BITS.user),
  execute: hasAll(bits, RIGHT_BITS.execute),
});

/** What the levels give together for the page at the end of a walk. */
export interface Page {
  readonly rights: Rights;
  readonly key: number;
}

/** Implicit accesses are supervisor accesses at any CPL. */
const isUser = ({ privilege }: Attempt): boolean => privilege === 'user';

/** Whether the access dirties the page. A read-modify-write is a write from the start, even if it faults. */
export const isWrite = ({ kind }: Pick<Attempt, 'kind'>): boolean => kind === 'write' || kind === 'readModifyWrite';

/** Data of a page as such. SMAP keeps supervisors out of user pages unless the access is explicit and EFLAGS.AC is set. */
function mayTouch({ smap }: Paging, attempt: Attempt, { user }: Rights): boolean {
  if (isUser(attempt)) return user;
  return !user || !smap || (attempt.privilege === 'supervisor' && attempt.ac === 'set');
}

/** CR0.WP makes R/W count for the supervisor too, on user and on supervisor pages. */
const mayWrite = (paging: Paging, attempt: Attempt, rights: Rights): boolean =>
  mayTouch(paging, attempt, rights) && (rights.write || (!isUser(attempt) && !paging.writeProtect));

/** SMEP keeps supervisors from executing user pages. */
const mayFetch = ({ smep }: Paging, attempt: Attempt, { execute, user }: Rights): boolean =>
  execute && (isUser(attempt) ? user : !(user && smep));

/**
 * Whether the page's protection key forbids the access: only data accesses, to user pages by PKRU at any privilege, to supervisor
 * pages by IA32_PKRS (user accesses to those fail without a look at their key). Write-disable binds supervisors under CR0.WP.
 */
function isKeyForbidden(paging: Paging, attempt: Attempt, { rights, key }: Page): boolean {
  if (attempt.kind === 'fetch' || (isUser(attempt) && !rights.user)) return false;
  const keys = rights.user ? paging.userKeys : paging.supervisorKeys;
  if (keys === undefined) return false;
  const accessDisabled = field(keys, 2 * key, 1) === 1;
  const writeDisabled = field(keys, 2 * key + 1, 1) === 1;
  return accessDisabled || (writeDisabled && isWrite(attempt) && (isUser(attempt) || paging.writeProtect));
}

/** Why there is a page fault. forbidden: the translation exists, but not for this access; `byKey` if its key forbids it too. */
export type Cause =
  { readonly kind: 'absent' } | { readonly kind: 'reserved' } | { readonly kind: 'forbidden'; readonly byKey: boolean };

/** Whether the rights of a page allow an access. */
function mayAccess(paging: Paging, attempt: Attempt, rights: Rights): boolean {
  switch (attempt.kind) {
    case 'read':
      return mayTouch(paging, attempt, rights);
    case 'write':
    case 'readModifyWrite':
      return mayWrite(paging, attempt, rights);
    case 'fetch':
      return mayFetch(paging, attempt, rights);
  }
}

/** Why the access to `page` faults, or undefined if it may proceed. */
export function forbids(paging: Paging, attempt: Attempt, page: Page): Cause | undefined {
  const may = mayAccess(paging, attempt, page.rights);
  const byKey = isKeyForbidden(paging, attempt, page);
  return may && !byKey ? undefined : { kind: 'forbidden', byKey };
}

export const ERROR_PRESENT: number = bit(0);
export const ERROR_WRITE: number = bit(1);
export const ERROR_USER: number = bit(2);
export const ERROR_RESERVED: number = bit(3);
const ERROR_FETCH = bit(4);
const ERROR_KEY = bit(5);

/**
 * The error code: bits 0, 3 and 5 tell the cause, the others the access. A reserved bit can be found only in a present entry, so
 * bit 3 comes with bit 0. Bit 5 is set whenever the key forbids the access, whatever else does. An instruction fetch is told
 * from a read only where one of NXE and SMEP is in use.
 */
export function errorCode(paging: Paging, attempt: Attempt, cause: Cause): number {
  const tellsFetch = attempt.kind === 'fetch' && (paging.executeDisable || paging.smep);
  const access =
    (isWrite(attempt) ? ERROR_WRITE : 0) + (isUser(attempt) ? ERROR_USER : 0) + (tellsFetch ? ERROR_FETCH : 0);
  switch (cause.kind) {
    case 'absent':
      return access;
    case 'reserved':
      return access + ERROR_PRESENT + ERROR_RESERVED;
    case 'forbidden':
      return access + ERROR_PRESENT + (cause.byKey ? ERROR_KEY : 0);
  }
}
