// Whom a call is about, and whether its caller may manage that domain. Look-up comes first: who may not manage hears of an
// id that is not in use all the same.
// Sources: Xen common/domain.c (rcu_lock_domain_by_any_id), include/xsm/dummy.h (XSM_TARGET, XSM_CTRL).

import { DOMID_CONTROL, DOMID_INVALID, DOMID_SELF, type DomId } from '#abi/address.ts';
import { callerOf } from '#abi/agents.ts';
import type { Call } from '../execution.ts';
import { domKinds, domStates } from '../layout.ts';
import type { Machine } from '../machine.ts';

const NONE = domStates.indexOf('none');
const RUNNING = domStates.indexOf('running');

const PARAVIRTUAL = domKinds.indexOf('pv');

/** The domain in whose name a call is made; fate and the background have none. */
export const callerIn = (call: Call): DomId => callerOf(call.agent) ?? DOMID_INVALID;

/** Whether there is a domain `id`: running, dying, or dead and not yet buried. */
export const exists = (m: Machine, id: number): boolean =>
  id < m.geometry.capacity.domains && m.f.domState.get(id) !== NONE;

/** Whether domain `id`, which exists, is not being torn down. */
export const isAlive = (m: Machine, id: number): boolean => m.f.domState.get(id) === RUNNING;

/** Whether domain `id` is a paravirtual guest, whose processors walk its own tables and no others. */
export const isParavirtual = (m: Machine, id: number): boolean =>
  id >= 0 && id < m.geometry.capacity.domains && m.f.domKind.get(id) === PARAVIRTUAL;

/** Whether domain `id` executes: alive, unpaused, not crashed. */
export const isRunning = (m: Machine, id: number): boolean =>
  id < m.geometry.capacity.domains &&
  m.f.domState.get(id) === RUNNING &&
  m.f.domPauses.get(id) === 0 &&
  m.f.domHeld.get(id) === 0 &&
  m.f.domCrashed.get(id) === 0;

/** The domain a memory operation is about: managed by itself and by the control domain. */
export function targetOf(m: Machine, call: Call, target: DomId): DomId | 'ESRCH' | 'EPERM' {
  const caller = callerIn(call);
  const dom = target === DOMID_SELF ? caller : target;
  if (!exists(m, dom)) return 'ESRCH';
  return dom === caller || caller === DOMID_CONTROL ? dom : 'EPERM';
}

/** The domain that a life-and-death operation is about, by literal id: for the control domain alone. */
export function controlled(m: Machine, call: Call, target: DomId): DomId | 'ESRCH' | 'EPERM' {
  if (!exists(m, target)) return 'ESRCH';
  return callerIn(call) === DOMID_CONTROL ? target : 'EPERM';
}
