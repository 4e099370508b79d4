// The P2M and what outlives its changes: the one function that changes an entry, and the three ways in which a stale
// translation goes (a flush, the settling of the operation that made it, its pCPU leaving or entering the domain).
// It is the same under EPT and NPT. A first reader may skip the list handling. Sources: Xen mm/p2m-ept.c (ept_set_entry,
// ept_sync_domain), mm/p2m-pt.c (p2m_pt_set_entry), mm/p2m.c.

import type { DomId, Gfn, Mfn, PcpuId } from '#abi/address.ts';
import type { Logged } from '#abi/choices.ts';
import type { P2mAccess } from '#abi/hap.ts';
import { hasAll } from '#lib/bits.ts';
import { rightsOfKind } from './entitlement.ts';
import { withoutDemand } from './pod.ts';
import {
  entryOf,
  frameOf,
  isParavirtual,
  pcpusRunning,
  withDomain,
  withFrame,
  type Entry,
  type Stale,
  type State,
} from './state.ts';

/** A stale translation and whose it is. */
export interface Debt {
  readonly domain: DomId;
  readonly stale: Stale;
}

/** The rights that an entry gives its domain. */
export const rightsOfEntry = ({ type, access }: Pick<Entry, 'type' | 'access'>): number => rightsOfKind(type, access);

const sameTranslation = (a: Stale, b: Stale): boolean =>
  a.gfn === b.gfn && a.mfn === b.mfn && a.incarnation === b.incarnation && a.rights === b.rights;

/** Who runs `domain` may go on using what gave it these rights on a frame. */
export function outlive(
  state: State,
  at: { domain: DomId; gfn: Gfn },
  { mfn, rights, incarnation }: Pick<Stale, 'mfn' | 'rights' | 'incarnation'>,
): State {
  const pcpus = pcpusRunning(state, at.domain);
  if (rights === 0 || pcpus.length === 0) return state;
  const stale: Stale = { gfn: at.gfn, mfn, rights, incarnation, pcpus, doubtful: false };
  const others = (state.domains.get(at.domain)?.stale ?? []).filter((other) => !sameTranslation(other, stale));
  return withDomain(state, at.domain, { stale: [...others, stale] });
}

/** Nobody uses anything any more that `domain` had of a frame in its present life. */
export function settleFrame(state: State, domain: DomId, mfn: Mfn): State {
  const stale = state.domains.get(domain)?.stale ?? NONE;
  const { incarnation } = frameOf(state, mfn);
  const rest = stale.filter((one) => one.mfn !== mfn || one.incarnation !== incarnation);
  return rest.length === stale.length ? state : withDomain(state, domain, { stale: rest });
}

/** Adds what processors may go on using now that `old` is replaced by `entry`. */
function remember(
  state: State,
  at: { domain: DomId; gfn: Gfn },
  change: { old: Entry; entry: Entry | undefined },
): State {
  const { old, entry } = change;
  const rights = rightsOfEntry(old);
  const isSame = entry !== undefined && entry.mfn === old.mfn && entry.incarnation === old.incarnation;
  const kept = isSame && hasAll(rightsOfEntry(entry), rights);
  return kept ? state : outlive(state, at, { mfn: old.mfn, rights, incarnation: old.incarnation });
}

/** What a gfn is to mean. `access` absent: what the domain's new entries leave. */
export interface Meant extends Omit<Entry, 'incarnation' | 'access'> {
  readonly access?: P2mAccess;
}

/** Lets `gfn` of `domain` mean `to` (undefined: nothing): P2M, its inverse and stale translations together. */
export function setP2m(state: State, at: { domain: DomId; gfn: Gfn }, to: Meant | undefined): State {
  const domain = state.domains.get(at.domain);
  if (domain === undefined) return state;
  const access = to?.access ?? domain.watch.leaves;
  const entry = to && { mfn: to.mfn, type: to.type, access, incarnation: frameOf(state, to.mfn).incarnation };
  const old = domain.p2m.get(at.gfn);
  let next = old === undefined ? state : remember(state, at, { old, entry });
  if (old !== undefined) {
    const rest = frameOf(next, old.mfn).mappings.filter((place) => place.domain !== at.domain || place.gfn !== at.gfn);
    next = withFrame(next, old.mfn, { mappings: rest });
  }
  if (entry === undefined) return withDomain(next, at.domain, { p2m: domain.p2m.delete(at.gfn) });
  next = withoutDemand(next, at.domain, { from: at.gfn, to: at.gfn + 1 });
  next = withFrame(next, entry.mfn, { mappings: [...frameOf(next, entry.mfn).mappings, at] });
  const maxGfn = Math.max(domain.maxGfn, at.gfn);
  return withDomain(next, at.domain, { p2m: domain.p2m.set(at.gfn, entry), maxGfn });
}

/** Where its owner sees the frame as RAM, or (paravirtual) says that it does; undefined: nowhere. */
export function ownGfn(state: State, mfn: Mfn): Gfn | undefined {
  const { owner, mappings, pseudo } = frameOf(state, mfn);
  if (isParavirtual(state, owner)) return pseudo;
  const isOwn = (type: string | undefined): boolean => type !== undefined && type.startsWith('ram');
  return mappings.find((place) => place.domain === owner && isOwn(entryOf(state, place.domain, place.gfn)?.type))?.gfn;
}

