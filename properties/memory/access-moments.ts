// How accesses meet what a listener has kept, in states that must be reached: each is recognised by an access whose vCPU has its paging off,
// so that it names the gfn itself. A first reader may read the sentences alone.

import type { Gfn } from '#abi/address.ts';
import { UNRESTRICTED } from '#abi/hap.ts';
import type { Invariant } from '#abi/invariants.ts';
import type { Status } from '#abi/reply.ts';
import { without } from '#lib/bits.ts';
import { isMalformedKind } from '#model/entitlement.ts';
import { rightsOfEntry } from '#model/p2m.ts';
import { linearContext } from '#model/paging/context.ts';
import type { Domain, Entry } from '#model/state.ts';
import type { Returned } from '../harness/view.ts';

/** An access to a gfn of which something was kept, and whose it is. */
interface Met {
  readonly domain: Domain;
  readonly entry: Entry;
  readonly status: Status;
  readonly log: Returned['log'];
}

function metIn({ agent, op, before, reply, log }: Returned): Met | undefined {
  if (agent.kind !== 'vcpu' || !('via' in op) || linearContext(before, agent) !== undefined) return undefined;
  const domain = before.domains.get(agent.domain);
  const entry = domain?.p2m.get(op.gfn as Gfn);
  if (domain === undefined || entry === undefined || entry.access === UNRESTRICTED) return undefined;
  return { domain, entry, status: reply.status, log };
}

const isMadeAgain = ({ status, log }: Met): boolean =>
  status === 'ok' && log.some(({ choice }) => choice.kind === 'retried');

const givesWay = ({ access }: Entry): boolean => access === 'rx2rw' || access === 'n2rwx';

/** Whether a processor remembers more rights than have been left. */
const isRemembered = ({ entry, log }: Met): boolean =>
  log.some(
    ({ choice }) =>
      choice.kind === 'cached' && choice.mfn === entry.mfn && without(choice.rights, rightsOfEntry(entry)) !== 0,
  );

/** A state that must be reached, and how an operation shows it. */
export interface Sentence {
  readonly id: string;
  readonly invariant: Invariant;
  readonly statement: string;
  readonly isShown: (returned: Returned) => boolean;
}

const met = (id: string, invariant: Invariant, statement: string, is: (met: Met) => boolean): Sentence => ({
  id: `memory/${id}`,
  invariant,
  statement,
  isShown: (returned) => {
    const found = metIn(returned);
    return found !== undefined && is(found);
  },
});

export const accessMoments: readonly Sentence[] = [
  met('keptAccessesWait', 'OWN', 'An access to what a listener has kept waits for its answer.', ({ domain, entry, status }) =>
    status === 'ERESTART' && domain.watch.listens && !givesWay(entry) && !isMalformedKind(entry.type, entry.access)), // prettier-ignore
  met('keptRightsGiveWay', 'OWN', 'Rights that were kept give way to an access by themselves.', (one) =>
    isMadeAgain(one) && givesWay(one.entry) && one.domain.watch.listens), // prettier-ignore
  met('keptRightsGoWithTheirListener', 'OWN', 'Rights that were kept are given back at an access, for nobody listens.', (one) =>
    isMadeAgain(one) && !givesWay(one.entry) && !one.domain.watch.listens), // prettier-ignore
  met('guestsAreStoppedForWhatWasKept', 'OWN', 'A guest is stopped at what was kept: nobody listens though somebody has to, or its entry is malformed.', ({ domain, entry, status }) =>
    status === 'ERESTART' && ((!domain.watch.listens && domain.watch.required) || isMalformedKind(entry.type, entry.access))), // prettier-ignore
  met('keptRightsAreRemembered', 'STALE', 'An access is answered from what a processor remembers of rights that have been kept since.', isRemembered), // prettier-ignore
];
