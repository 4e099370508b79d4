// What a vCPU's processor may remember of the guest's own tables: everything that was loaded, until a rule of the manual has it
// forgotten. The set belongs to the vCPU and not to a pCPU: whatever the hypervisor does with VPIDs and ASIDs, what a vCPU has
// invalidated must not come back when it moves, and what another vCPU loaded must never serve it.
// A first reader may read the rules at the end alone.
// Sources: Intel SDM vol. 3A, "Caching Translation Information", "Operations that Invalidate TLBs and Paging-Structure Caches",
// "Details of TLB Use" (a page may be cached in pieces), "Global Pages"; vol. 3C, "VPIDs and Combined Mappings".

import { framesPerLeaf, type Geometry } from '#abi/geometry.ts';
import type { Control } from '#abi/paging.ts';
import { RIGHT, walkRight } from '#abi/rights.ts';
import { hasAll, pow2 } from '#lib/bits.ts';
import { RIGHT_BITS } from '../paging/rights.ts';
import type { Context, Loaded } from '../state.ts';

/** Linear frames are compared as tables translate them. */
const inTables = ({ levels, bitsPerLevel }: Geometry, page: number): number => page % pow2(levels * bitsPerLevel);

const isSame = (a: Loaded, b: Loaded): boolean =>
  a.leaf === b.leaf &&
  a.level === b.level &&
  a.page === b.page &&
  a.gfn === b.gfn &&
  a.mfn === b.mfn &&
  a.rights === b.rights &&
  a.guest === b.guest &&
  a.dirty === b.dirty &&
  a.global === b.global &&
  a.pcid === b.pcid &&
  a.root === b.root;

/** What a remembered entry lets its processor do with the frame that it leads to. */
export function needOf({ leaf, level, guest }: Loaded): number {
  if (!leaf) return walkRight(level - 1);
  const write = hasAll(guest, RIGHT_BITS.write) ? RIGHT.write : 0;
  return RIGHT.read + write + (hasAll(guest, RIGHT_BITS.execute) ? RIGHT.execute : 0);
}

/** `loaded` with what it does not have yet. */
export function remember(loaded: readonly Loaded[], more: readonly Loaded[]): readonly Loaded[] {
  const fresh = more.filter((one) => !loaded.some((known) => isSame(known, one)));
  return fresh.length === 0 ? loaded : [...loaded, ...fresh];
}

/** Whether an entry serves the context's present PCID. */
const serves = ({ pcid }: Pick<Context, 'pcid'>, one: Loaded): boolean => one.global || one.pcid === pcid;

/** Whether `one` is of the page that `page` lies in, all its pieces included, or leads from an entry above it. */
function covers(geometry: Geometry, one: Loaded, page: number): boolean {
  const span = framesPerLeaf(geometry, one.level);
  const first = one.page - (one.page % span);
  const at = inTables(geometry, page);
  return at >= first && at < first + span;
}

/** What may answer for a linear frame: the very piece, or an entry above it. */
export const answering = (geometry: Geometry, context: Context, page: number): readonly Loaded[] =>
  context.loaded.filter(
    (one) => serves(context, one) && (one.leaf ? one.page === inTables(geometry, page) : covers(geometry, one, page)),
  );

type Rule = (one: Loaded) => boolean;

/** `context` without what `isGone` names. */
function forget(context: Context, isGone: Rule): Context {
  const loaded = context.loaded.filter((one) => !isGone(one));
  return loaded.length === context.loaded.length ? context : { ...context, loaded };
}

/** INVLPG: the page in the present PCID and as a global one; and all entries above pages in the present PCID. */
export const invalidatePage = (geometry: Geometry, context: Context, page: number): Context =>
  forget(context, (one) =>
    one.leaf ? serves(context, one) && covers(geometry, one, page) : one.pcid === context.pcid,
  );

/** A page fault: what would be used for the address, in the present PCID. */
export const afterFault = (geometry: Geometry, context: Context, page: number): Context =>
  forget(context, (one) => serves(context, one) && covers(geometry, one, page));

/** INVPCID of one address: what would be used for it under the PCID, but for globals. */
export const invalidateAddress = (geometry: Geometry, context: Context, of: { pcid: number; page: number }): Context =>
  forget(context, (one) => !one.global && one.pcid === of.pcid && covers(geometry, one, of.page));

/** INVPCID of one PCID, and MOV to CR3: all of it but globals. */
export const invalidatePcid = (context: Context, pcid: number): Context =>
  forget(context, (one) => !one.global && one.pcid === pcid);

export const invalidateAllButGlobals = (context: Context): Context => forget(context, (one) => !one.global);

export const invalidateEverything = (context: Context): Context => forget(context, () => true);

/** What turning a control does: CR0.PG off, CR4.PGE either way, CR4.PCIDE off: all; CR4.SMEP on: the present PCID. */
export function afterControl(context: Context, control: Control, isTurnedOn: boolean): Context {
  if (control === 'globalPages' || (!isTurnedOn && (control === 'paging' || control === 'pcids')))
    return invalidateEverything(context);
  return control === 'smep' && isTurnedOn ? invalidatePcid(context, context.pcid) : context;
}
