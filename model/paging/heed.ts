// An access beyond what a listener has left of a gfn's rights. Some rights give way by themselves; with a listener the access waits until
// it is answered; without one the restriction goes, or the domain is stopped if one is required. What gave way is made again.
// An entry that leaves writing without reading is malformed: whoever meets it is stopped, or hears of an invalid opcode as a user.
// A first reader may skip nothing. Sources: Xen arch/x86/hvm/hvm.c (hvm_hap_nested_page_fault), arch/x86/mm/mem_access.c
// (p2m_mem_access_check), arch/x86/hvm/vmx/vmx.c (vmx_vmexit_handler: EPT misconfigurations, exit_and_crash).

import type { DomId, Gfn } from '#abi/address.ts';
import type { P2mAccess } from '#abi/hap.ts';
import type { AccessOp } from '#abi/paging.ts';
import { RIGHT } from '#abi/rights.ts';
import { hasAll } from '#lib/bits.ts';
import { failure, type Cut } from '../cut.ts';
import { isMalformedKind, rightsOfAccess } from '../entitlement.ts';
import { crash } from '../frames.ts';
import { setP2m } from '../p2m.ts';
import { at, end, go, type Task, type Turn } from '../progress.ts';
import { entryOf, isRamType, type State, type Watch } from '../state.ts';

type Use = Task<AccessOp<'concrete'>>;

/** Whether using `gfn` for `need` is kept from the domain by what was left. */
export function isKeptFrom(state: State, domain: DomId, { gfn, need }: { gfn: Gfn; need: number }): boolean {
  const entry = entryOf(state, domain, gfn);
  return entry !== undefined && !hasAll(rightsOfAccess[entry.access], need);
}

/** What whoever meets a malformed entry at `gfn` hears; undefined: it is none. */
export function meetMalformed(cut: Cut, { op }: Use, { domain, gfn }: { domain: DomId; gfn: Gfn }): Turn | undefined {
  const entry = entryOf(cut.state, domain, gfn);
  if (entry === undefined || !isMalformedKind(entry.type, entry.access)) return undefined;
  return op.as === 'user' ? end(cut, 'invalidOpcode') : end(at(cut, crash(cut.state, domain)), 'ERESTART');
}

/** What becomes of an access; undefined: it has to be answered. */
interface Answer {
  /** What is left from now on. */
  readonly leaves: P2mAccess;
  /** Whether the domain is stopped for it. */
  readonly stops: boolean;
  /** Whether the type of memory is asked next, as if nothing had been kept. */
  readonly goesOn: boolean;
}

function answerTo(access: P2mAccess, need: number, { listens, required }: Watch): Answer | undefined {
  if (access === 'rx2rw' && hasAll(need, RIGHT.write)) return { leaves: 'rw', stops: false, goesOn: false };
  const stops = !listens && required;
  if (access === 'n2rwx') return { leaves: 'rwx', stops, goesOn: listens || required };
  if (listens) return undefined;
  return stops ? { leaves: access, stops, goesOn: true } : { leaves: 'rwx', stops, goesOn: false };
}

/** One micro-step. `work.handle`: the rights that the access needs. */
export function heed(cut: Cut, task: Use, domain: DomId): Turn {
  const { gfn, handle: need } = task.work;
  const entry = entryOf(cut.state, domain, gfn);
  const watch = cut.state.domains.get(domain)?.watch;
  if (entry === undefined || watch === undefined || !isKeptFrom(cut.state, domain, { gfn, need }))
    return go(cut, task, { at: 'complete' });
  const answer = answerTo(entry.access, need, watch);
  if (answer === undefined) return end(cut, 'ERESTART');
  const { mfn, type, access } = entry;
  const { leaves, stops, goesOn } = answer;
  const failed = leaves === access ? undefined : failure(cut, { class: 'pool', domain });
  const left = failed ?? at(cut, setP2m(cut.state, { domain, gfn }, { mfn, type, access: leaves }));
  if (failed !== undefined && !stops) return end(failed, 'ERESTART');
  const after = stops ? at(left, crash(left.state, domain)) : left;
  const isMarked = goesOn && hasAll(need, RIGHT.write) && isRamType(type) && type !== 'ramRo';
  return go(after, task, { at: isMarked ? 'mark' : 'complete' });
}
