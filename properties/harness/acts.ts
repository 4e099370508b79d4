// Law ACT: every load and store of the hypervisor is judged when it happens: in whose name, for what, on which frame. A
// guest's act lies within that guest's authority, an internal one within the role of the frame: no confused deputy.
// A first reader may skip the search for a grant.

import type { Principal } from '#abi/acts.ts';
import { grantsPerFrame } from '#abi/geometry.ts';
import type { Mechanism } from '#abi/operation.ts';
import { RIGHT } from '#abi/rights.ts';
import { frameRoles } from '#abi/roles.ts';
import { frameTypes, isTrusted } from '#abi/pv.ts';
import { and } from '#lib/bits.ts';
import { refsOf } from '#impl/layout.ts';
import type { Machine } from '#impl/machine.ts';
import type { ActWatcher } from '#impl/port.ts';
import { visibleAs } from '#model/entitlement.ts';
import { isDirect } from './direct-reach.ts';
import { EntriesAsked } from './entries-asked.ts';
import type { Problem } from './law.ts';
import type { Reach } from './reach.ts';

/** Judges the acts of one machine. */
export class ActJudge {
  readonly #m: Machine;
  readonly #reach: () => Reach;
  /** What was gone through, and should have been asked at. */
  readonly asked: EntriesAsked;
  #problems: Problem[] = [];
  /** The active entry that justified an act last: most acts of a copy are justified alike. */
  #lastGrant = -1;

  constructor(m: Machine, reach: () => Reach) {
    this.#m = m;
    this.asked = new EntriesAsked(m);
    this.#reach = reach;
  }

  /** To be set as the port's watcher. */
  readonly watch: ActWatcher = (who, verb, at) => {
    const { mfn } = at;
    if (who.purpose === 'table' && verb === 'load') this.asked.note(at);
    const reason = this.#objection(who, verb, mfn);
    if (reason === undefined || this.#problems.length > 0) return;
    const role = frameRoles[this.#m.f.frameRole.get(mfn)] ?? 'free';
    this.#problems.push({
      invariant: 'ACT',
      mechanism: this.#mechanismOf(who),
      field: `act.${who.purpose}.${verb}.${role}`,
      sentence: `a ${verb} for ${who.purpose} in the name of ${who.domain === undefined ? 'the hypervisor' : `d${who.domain}`} touches frame ${mfn} (${role}): ${reason}`,
    });
  };

  /** Whether something was found since then. */
  get objects(): boolean {
    return this.#problems.length > 0;
  }

  /** What was found since the last call. */
  take(): readonly Problem[] {
    const found = this.#problems;
    if (found.length > 0) this.#problems = [];
    return found;
  }

  #mechanismOf({ purpose, domain }: Principal): Mechanism {
    if (purpose === 'table') return domain !== undefined && isDirect(this.#m, domain) ? 'pv' : 'hap';
    return purpose === 'grantEntry' ? 'grants' : 'memory';
  }

  #objection(who: Principal, verb: 'load' | 'store', mfn: number): string | undefined {
    const { f, geometry } = this.#m;
    if (!(mfn >= 0 && mfn < geometry.frameCount)) return 'there is no such frame';
    const role = frameRoles[f.frameRole.get(mfn)];
    const owner = f.frameOwner.get(mfn) - 1;
    switch (who.purpose) {
      case 'table':
        return this.#isTable(who.domain, mfn) ? undefined : 'it is no table of that domain';
      case 'reclaim':
        return role === 'ram' && (verb === 'load' ? owner === who.domain : f.podSize.get(mfn) !== 0)
          ? undefined
          : 'it is not set aside for memory on demand';
      case 'grantEntry':
        return role === 'grantFrame' && owner === who.domain ? undefined : 'it is no grant frame of that domain';
      case 'scrub':
        return role === 'free' ? undefined : 'it is in use';
      case 'internal':
        return role === 'xen' || role === 'sharedInfo' || role === 'grantFrame' || role === 'pool' || role === 'free'
          ? undefined
          : 'it is not the hypervisor\'s'; // prettier-ignore
      case 'guest':
        return this.#isReached(who.domain ?? -1, verb, mfn) ? undefined : 'that domain has no authority over it';
    }
  }

  /** A table in the pool of a domain, or a frame that is typed as one. */
  #isTable(domain: number | undefined, mfn: number): boolean {
    const { f } = this.#m;
    const owner = f.frameOwner.get(mfn) - 1;
    const role = frameRoles[f.frameRole.get(mfn)];
    if (role === 'pool') return domain === undefined || owner === domain;
    const type = frameTypes[f.frameType.get(mfn)] ?? 'none';
    return role === 'ram' && owner === domain && isTrusted(type);
  }

  #isReached(domain: number, verb: 'load' | 'store', mfn: number): boolean {
    const { f } = this.#m;
    const role = frameRoles[f.frameRole.get(mfn)];
    if (role === undefined || visibleAs[role] === undefined) return false;
    const owner = f.frameOwner.get(mfn) - 1;
    // Who serves a paravirtual guest may write its memory, but nobody its tables, not even in the guest's own name.
    const isTyped = verb === 'load' || frameTypes[f.frameType.get(mfn)] === 'writable';
    if (isDirect(this.#m, owner) && (!isTyped || domain === owner || domain === 0))
      return isTyped && (owner === domain || domain === 0);
    if (owner === domain) return true;
    const wanted = verb === 'store' ? RIGHT.write : RIGHT.read;
    for (const leaf of this.#reach().leavesOf(mfn))
      if (leaf.domain === domain && and(leaf.rights, wanted) === wanted) return true;
    return this.#isGranted(domain, verb, mfn);
  }

  #isGranted(domain: number, verb: 'load' | 'store', mfn: number): boolean {
    const { f, geometry } = this.#m;
    if (this.#grants(this.#lastGrant, { domain, verb, mfn })) return true;
    const owner = f.frameOwner.get(mfn) - 1;
    if (owner < 0) return false;
    const count = f.grantFrameCount.get(owner) * grantsPerFrame(geometry);
    for (let ref = 0; ref < count; ref += 1) {
      const key = owner * refsOf(geometry) + ref;
      if (!this.#grants(key, { domain, verb, mfn })) continue;
      this.#lastGrant = key;
      return true;
    }
    return false;
  }

  /** Whether the active entry at `key` is pinned by `domain` for this. */
  #grants(key: number, act: { domain: number; verb: 'load' | 'store'; mfn: number }): boolean {
    const { f } = this.#m;
    if (key < 0 || f.activeMfn.get(key) !== act.mfn || f.activeDomain.get(key) !== act.domain + 1) return false;
    const writers = f.activeHostWrite.get(key) + f.activeDeviceWrite.get(key);
    return writers > 0 || (act.verb === 'load' && f.activeHostRead.get(key) + f.activeDeviceRead.get(key) > 0);
  }
}
