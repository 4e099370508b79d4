// Where Xen is known to differ from the model: one table of named rules. A rule either leaves a step out, or corrects what is
// compared after it. Each has a reason with its source and, in corpus/directed.gz, a sequence on which Xen and the model
// differ without it: when they no longer do, the rule has had its day (rules.test.ts for what is recorded, the live oracle for
// the hypervisor at hand). A first reader needs the reasons only.

import { DOMID_CONTROL, type DomId, INVALID_GFN } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { geometries, gfnCount } from '#abi/geometry.ts';
import type { Op } from '#abi/operation.ts';
import { RIGHT } from '#abi/rights.ts';
import { hasAll } from '#lib/bits.ts';
import { rightsOfEntry } from '#model/p2m.ts';
import { domainNamed, entryOf, frameOf, type State } from '#model/state.ts';
import { pieces, readBytes, wordOf } from '#model/words.ts';

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

const callerOf = (agent: Agent): DomId | undefined => (agent.kind === 'vcpu' ? agent.domain : undefined);

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

/** The gfns that an operation lists, in registers or in flat memory of its caller. */
function listed({ state, agent, op }: Situation): readonly number[] {
  if (!('extents' in op)) return [];
  const { extents } = op;
  if (extents.by === 'value') return extents.gfns;
  const { buffer } = extents;
  if (buffer.in !== 'guest' || agent.kind !== 'vcpu') return [];
  return Array.from({ length: extents.count }, (_, i) => {
    const bytes = pieces(state, { gfn: buffer.gfn, offset: buffer.offset + 8 * i }, 8).flatMap((piece) => {
      const entry = entryOf(state, agent.domain, piece.gfn);
      return entry === undefined ? [] : readBytes(state, { mfn: entry.mfn, offset: piece.offset }, piece.count);
    });
    const { lo, hi } = wordOf(bytes);
    return hi * 2 ** 32 + lo;
  });
}

/** Whether an extent begins where the tables reach and ends where they do not. */
const straddlesEnd = (situation: Situation): boolean => {
  const { op } = situation;
  return op.kind === 'memory.populate' && listed(situation).some((gfn) => gfn < GFNS && gfn + 2 ** op.order > GFNS);
};

const isSpecialRole = (role: string): boolean => role === 'sharedInfo' || role === 'grantFrame';

/** Whether a page that Xen shows a domain would be taken from it like RAM. */
function decreasesSpecial(situation: Situation): boolean {
  const { state, agent, op } = situation;
  if (op.kind !== 'memory.decrease') return false;
  const target = domainNamed(state, op.target, callerOf(agent) ?? DOMID_CONTROL);
  if (target === undefined) return false;
  return listed(situation).some((gfn) =>
    target.p2m.keys().some((other) => {
      const mfn = target.p2m.get(other)?.mfn;
      const isMeant = other >= gfn && other < gfn + 2 ** op.order;
      return isMeant && mfn !== undefined && isSpecialRole(frameOf(state, mfn).role);
    }),
  );
}

/** Whether an access goes over the border of two frames of which one refuses it. */
function isHalfRefused({ state, agent, op }: Situation): boolean {
  if (!('via' in op) || agent.kind !== 'vcpu') return false;
  const need = op.kind === 'paging.read' ? RIGHT.read : RIGHT.write;
  const given = pieces(state, op, op.size).map(({ gfn }) => {
    const entry = entryOf(state, agent.domain, gfn);
    return entry !== undefined && hasAll(rightsOfEntry(entry), need);
  });
  return new Set(given).size === 2;
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
    id: 'xen/straddleTables',
    effect: 'unasked',
    reason:
      'Of an extent that goes on beyond the tables Xen maps what lies within; the model maps nothing (arch/x86/mm/p2m.c, p2m_set_entry).',
    refuses: straddlesEnd,
  },
  {
    id: 'xen/decreaseSpecial',
    effect: 'unasked',
    reason:
      'Taken from its domain like RAM, a shared info or grant frame loses its own reference and can be mapped no more; in the model it only leaves its gfn (common/memory.c, guest_remove_page).',
    refuses: decreasesSpecial,
  },
  {
    id: 'xen/halfRefused',
    effect: 'unasked',
    reason:
      'An access over the border of two frames of which the nested tables refuse one is emulated half by half: the other half is done. To the model, as to a processor, it is one access (arch/x86/hvm/emulate.c, linear_read and linear_write).',
    refuses: isHalfRefused,
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
