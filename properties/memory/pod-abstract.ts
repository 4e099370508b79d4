// How the implementation's memory on demand represents the model's: numbers, and which gfns the tables have as on demand.
// A first reader may skip this file.

import type { Machine } from '#impl/machine.ts';
import { forEachLeaf } from '#impl/hap/table.ts';
import { entryCount } from '#model/pod.ts';
import type { Domain, Run } from '#model/state.ts';
import { firstDifference, type Relation } from '../harness/difference.ts';
import type { Problem } from '../harness/law.ts';

/** gfns that the tables of a domain have as on demand, as runs that do not touch. */
export function demandRuns(m: Machine, dom: number): readonly Run[] {
  const runs: { from: number; to: number }[] = [];
  forEachLeaf(m, dom, (gfn, { type, frames }) => {
    if (type !== 'populateOnDemand') return;
    const last = runs.at(-1);
    if (last?.to === gfn) last.to += frames;
    else runs.push({ from: gfn, to: gfn + frames });
  });
  return runs;
}

interface Sides {
  readonly m: Machine;
  readonly domain: Domain;
}

const optional = (stored: number): string => (stored === 0 ? '-' : `${stored - 1}`);

const inWords = (runs: readonly Run[]): string => runs.map(({ from, to }) => `${from}..${to - 1}`).join(' ');

const relation: Relation<Sides> = {
  mechanism: 'memory',
  kind: 'pod',
  thing: ({ domain }) => `memory on demand of d${domain.id}`,
  rows: [
    {
      name: 'entries',
      breaks: 'REF',
      model: ({ domain }) => entryCount(domain),
      machine: ({ m, domain }) => m.f.podEntries.get(domain.id),
    },
    {
      name: 'count',
      breaks: 'REF',
      model: ({ domain }) => domain.pod.cache.size,
      machine: ({ m, domain }) => m.f.podCount.get(domain.id),
    },
    {
      name: 'gfns',
      breaks: 'refines',
      model: ({ domain }) => inWords(domain.pod.entries),
      // Tables without any are walked when all is looked at.
      machine: ({ m, domain: { id, pod } }) =>
        pod.entries.length === 0 && m.f.podEntries.get(id) === 0 ? '' : inWords(demandRuns(m, id)),
    },
    {
      name: 'highest',
      breaks: 'refines',
      model: ({ domain }) => domain.pod.highest,
      machine: ({ m, domain }) => m.f.podHighest.getWide(domain.id),
    },
    {
      name: 'sweepAt',
      breaks: 'refines',
      model: ({ domain }) => domain.pod.sweepAt,
      machine: ({ m, domain }) => m.f.podSweepAt.getWide(domain.id),
    },
    {
      name: 'recentAt',
      breaks: 'refines',
      model: ({ domain }) => domain.pod.recentAt,
      machine: ({ m, domain }) => m.f.podRecentAt.get(domain.id),
    },
    {
      name: 'recent',
      breaks: 'refines',
      model: ({ domain }) =>
        domain.pod.recent.map((one) => (one ? `${one.gfn}${one.isLarge ? 'L' : ''}` : '-')).join(' '),
      machine: ({ m, domain: { id, pod } }) => {
        const from = id * pod.recent.length;
        return pod.recent
          .map(
            (_, i) =>
              `${optional(m.f.podRecentGfn.getWide(from + i))}${m.f.podRecentLarge.get(from + i) === 1 ? 'L' : ''}`,
          )
          .join(' ');
      },
    },
  ],
};

/** Whether a domain has never had any memory on demand, on both sides: most have none, and are asked often. */
const isUnused = ({ f }: Machine, { id, pod }: Domain): boolean =>
  pod.entries.length + pod.cache.size + pod.highest + pod.sweepAt + pod.recentAt === 0 &&
  f.podEntries.get(id) + f.podCount.get(id) + f.podRecentAt.get(id) === 0 &&
  f.podHighest.getWide(id) + f.podSweepAt.getWide(id) === 0;

/** Compares the memory on demand of a domain. */
export const podProblem = (m: Machine, domain: Domain): Problem | undefined =>
  isUnused(m, domain) ? undefined : firstDifference(relation, { m, domain });
