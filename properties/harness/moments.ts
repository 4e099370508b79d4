// Moments that a run must see for some law to be about something, as a returning operation shows them: each is a `sometimes`
// law and the question by which it is recognised. A question is asked until it is answered with yes, once per run.
// A first reader may read the sentences alone.

import { DOMID_CONTROL } from '#abi/address.ts';
import { callerOf } from '#abi/agents.ts';
import type { FailureClass } from '#abi/failures.ts';
import type { OpKind } from '#abi/operation.ts';
import { frameOf, type Domain, type State } from '#model/state.ts';
import { accessMoments } from '../memory/access-moments.ts';
import { claimMoments } from '../memory/claim-moments.ts';
import { directMoments } from '../pv/moments.ts';
import { moment, type Moment } from './moment.ts';
import { isError } from './replies.ts';
import { partsPerCheck } from './points.ts';
import type { Returned } from './view.ts';

const domainIn = (state: State, id: number): Domain | undefined => state.domains.get(id);

/** Whether the log has a choice that `first` likes, and later one that `second` likes. */
function follows({ log }: Returned, first: Logged, second: Logged): boolean {
  const at = log.findIndex(({ choice }) => first(choice));
  return at >= 0 && log.slice(at + 1).some(({ choice }) => second(choice));
}

type Logged = (choice: Returned['log'][number]['choice']) => boolean;

const isHandOver: Logged = ({ kind }) => kind === 'frame';

/** Whether a request of this class was refused, by fate or because there was nothing left. */
const wasRefused = ({ log, failures }: Returned, refused: FailureClass, byFate: boolean): boolean =>
  log.some(
    ({ choice }) =>
      choice.kind === 'failed' && choice.class === refused && failures.some((one) => one.class === refused) === byFate,
  );

/** Whether an access of a guest whose writes are logged was made again, and not for memory on demand. */
const isNoted = ({ agent, before, log }: Returned): boolean =>
  domainIn(before, callerOf(agent) ?? -1)?.log.on === true &&
  log.some(({ choice }) => choice.kind === 'retried') &&
  !log.some(({ choice }) => choice.kind.startsWith('pod'));

const upper = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

const failing: readonly Moment[] = (
  ['heap', 'pool', 'maptrack', 'compareExchange', 'copyBack', 'logDirty'] as const
).map((name) =>
  moment(`harness/${name}FailsByFate`, {
    invariant: 'ERR',
    statement: `A request of class ${name} is made to fail.`,
    isShown: (returned) => wasRefused(returned, name, true),
  }),
);

const exhausted: readonly Moment[] = (['heap', 'pool', 'maptrack', 'logDirty'] as const).map((name) =>
  moment(`harness/${name}IsExhausted`, {
    invariant: 'ERR',
    statement: `A request of class ${name} is refused because nothing is left.`,
    isShown: (returned) => wasRefused(returned, name, false),
  }),
);

const stopping: readonly Moment[] = (Object.keys(partsPerCheck) as OpKind[])
  .filter((kind) => partsPerCheck[kind] === 1)
  .map((kind) =>
    moment(`harness/${kind.replace(/\.(.)/u, (_, letter: string) => upper(letter))}Stops`, {
      invariant: 'WORK',
      statement: `An operation ${kind} stops at a preemption check, part of it done.`,
      isShown: ({ op, reply }) => op.kind === kind && reply.status === 'preempted',
    }),
  );

/** The domain behind a handle that an element of an unmapping has just ended. */
function granters({ op, agent, reply, before }: Returned): readonly (Domain | undefined)[] {
  if (op.kind !== 'grants.unmap') return [];
  const mapper = domainIn(before, callerOf(agent) ?? -1);
  return op.elements.slice(op.start).map(({ handle }, i) => {
    const mapped = reply.elements[i]?.status === 'okay' ? mapper?.grants.handles.get(handle) : undefined;
    return mapped && domainIn(before, mapped.domain);
  });
}