/** `domain`'s stale translations on `pcpu` are forgotten: an invalidation of everything it had there. */
export function flush(state: State, domain: DomId, pcpu: PcpuId): State {
  const stale = state.domains.get(domain)?.stale ?? [];
  if (!stale.some((one) => one.pcpus.includes(pcpu))) return state;
  const rest = stale.flatMap((one): readonly Stale[] => {
    if (!one.pcpus.includes(pcpu)) return [one];
    // Whether a debt was made before or after this flush is not told: it may be used, and need not be paid.
    const isThisLife = frameOf(state, one.mfn).incarnation === one.incarnation;
    if (mayKeep(state, one) && isThisLife) return [one.doubtful ? one : { ...one, doubtful: true }];
    const pcpus = one.pcpus.filter((other) => other !== pcpu);
    return pcpus.length === 0 ? [] : [{ ...one, pcpus }];
  });
  return rest.every((one, i) => one === stale[i]) && rest.length === stale.length
    ? state
    : withDomain(state, domain, { stale: rest });
}

/** `domain`'s stale translations are forgotten on every pCPU but those that `isKept` names. */
export function keepStale(state: State, domain: DomId, isKept: (pcpu: PcpuId) => boolean): State {
  const stale = state.domains.get(domain)?.stale ?? [];
  if (stale.every((one) => one.pcpus.every(isKept))) return state;
  const rest = stale.map((one) => (one.pcpus.every(isKept) ? one : { ...one, pcpus: one.pcpus.filter(isKept) }));
  return withDomain(state, domain, { stale: rest.filter((one) => one.pcpus.length > 0) });
}

/** Whether some processor surely may still use a translation to the present incarnation of `mfn`. */
export function hasDebt(state: State, mfn: Mfn): boolean {
  const { incarnation } = frameOf(state, mfn);
  const owes = (one: Stale): boolean => one.mfn === mfn && one.incarnation === incarnation && !one.doubtful;
  return state.domains.some(({ stale }) => stale.some(owes));
}

/**
 * An operation that keeps a debt and was flushed somewhere on its way: the log does not say whether before or after. So the
 * debt may be used, and need not be paid again. The rings of the processors are judged apart from this (properties/tlb).
 */
export function doubt(state: State, debts: readonly Debt[], log: readonly Logged[]): State {
  if (state.policies.flush !== 'lazy' || debts.length === 0) return state;
  const isFlushed = (domain: DomId, pcpu: PcpuId): boolean =>
    log.some(({ choice }) => choice.kind === 'flush' && choice.domain === domain && choice.pcpu === pcpu);
  return [...new Set(debts.map(({ domain }) => domain))].reduce((now, id) => {
    const stale = now.domains.get(id)?.stale ?? [];
    const doubted = stale.map((one) =>
      one.doubtful || !one.pcpus.every((pcpu) => isFlushed(id, pcpu)) ? one : { ...one, doubtful: true },
    );
    return doubted.every((one, i) => one === stale[i]) ? now : withDomain(now, id, { stale: doubted });
  }, state);
}

/** Under the lazy policy a frame on the heap keeps its debt to its next use. */
const mayKeep = (state: State, stale: Stale): boolean =>
  state.policies.flush === 'lazy' && frameOf(state, stale.mfn).role === 'free';

/** The contract of an operation: from here on nobody uses what it replaced. */
export function settle(state: State, debts: readonly Debt[]): State {
  let now = state;
  for (const id of new Set(debts.map(({ domain }) => domain))) {
    const stale = now.domains.get(id)?.stale ?? [];
    const isSettled = (one: Stale): boolean =>
      !mayKeep(state, one) && debts.some((debt) => debt.domain === id && sameTranslation(one, debt.stale));
    const rest = stale.filter((one) => !isSettled(one));
    if (rest.length < stale.length) now = withDomain(now, id, { stale: rest });
  }
  return now;
}

const isOpen = (state: State, debt: Debt): boolean =>
  (state.domains.get(debt.domain)?.stale ?? []).some((one) => sameTranslation(one, debt.stale));

/** Whether `one` says more than `known` did: a new translation, or more pCPUs that may use it. */
const isFresh = (known: readonly Stale[], one: Stale): boolean =>
  !known.some((other) => sameTranslation(one, other) && one.pcpus.every((pcpu) => other.pcpus.includes(pcpu)));

/** What an operation owes after a step from `before` to `after`: what is left of `debts`, and what the step made stale. */
export function debtsAfter(debts: readonly Debt[], before: State, after: State): readonly Debt[] {
  if (before.domains === after.domains) return debts;
  const fresh: Debt[] = [];
  let isChanged = false;
  after.domains.diff(before.domains, (_, now, old) => {
    const known = old?.stale ?? NONE;
    const stale = now?.stale ?? NONE;
    if (now === undefined || stale === known) return;
    isChanged = true;
    const firstOther = stale.findIndex((one, i) => one !== known[i]);
    const others = firstOther < 0 ? NONE : stale.slice(firstOther);
    for (const one of others) if (isFresh(known, one)) fresh.push({ domain: now.id, stale: one });
  });
  if (fresh.length > 0) return [...debts, ...fresh];
  return isChanged ? debts.filter((debt) => isOpen(after, debt)) : debts;
}

const NONE: readonly Stale[] = [];
