// The theorem on one screen: what any agent can reach in any machine frame, at every micro-step, lies within `authority`;
// and what is `owed` stays reachable (to a paravirtual guest nothing is: its tables are its own). Both are functions of the model's state alone. Reach is computed elsewhere, from the
// bytes of the tables and the contents of the caches (hap/walk.ts says what they mean).

import type { DomId, Gfn, Mfn, PcpuId } from '#abi/address.ts';
import { isDeviceFrame } from '#abi/geometry.ts';
import { RIGHT } from '#abi/rights.ts';
import { isGiven, mayMapFramesOf, mayReachDevice, rightsOfFrame, visibleAs } from './entitlement.ts';
import { lentTo } from './grants/lent.ts';
import { rightsOfEntry } from './p2m.ts';
import { frameOf, isParavirtual, type Domain, type Entry, type Frame, type State } from './state.ts';

/** Every reason for which a domain may reach a frame. */
export const reasons = ['own', 'special', 'grant', 'foreign', 'mmio', 'stale'] as const;

/** `domain` may reach the frame at `gfn` with `rights`: everywhere, or (stale) only from what `pcpus` remember. */
export interface Justification {
  readonly domain: DomId;
  readonly gfn: Gfn;
  readonly rights: number;
  readonly why: (typeof reasons)[number];
  readonly pcpus: readonly PcpuId[];
}

/** Whether the use of a grant stands behind such an entry, and the frame's owner has given what is used. */
function isGranted(state: State, frame: Frame, to: { domain: DomId; entry: Entry }): boolean {
  const { mfn, type } = to.entry;
  const granter = frame.owner === undefined ? undefined : state.domains.get(frame.owner);
  if (granter === undefined) return false;
  return granter.grants.active.some(
    (active) =>
      active.domain === to.domain &&
      active.mfn === mfn &&
      (type === 'grantRw' ? active.hstw : active.hstr) > 0 &&
      active.ground.meant?.incarnation === frame.incarnation &&
      isGiven(granter.id, active),
  );
}

/** Why the entry gives the frame to the domain; undefined: nothing justifies it. */
function reasonFor(state: State, domain: Domain, entry: Entry): Justification['why'] | undefined {
  const frame = frameOf(state, entry.mfn);
  const { type } = entry;
  if (entry.incarnation !== frame.incarnation) return undefined;
  if (type === 'grantRw' || type === 'grantRo')
    return isGranted(state, frame, { domain: domain.id, entry }) ? 'grant' : undefined;
  if (type === 'foreign') return mayMapFramesOf(domain, frame.owner) && frame.refs > 0 ? 'foreign' : undefined;
  if (type === 'mmioDirect') return mayReachDevice(state.geometry, domain, entry.mfn) ? 'mmio' : undefined;
  const isRam = type === 'ramRw' || type === 'ramRo' || type === 'ramLogDirty';
  return isRam && frame.owner === domain.id ? visibleAs[frame.role] : undefined;
}

const NOTHING: readonly Justification[] = [];
const EVERYWHERE: readonly PcpuId[] = [];

/** What the P2Ms say of frame `mfn`, as far as it is justified: this must be reachable. */
export function owed(state: State, mfn: Mfn): readonly Justification[] {
  const { mappings } = frameOf(state, mfn);
  if (mappings.length === 0) return NOTHING;
  const found: Justification[] = [];
  for (const { domain: id, gfn } of mappings) {
    const domain = state.domains.get(id);
    const entry = domain?.p2m.get(gfn);
    if (domain === undefined || entry === undefined) continue;
    const why = reasonFor(state, domain, entry);
    if (why !== undefined) found.push({ domain: id, gfn, rights: rightsOfEntry(entry), why, pcpus: EVERYWHERE });
  }
  return found;
}

/** What was there and has not been invalidated yet. */
function remembered(state: State, mfn: Mfn): readonly Justification[] {
  const { incarnation } = frameOf(state, mfn);
  const found: Justification[] = [];
  state.domains.forEach(({ id, stale }) => {
    for (const one of stale)
      if (one.mfn === mfn && one.incarnation === incarnation)
        found.push({ domain: id, gfn: one.gfn, rights: one.rights, why: 'stale', pcpus: one.pcpus });
  });
  return found;
}

/** What a paravirtual guest calls a frame in its tables: the frame. */
const asGfn = (mfn: Mfn): Gfn => mfn as number as Gfn;

const DEVICE = RIGHT.read + RIGHT.write + RIGHT.execute;

/** What paravirtual guests may do with a frame of somebody else's: it was granted. */
const lent = (state: State, mfn: Mfn): readonly Justification[] =>
  lentTo(state, mfn).map(({ domain, rights }) => {
    return { domain, gfn: asGfn(mfn), rights, why: 'grant', pcpus: EVERYWHERE };
  });

/** What they may do with any frame, whether or not their tables lead there: its owner by what it is used as. */
function permitted(state: State, mfn: Mfn): readonly Justification[] {
  const { owner, role, type } = frameOf(state, mfn);
  const why = visibleAs[role];
  if (owner !== undefined && why !== undefined && isParavirtual(state, owner))
    return [
      { domain: owner, gfn: asGfn(mfn), rights: rightsOfFrame(type, state.policies), why, pcpus: EVERYWHERE },
      ...lent(state, mfn),
    ];
  if (owner !== undefined) return lent(state, mfn);
  if (!isDeviceFrame(state.geometry, mfn)) return NOTHING;
  return state.domains
    .values()
    .filter((domain) => domain.kind === 'pv' && mayReachDevice(state.geometry, domain, mfn))
    .map(({ id }) => ({ domain: id, gfn: asGfn(mfn), rights: DEVICE, why: 'mmio', pcpus: EVERYWHERE }));
}

/** Everything that justifies reaching frame `mfn`: what is owed or permitted, and what was and has not been invalidated yet. */
export const authority = (state: State, mfn: Mfn, due = owed(state, mfn)): readonly Justification[] => [
  ...due,
  ...permitted(state, mfn),
  ...remembered(state, mfn),
];