const others: readonly Moment[] = [
  moment('harness/partsOfARefusedBatchStay', {
    invariant: 'ERR',
    statement: 'An operation is refused after some of its parts were done.',
    isShown: ({ op, reply }) => 'start' in op && isError(reply) && reply.done > op.start && reply.elements.length === 0,
  }),
  moment('harness/callsGoOnWhereTheyStopped', {
    invariant: 'WORK',
    statement: 'A batch is taken up again behind its beginning and comes to its end.',
    isShown: ({ op, reply, log }) =>
      'start' in op && op.start > 0 && reply.done > op.start && reply.status === 'ok' && log.length > 0,
  }),
  moment('harness/strangersAreRefused', {
    invariant: 'PRIV',
    statement: 'A guest calls for something that only others may do to a domain, and is refused.',
    isShown: ({ agent, op, reply }) =>
      agent.kind === 'vcpu' &&
      agent.domain !== DOMID_CONTROL &&
      'target' in op &&
      op.target !== agent.domain &&
      (reply.status === 'EPERM' || reply.status === 'permissionDenied'),
  }),
  moment('harness/mappedDomainsDie', {
    invariant: 'LIFE',
    statement: 'A domain is torn down to its end while another still uses a grant of it.',
    isShown: ({ op, reply, before }) =>
      op.kind === 'memory.killDomain' &&
      reply.status === 'ok' &&
      (domainIn(before, op.target)?.grants.active.size ?? 0) > 0,
  }),
  moment('harness/grantsOutliveTheirGranter', {
    invariant: 'LIFE',
    statement: 'A mapping ends whose granter is dead already.',
    isShown: (returned) => granters(returned).some((granter) => granter?.state === 'dead'),
  }),
  moment('memory/dirtyFramesAreErasedAtTheHandOver', {
    invariant: 'LEAK',
    statement: 'A frame whose erasure is owed is erased and handed over in one operation.',
    isShown: (returned) => follows(returned, ({ kind }) => kind === 'scrub', isHandOver),
  }),
  moment('memory/debtsAreSettledAtTheHandOver', {
    invariant: 'STALE',
    statement: 'A processor is flushed for a frame that it may remember before that is handed over.',
    isShown: (returned) =>
      returned.op.kind !== 'memory.addToPhysmap' && follows(returned, ({ kind }) => kind === 'flush', isHandOver),
  }),
  moment('hap/superpagesAreSplit', {
    invariant: 'MUST',
    statement: 'Taking memory away takes a table: a superpage is split.',
    isShown: ({ op, log }) => op.kind === 'memory.decrease' && log.some(({ choice }) => choice.kind === 'tableTaken'),
  }),
  moment('hap/tablesBecomeSuperpages', {
    invariant: 'PTW',
    statement: 'Giving memory gives a table back: a superpage takes its place.',
    isShown: ({ op, log }) => op.kind === 'memory.populate' && log.some(({ choice }) => choice.kind === 'tableGiven'),
  }),
  moment('memory/writesAreNotedAndMadeAgain', {
    invariant: 'LOG',
    statement: 'A write meets RAM whose writes are logged, and is made again.',
    isShown: (returned) => returned.reply.status === 'ok' && isNoted(returned),
  }),
  moment('memory/notedWritesSplitSuperpages', {
    invariant: 'LOG',
    statement: 'A superpage whose writes are logged is split for one that is written.',
    isShown: (returned) => isNoted(returned) && returned.log.some(({ choice }) => choice.kind === 'tableTaken'),
  }),
  moment('memory/copiesIntoLoggedMemoryAreNoted', {
    invariant: 'LOG',
    statement: 'A copy by a grant goes to a domain whose writes are logged, and its bitmap grows.',
    isShown: ({ op, log }) => op.kind === 'grants.copy' && log.some(({ choice }) => choice.kind === 'bitmapTaken'),
  }),
  moment('memory/preemptedLooksAreTakenUpAgain', {
    invariant: 'WORK',
    statement: 'A call about a log of writes that was preempted is taken up again and comes to its end.',
    isShown: ({ op, reply }) => 'resuming' in op && op.resuming === 'resuming' && reply.status === 'ok',
  }),
  moment('memory/readOnlyMemoryIsWritten', {
    invariant: 'OWN',
    statement: 'A write to RAM that is only read comes to nothing.',
    isShown: ({ agent, op, reply, before }) =>
      agent.kind === 'vcpu' &&
      op.kind === 'paging.write' &&
      reply.status === 'violation' &&
      domainIn(before, agent.domain)?.p2m.get(op.gfn)?.type === 'ramRo',
  }),
  moment('grants/pinsAreFull', {
    invariant: 'REF',
    statement: 'A mapping is refused although its grant stands: a counter of uses is full.',
    isShown: ({ op, reply, before }) =>
      op.kind === 'grants.map' &&
      op.elements.slice(op.start).some(({ domain, ref }, i) => {
        const active =
          reply.elements[i]?.status === 'generalError' ? domainIn(before, domain)?.grants.active.get(ref) : undefined;
        const full = 2 ** (before.geometry.width.pin - 1);
        return active !== undefined && Math.max(active.hstr, active.hstw, active.devr, active.devw) >= full;
      }),
  }),
  moment('grants/batchesMixFates', {
    invariant: 'STATUS',
    statement: 'In one batch of grants an element is refused and a later one is not.',
    isShown: ({ reply: { elements } }) => {
      const refused = elements.findIndex(({ status }) => status !== 'okay');
      return refused >= 0 && elements.slice(refused).some(({ status }) => status === 'okay');
    },
  }),
];

