// The theorem on one screen: what any agent can reach in any machine frame, at every micro-step, lies within `authority`;
// and what is `owed` stays reachable. Both are functions of the model's state alone. Reach is computed elsewhere, from the
// bytes of the tables and the contents of the caches (hap/walk.ts says what they mean).

import type { DomId, Gfn, Mfn, PcpuId } from '#abi/address.ts';
import { guestVisibleRoles } from '#abi/roles.ts';
import { rightsOfEntry } from './p2m.ts';
import { entryOf, frameOf, type Domain, type Entry, type Frame, type Place, type State } from './state.ts';

/** Every reason for which a domain may reach a frame. */
export const reasons = ['own', 'special', 'grant', 'foreign', 'stale'] as const;

/** `domain` may reach the frame at `gfn` with `rights`: everywhere, or (stale) only from what `pcpus` remember. */
export interface Justification {
  readonly domain: DomId;
  readonly gfn: Gfn;
  readonly rights: number;
  readonly why: (typeof reasons)[number];
  readonly pcpus: readonly PcpuId[];
}

/** Whether the frame's owner has granted it to `domain` for such an entry, and the use is pinned. */
function isGranted(state: State, frame: Frame, to: Place & Entry): boolean {
  const granter = frame.owner === undefined ? undefined : state.domains.get(frame.owner);
  const isPinned = (pins: { hstr: number; hstw: number }): boolean =>
    (to.type === 'grantRw' ? pins.hstw : pins.hstr) > 0;
  return (granter?.grants.active.values() ?? []).some(
    (active) => active.domain === to.domain && active.mfn === to.mfn && isPinned(active),
  );
}

/** Why the entry gives the frame to the domain; undefined: nothing justifies it. */
function reasonFor(state: State, domain: Domain, at: Place & Entry): Justification['why'] | undefined {
  const frame = frameOf(state, at.mfn);
  const { type } = at;
  if (type === 'grantRw' || type === 'grantRo') return isGranted(state, frame, at) ? 'grant' : undefined;
  if (type === 'foreign') return domain.kind === 'control' && frame.refs > 0 ? 'foreign' : undefined;
  const isOwn = frame.owner === domain.id && guestVisibleRoles.includes(frame.role);
  if (!isOwn || type === 'mmioDirect' || type === 'none') return undefined;
  return frame.role === 'ram' ? 'own' : 'special';
}

/** What the P2Ms say of frame `mfn`, as far as it is justified: this must be reachable. */
export function owed(state: State, mfn: Mfn): readonly Justification[] {
  return frameOf(state, mfn).mappings.flatMap((place) => {
    const domain = state.domains.get(place.domain);
    const entry = entryOf(state, place.domain, place.gfn);
    const why = domain && entry && reasonFor(state, domain, { ...place, ...entry });
    return why === undefined || entry === undefined ? [] : [{ ...place, rights: rightsOfEntry(entry), why, pcpus: [] }];
  });
}

/** Everything that justifies reaching frame `mfn`: what is owed, and what was and has not been invalidated yet. */
export function authority(state: State, mfn: Mfn): readonly Justification[] {
  const { incarnation } = frameOf(state, mfn);
  const stale: Justification[] = [];
  state.domains.forEach(({ id, stale: list }) => {
    for (const one of list) {
      if (one.mfn !== mfn || one.incarnation !== incarnation) continue;
      stale.push({ domain: id, gfn: one.gfn, rights: one.rights, why: 'stale', pcpus: one.pcpus });
    }
  });
  return [...owed(state, mfn), ...stale];
}
