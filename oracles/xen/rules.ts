// Where Xen is known to differ from the model: one table of named rules. A rule either leaves a step out, or corrects what is
// compared after it. Each has a reason with its source and, in corpus/directed.json, a sequence on which Xen and the model
// differ without it: when they no longer do, the rule has had its day (rules.test.ts for what is recorded, the live oracle for
// the hypervisor at hand). A first reader needs the reasons only.

import { INVALID_GFN } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { geometries, gfnCount } from '#abi/geometry.ts';
import type { Op } from '#abi/operation.ts';
import { entryOf, type State } from '#model/state.ts';

/** What a rule is asked about: an operation about to be done, and how the model stands. */
export interface Situation {
  readonly state: State;
  readonly agent: Agent;
  readonly op: Op<'concrete'>;
}

/** One known difference. */
export interface Rule {
  readonly id: string;
  /** unasked: the step is left out. normalise: what is compared after it is corrected (compare.ts). */
  readonly effect: 'unasked' | 'normalise';
  /** What Xen does, what the model does, and where that is said. */
  readonly reason: string;
  /** unasked: whether the step is meant. */
  readonly refuses?: (situation: Situation) => boolean;
}

const GFNS = gfnCount(geometries.x86);

const callerOf = (agent: Agent): number | undefined => (agent.kind === 'vcpu' ? agent.domain : undefined);

/** Whether an element names a grant entry of the mapper that its handle did not make. */
function unmapsElsewhere({ state, agent, op }: Situation): boolean {
  const mapper = callerOf(agent);
  const domain = mapper === undefined ? undefined : state.domains.values().find(({ id }) => id === mapper);
  if (op.kind !== 'grants.unmap' || domain === undefined) return false;
  return op.elements.some(({ handle, gfn }) => {
    const mapped = domain.grants.handles.get(handle);
    const entry = entryOf(state, domain.id, gfn);
    return mapped !== undefined && mapped.gfn !== gfn && entry?.type.startsWith('grant') === true;
  });
}

/** Whether an entry is to be made that the tables cannot have, for a frame that may have to leave another gfn first. */
function movesBeyond({ op }: Situation): boolean {
  if (op.kind === 'memory.addToPhysmap') return op.gfn >= GFNS && op.gfn < INVALID_GFN;
  return op.kind === 'grants.map' && op.elements.some(({ gfn }) => gfn >= GFNS);
}

export const rules = [
  {
    id: 'xen/unmapElsewhere',
    effect: 'unasked',
    reason:
      'Any grant entry of the mapper that means the frame of the handle can be named to unmap; the model wants the one that the handle made (common/grant_table.c, unmap_common; arch/x86/mm.c, replace_grant_p2m_mapping).',
    refuses: unmapsElsewhere,
  },
  {
    id: 'xen/moveBeyondTables',
    effect: 'unasked',
    reason:
      'A gfn that the tables do not reach is found out last: the frame has left its old gfn by then, and the answer is ENOENT with NPT. The model answers EINVAL first (arch/x86/mm/p2m.c, xenmem_add_to_physmap_one and p2m_add_page; mm/p2m-pt.c, p2m_find_entry).',
    refuses: movesBeyond,
  },
  {
    id: 'xen/deadPages',
    effect: 'normalise',
    reason:
      'Shared info and grant frames of a dead domain have lost its own reference, though they are freed with the domain only; in the model they keep it until then (arch/x86/domain.c, domain_relinquish_resources).',
  },
] as const satisfies readonly Rule[];

export type RuleId = (typeof rules)[number]['id'];

/** The first rule by which a step is left out, other than `without`. */
export const ruleAgainst = (situation: Situation, without?: string): Rule | undefined =>
  rules.find((rule: Rule) => rule.id !== without && rule.refuses?.(situation) === true);