/** Frames taken out of a cache for memory on demand because somebody asked for that. */
const isServed = ({ op, log }: Returned, isFit: (order: number) => boolean): boolean =>
  op.kind !== 'memory.killDomain' &&
  op.kind !== 'memory.decrease' &&
  op.kind !== 'memory.setPodTarget' &&
  log.some(({ choice }) => choice.kind === 'podTaken' && isFit(choice.order));

/** Whether a frame that was taken lay at a gfn when the operation began, and nobody else can have moved it. */
const wasReclaimed = ({ log, before, alone }: Returned): boolean =>
  alone && log.some(({ choice }) => choice.kind === 'podTaken' && frameOf(before, choice.mfn).mappings.length > 0);

const onDemand: readonly Moment[] = [
  moment('memory/demandIsServedToAccesses', {
    invariant: 'MUST',
    statement: 'A processor is answered from memory that was populated for it.',
    isShown: (returned) => 'via' in returned.op && returned.reply.status === 'ok' && isServed(returned, () => true),
  }),
  moment('memory/demandIsServedToCalls', {
    invariant: 'MUST',
    statement: 'The hypervisor populates memory on demand that a call is about.',
    isShown: (returned) => !('via' in returned.op) && isServed(returned, () => true),
  }),
  moment('memory/largeDemandIsServedWhole', {
    invariant: 'M2P',
    statement: 'A large entry on demand is populated by a large run.',
    isShown: (returned) => isServed(returned, (order) => order > 0),
  }),
  moment('memory/largeDemandIsSplit', {
    invariant: 'M2P',
    statement: 'A large entry on demand is split, since no large run is set aside.',
    isShown: ({ log }) => log.some(({ choice }) => choice.kind === 'podSplit'),
  }),
  moment('memory/demandIsRefusedByThePool', {
    invariant: 'ERR',
    statement: 'Memory on demand is not populated, marked or given back for want of a table.',
    isShown: ({ op, reply, log }) =>
      (op.kind === 'memory.populateOnDemand' && reply.status === 'ENOMEM') ||
      log.some(({ choice }) => choice.kind === 'failed' && (choice.done ?? 0) < 0),
  }),
  moment('memory/demandStopsDomains', {
    invariant: 'ERR',
    statement: 'A domain is stopped because there is no memory for what it was owed.',
    isShown: ({ log }) => log.some(({ choice }) => choice.kind === 'podExhausted'),
  }),
  moment('memory/unusedMemoryIsReclaimed', {
    invariant: 'LEAK',
    statement: 'Memory on demand is populated with a frame that lay unused at another gfn.',
    isShown: (returned) => isServed(returned, () => true) && wasReclaimed(returned),
  }),
  moment('memory/givenBackMemoryIsKept', {
    invariant: 'REF',
    statement: 'Memory that a guest gives back is set aside for what it is owed.',
    isShown: ({ log }) => log.some(({ choice }) => choice.kind === 'podStolen'),
  }),
  moment('memory/demandIsMarkedUnaligned', {
    invariant: 'REF',
    statement: 'A range that is not aligned to its size is marked as on demand.',
    isShown: ({ op, reply }) =>
      op.kind === 'memory.populateOnDemand' &&
      reply.status === 'ok' &&
      op.extents.by === 'value' &&
      op.extents.gfns.slice(op.start).some((gfn) => gfn % 2 ** op.order !== 0),
  }),
];

const watched: readonly Moment[] = [...accessMoments, ...claimMoments].map(({ id, ...of }) => moment(id, of));

export const moments: readonly Moment[] = [
  ...failing,
  ...exhausted,
  ...stopping,
  ...others,
  ...onDemand,
  ...directMoments,
  ...watched,
];
