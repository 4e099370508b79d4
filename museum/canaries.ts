// A planted defect for every `always` and `pair` law: a bird that dies if the law stops looking. Unlike exhibits these bugs are nobody's,
// and were chosen for the law that they break. Each has a short trace (canaries.json) on which that law, and no other before
// it, reports the defect. Laws about counts and about what is left behind look at everything now and then; comparing what was
// touched sees the same sooner, and is kept away from their birds (`without`). A law that can see only what both sides agree on
// has its birds in slips.ts.
// A first reader may skip the edits.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Trace } from '#abi/trace.ts';
import type { Edit } from './exhibit.ts';
import { projectRoot } from './source-tree.ts';
import { tracesByName } from './traces.ts';

/** A small defect that one law must report. */
export interface Canary {
  /** Id of the law. */
  readonly law: string;
  readonly edits: readonly Edit[];
  /** Ids of laws that see the defect sooner, and are left out. */
  readonly without?: readonly string[];
}

const edit = (file: string, before: string, after: string): readonly Edit[] => [{ file, before, after }];

/** Laws that compare what was touched at once. */
const comparing = ['harness/countersEqualTheModel', 'harness/bothSidesAgree'] as const;

export const canaries: readonly Canary[] = [
  {
    law: 'harness/noGuestAddressesTheHypervisor',
    edits: edit('memory/life.ts', "  if (op.target >= m.geometry.capacity.domains) return reply('EINVAL');\n", ''),
  },
  {
    law: 'harness/noAssertionFails',
    edits: edit('hap/pages.ts', 'if (injected || poolSpare(m, dom) === 0 || !isAlive(m, dom)) {', 'if (injected) {'),
  },
  {
    law: 'harness/noLockIsKept',
    edits: edit('memory/life.ts', '  yield* unlockDomain(m, dom);\n  return answer;\n', '  return answer;\n'),
  },
  {
    law: 'harness/everyActIsAuthorised',
    edits: edit(
      'memory/guest.ts',
      'const found = gfn === undefined ? undefined : lookup(m, domain, gfn);',
      'const found = gfn === undefined ? undefined : lookup(m, 0, gfn);',
    ),
  },
  {
    law: 'harness/workIsBounded',
    edits: edit(
      'memory/reservation.ts',
      "    if (index > op.start && m.port.preempts(index)) return reply('preempted', { done: index });\n",
      '',
    ),
  },
  {
    law: 'tlb/linearEntriesAreOfTheRunningVcpu',
    edits: [
      ...edit('tlb/asid.ts', '  f.asidNext.add(pcpu, 1);\n', ''),
      ...edit('tlb/ept.ts', '  if (isFirst) invvpidAll(m, pcpu);\n', ''),
    ],
  },
  {
    law: 'tlb/linearFramesAreOfThisLife',
    edits: edit('memory/heap.ts', '  yield* flushForFrames(m, mfn, end - mfn);\n', ''),
  },
  {
    law: 'tlb/nothingInvalidatedIsRemembered',
    edits: edit('paging/registers.ts', '  if (endsTranslations(control, isTurnedOn)) forgetVcpu(m, key);\n', ''),
  },
  {
    law: 'tlb/cachedTablesAreStillTables',
    edits: edit('hap/table.ts', '  if (job.orphans.length > 0) yield* flushOwed(m, dom);\n', ''),
  },
  {
    law: 'tlb/cachedFramesAreOfThisLife',
    edits: edit('memory/heap.ts', '  yield* flushForFrames(m, mfn, end - mfn);\n', ''),
  },
  {
    law: 'tlb/cachedEntriesAreOfTheRunningDomain',
    edits: edit('tlb/asid.ts', "forget: isFirst ? 'all' : 'nothing'", "forget: 'nothing'"),
  },
  {
    law: 'hap/noLeafNamesAFreeFrame',
    edits: edit(
      'memory/reservation.ts',
      "  if (!(yield* setP2m(m, target, { gfn, order: 0, mfn: 0, type: 'none', done }))) return 'ENOMEM';\n",
      '',
    ),
  },
  {
    law: 'hap/everyWalkedPageIsATable',
    edits: edit('memory/pool.ts', '  m.f.frameIsTable.set(mfn, 1);\n', ''),
  },
  {
    law: 'hap/noGuestWritesTables',
    edits: edit(
      'memory/physmap.ts',
      "return op.index === 0 ? m.f.domSharedInfo.get(target) : 'EINVAL';",
      "return op.index === 0 ? m.f.domRoot.get(target) : 'EINVAL';",
    ),
  },
  {
    law: 'hap/nobodyReachesWhatIsNotTheirs',
    edits: edit(
      'memory/physmap.ts',
      "return op.index === 0 ? m.f.domSharedInfo.get(target) : 'EINVAL';",
      "return op.index === 0 ? m.f.domSharedInfo.get(0) : 'EINVAL';",
    ),
  },
  {
    law: 'hap/noCacheOutlivesItsFlush',
    edits: edit('hap/table.ts', '  if (isOwed) yield* flushDomain(m, dom);\n', ''),
  },
  {
    law: 'hap/whatIsOwedIsReached',
    edits: edit(
      'hap/change.ts',
      '  const flags = flagsIn(entry.low);\n  for (let index = 0;',
      '  const flags = flagsIn(entry.low);\n  for (let index = 1;',
    ),
  },
  {
    law: 'grants/pinnedFramesLive',
    edits: edit(
      'grants/active.ts',
      '  yield* dropPins(m, grip);\n  yield* letGoOf(m, grip, isTyped);\n',
      '  yield* letGoOf(m, grip, isTyped);\n  yield* dropPins(m, grip);\n',
    ),
  },
  {
    law: 'grants/pinsEqualUses',
    edits: edit(
      'grants/active.ts',
      '  count(m, at, { flags: use.flags, by: 1 });\n',
      '  count(m, at, { flags: use.flags, by: 2 });\n',
    ),
    without: [...comparing, 'memory/referencesEqualUses'],
  },
  {
    law: 'memory/freeFramesAreNobodys',
    edits: edit('memory/heap.ts', '  f.frameOwner.set(mfn, 0);\n', ''),
  },
  {
    law: 'memory/newFramesTellNothing',
    edits: edit('memory/contents.ts', "  fill(m, mfn, { purpose: 'scrub', half: 0 });\n", ''),
  },
  {
    law: 'memory/erasedFramesAreErased',
    edits: edit('memory/contents.ts', "  fill(m, mfn, { purpose: 'scrub', half: 0 });\n", ''),
  },
  {
    law: 'memory/inverseMapIsInverse',
    edits: edit('memory/p2m.ts', '    for (const mfn of frames) m.f.m2p.setWide(mfn, 0);\n', ''),
  },
  {
    law: 'memory/referencesEqualUses',
    edits: edit('memory/frames.ts', '  m.f.frameRefs.set(mfn, refs + 1);\n', ''),
    without: comparing,
  },
  {
    law: 'memory/writesAreMarked',
    edits: edit(
      'paging/log-write.ts',
      "  if (found?.type === 'ramRw' || found?.type === 'ramLogDirty') yield* markGfn(m, dom, gfn);\n",
      '',
    ),
  },
  {
    law: 'memory/unmarkedFramesAreProtected',
    edits: edit(
      'memory/log-dirty.ts',
      "    if (op.action === 'cleans') yield* clearLeaf(m, dom, first);\n",
      '    yield* clearLeaf(m, dom, first);\n',
    ),
  },
  {
    law: 'memory/cacheIsSetAside',
    edits: edit(
      'memory/pod-decrease.ts',
      '  if (!(yield* remove(m, dom, { gfn, order }))) {\n    crash(m, dom);\n    return false;\n  }\n',
      '',
    ),
  },
  {
    law: 'memory/cacheHoldsNothing',
    edits: edit(
      'memory/pod-frames.ts',
      "  for (let i = 0; i < count; i += 1) fill(m, mfn + i, { purpose: 'reclaim', half: 0 });\n",
      '',
    ),
  },
  {
    law: 'memory/demandIsCounted',
    edits: edit('memory/pod-demand.ts', '  countOnDemand(m, dom, -pow2(order));\n', ''),
  },
  {
    law: 'memory/cacheIsCounted',
    edits: edit('memory/pod-frames.ts', '  m.f.podCount.add(dom, count);\n', '  m.f.podCount.add(dom, 1);\n'),
  },
  {
    law: 'memory/claimsAreCounted',
    edits: edit('memory/heap.ts', '  f.heapClaimed.add(0, by);\n', ''),
  },
  {
    law: 'memory/claimedFramesAreThere',
    edits: edit(
      'memory/claims.ts',
      "  return pages - total > f.heapFree.get(0) - f.heapClaimed.get(0) ? 'ENOMEM' : undefined;\n",
      '  return undefined;\n',
    ),
  },
  {
    law: 'paging/accessesWalkArchitecturally',
    edits: edit('paging/step.ts', "'paging.fetch': RIGHT.execute,", "'paging.fetch': RIGHT.read,"),
  },
  {
    law: 'paging/writesLeaveTheDirtyFlag',
    edits: edit('paging/step.ts', "'paging.write': RIGHT.write,", "'paging.write': RIGHT.read,"),
  },
  {
    law: 'paging/guestTablesAreWalkedArchitecturally',
    edits: edit('paging/step.ts', "'paging.fetch': 'fetch',", "'paging.fetch': 'read',"),
  },
  {
    law: 'harness/onlyManagersManage',
    edits: edit('memory/target.ts', "return callerIn(call) === DOMID_CONTROL ? target : 'EPERM';", 'return target;'),
  },
  {
    law: 'harness/everyUseIsOfThePresentLife',
    edits: edit('grants/maptrack.ts', '    m.f.maptrackHead.set(mapper, next);\n', ''),
  },
  {
    law: 'harness/nothingIsUsedPastItsFlush',
    edits: edit('memory/heap.ts', '  yield* flushForFrames(m, mfn, end - mfn);\n', ''),
  },
  {
    law: 'harness/framesAreErasedBeforeTheyAreHandedOver',
    edits: edit(
      'memory/heap.ts',
      '  if (isForGuests(role))\n    for (let at = mfn; at < end; at += 1) if (m.f.frameDirty.get(at) !== 0) yield* scrubFrame(m, at);\n',
      '',
    ),
  },
  {
    law: 'harness/countersEqualTheModel',
    edits: edit('memory/frames.ts', '  m.f.frameRefs.set(mfn, refs + 1);\n', ''),
  },
  {
    law: 'harness/bothMapsAgree',
    edits: edit(
      'memory/p2m.ts',
      '    if (m.f.frameOwner.get(change.mfn + i) === dom + 1) m.f.m2p.setWide(change.mfn + i, change.gfn + i + 1);\n',
      '    if (m.f.frameOwner.get(change.mfn + i) === dom + 2) m.f.m2p.setWide(change.mfn + i, change.gfn + i + 1);\n',
    ),
  },
  {
    law: 'harness/statusBitsMatchTheState',
    edits: edit('grants/entry.ts', 'value: or(expected, bits) });', 'value: expected });'),
  },
  {
    law: 'harness/refusalsHaveNoOtherEffects',
    edits: edit(
      'memory/life.ts',
      "  if (mfn === 0) return reply('ENOMEM');\n",
      "  if (mfn === 0) {\n    m.f.poolTotal.add(dom, 1);\n    return reply('ENOMEM');\n  }\n",
    ),
  },
  {
    law: 'harness/nothingIsLeftBehind',
    edits: edit(
      'memory/frames.ts',
      '  for (let i = 0; i < f.maptrackFrameCount.get(dom); i += 1) frames.push(f.maptrackFrame.get(dom * maptrackFrames + i));\n',
      '',
    ),
    without: comparing,
  },
  {
    law: 'harness/bothSidesAgree',
    edits: edit(
      'memory/reservation.ts',
      "reply('ok', { out: [m.f.domTotalPages.get(target)] })",
      "reply('ok', { out: [m.f.domTotalPages.get(target) + 1] })",
    ),
  },
  {
    law: 'harness/strangersLookAlike',
    edits: edit('memory/contents.ts', "  fill(m, mfn, { purpose: 'scrub', half: 0 });\n", ''),
  },
  {
    law: 'pv/typeCountsEqualUses',
    edits: edit(
      'pv/release.ts',
      '    setCount(m, mfn, count - 1);\n    return undefined;\n',
      '    if (type !== WRITABLE) setCount(m, mfn, count - 1);\n    return undefined;\n',
    ),
    without: comparing,
  },
  {
    law: 'pv/linearTablesEndAtOnce',
    edits: [
      ...edit('pv/linear.ts', '  if (count < 0 || count + 1 === linearLimit(m)) return false;\n', ''),
      ...edit('pv/linear.ts', '  if (count > 0 || count === -linearLimit(m)) return false;\n', ''),
    ],
    without: comparing,
  },
];

/** Path of the traces, by law, from the project's folder. */
export const canaryFile = 'museum/canaries.json';

/** The stored trace of each canary, by law. */
export const canaryTraces = (): ReadonlyMap<string, Trace> =>
  tracesByName(readFileSync(join(projectRoot, canaryFile), 'utf8'), canaryFile);
