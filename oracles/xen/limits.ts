// What Xen is not asked because it cannot be: agents and choices that only the model has, memory of the control domain (a PV
// domain, which the model does not have yet), and what the guest here cannot reach. Rules about differences are in rules.ts.

import { DOMID_CONTROL, DOMID_SELF, type DomId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { operandsOf } from '#abi/fields.ts';
import { geometries } from '#abi/geometry.ts';
import type { Op } from '#abi/operation.ts';
import { readEntry } from '#model/grants/entry.ts';
import { domainNamed, entryOf, frameOf, type State } from '#model/state.ts';
import { HIDDEN_FRAMES, HIDDEN_GFN } from './place.ts';
import { ruleAgainst, type Situation } from './rules.ts';

const { capacity } = geometries.x86;

/** Kinds of operations that Xen has a call or a processor for. */
const kinds: ReadonlySet<Op<'concrete'>['kind']> = new Set([
  'memory.populate',
  'memory.increase',
  'memory.decrease',
  'memory.exchange',
  'memory.addToPhysmap',
  'memory.removeFromPhysmap',
  'memory.reservation',
  'memory.createDomain',
  'memory.pauseDomain',
  'memory.unpauseDomain',
  'memory.killDomain',
  'memory.setMaxPages',
  'grants.map',
  'grants.unmap',
  'grants.copy',
  'grants.query',
  'grants.setupTable',
  'paging.read',
  'paging.write',
  'paging.compareExchange',
]);

const batches: ReadonlySet<string> = new Set(['grants.map', 'grants.unmap', 'grants.copy']);

/** Sizes that one instruction has. */
const sizes: ReadonlySet<number> = new Set([1, 2, 4, 8]);

/** Whether something is said about the control domain's own memory. Address spaces that it does not have are refused to all. */
const isAboutControl = (agent: Agent, op: Op<'concrete'>): boolean =>
  'target' in op &&
  (agent.kind === 'toolstack'
    ? op.target === DOMID_SELF || op.target === DOMID_CONTROL
    : op.target === DOMID_CONTROL && (op.kind === 'memory.addToPhysmap' || op.kind === 'memory.removeFromPhysmap'));

function tooLong(op: Op<'concrete'>): boolean {
  if ('elements' in op) return op.elements.length > capacity.batch;
  if ('extents' in op) return (op.extents.by === 'value' ? op.extents.gfns.length : op.extents.count) > capacity.batch;
  if ('given' in op) return (op.given.by === 'value' ? op.given.gfns.length : op.given.count) > capacity.batch;
  return 'count' in op && op.count > capacity.batch;
}

/** gfns at which the caller has bytes or buffers, in a call of its own or an access. */
function reached(op: Op<'concrete'>): readonly number[] {
  const buffers = operandsOf(op).flatMap((one) => {
    if (one.type === 'buffer') return [one.value];
    return one.type === 'extents' && one.value.by === 'buffer' ? [one.value.buffer] : [];
  });
  const gfns = buffers.flatMap((buffer) => (buffer.in === 'guest' ? [buffer.gfn] : []));
  return 'via' in op ? [...gfns, op.gfn] : gfns;
}

/** Everything that an operation may do something to. */
const named = (op: Op<'concrete'>): readonly number[] =>
  operandsOf(op).flatMap((one) => {
    if (one.type === 'gfn') return [one.value];
    return one.type === 'extents' && one.value.by === 'value' ? one.value.gfns : [];
  });

/** Room for the offsets and the extents that may follow a gfn. */
const MARGIN = 600;

const isHidden = (gfn: number): boolean => gfn >= HIDDEN_GFN - MARGIN && gfn < HIDDEN_GFN + HIDDEN_FRAMES;

/** Whether a gfn of `domain` means a page that Xen writes the time into. */
const isClock = (state: State, domain: number, gfn: number): boolean => {
  const entry = entryOf(state, domain as DomId, gfn);
  return entry !== undefined && frameOf(state, entry.mfn).role === 'sharedInfo';
};

/** Whether bytes of a shared info page would be read: what is in there is not the model's. */
function readsClock({ state, agent, op }: Situation): boolean {
  if (agent.kind !== 'vcpu') return false;
  if (reached(op).some((gfn) => isClock(state, agent.domain, gfn) || isClock(state, agent.domain, gfn + 1)))
    return true;
  if (op.kind !== 'grants.copy') return false;
  return op.elements.some(({ sourceBy, sourceGfn, sourceDomain, sourceRef }) => {
    if (sourceBy === 'gfn') return isClock(state, agent.domain, sourceGfn);
    const granter = domainNamed(state, sourceDomain, agent.domain);
    const used = granter?.grants.active.get(sourceRef);
    if (used !== undefined) return frameOf(state, used.mfn).role === 'sharedInfo';
    return granter !== undefined && isClock(state, granter.id, readEntry(state, granter, sourceRef)?.gfn ?? -1);
  });
}

/** Why Xen is not asked this; undefined: it is. `without`: a rule that does not count. */
export function unasked({ state, agent, op }: Situation, without?: string): string | undefined {
  if (agent.kind !== 'vcpu' && agent.kind !== 'toolstack') return 'agents that only the model has';
  if (!kinds.has(op.kind)) return `${op.kind}: nothing of Xen's`;
  if (isAboutControl(agent, op)) return 'memory of the control domain';
  if (agent.kind === 'toolstack' && (batches.has(op.kind) || 'via' in op)) return 'the control domain as a guest';
  if (agent.kind === 'toolstack' && reached(op).length > 0) return 'memory of the control domain';
  if (op.kind === 'memory.exchange' && op.before > 0)
    return 'numbers near the end of 64 bits, which name memory outside of a list';
  if (tooLong(op)) return 'batches longer than the model takes';
  if (reached(op).some((gfn) => gfn >= HIDDEN_GFN - MARGIN)) return 'addresses that the guest cannot reach';
  if (readsClock({ state, agent, op })) return 'contents of shared info pages';
  if (named(op).some(isHidden)) return 'gfns of frames that the guest runs on';
  if ('via' in op && !sizes.has(op.size)) return 'sizes that no instruction has';
  if (op.kind === 'memory.createDomain' && agent.kind === 'toolstack') {
    const { target, vcpus, grantFrames } = op;
    const isBeyond =
      target >= capacity.domains || vcpus > capacity.vcpusPerDomain || grantFrames > capacity.grantFrames;
    if (isBeyond || grantFrames === 0) return 'capacities of the model';
  }
  const rule = ruleAgainst({ state, agent, op }, without);
  return rule === undefined ? undefined : `rule ${rule.id}`;
}
