// Every law that judges runs, shown to judge: its canary's edits fit impl/, the edited copy breaks this law and no other
// before it, and the implementation as it stands breaks none on the same trace.

import { describe, expect, it } from 'vitest';
import { laws } from '#properties/index.ts';
import { alwaysLaws } from '#properties/harness/laws.ts';
import { strangersLookAlike } from '#properties/harness/pairs.ts';
import { clean } from '#properties/harness/subject.ts';
import { replay } from './attempt.ts';
import { canaries, canaryTraces, type Canary } from './canaries.ts';
import { loadSubject } from './loader.ts';
import { slips } from './slips.ts';

const traces = canaryTraces();

const subjectOf = ({ law, edits }: Canary) => loadSubject({ id: `canary-${law.replace('/', '-')}`, edits });

it('there is a canary or a slip with a trace for every law about runs, and for no other', () => {
  const judged = laws.filter(({ kind }) => kind === 'always' || kind === 'pair').map(({ id }) => id);
  const planted = canaries.map(({ law }) => law);
  const shared = new Set(slips.map(({ law }) => law).filter((law) => !planted.includes(law)));
  const inOrder = (ids: readonly string[]) => ids.toSorted((a, b) => (a < b ? -1 : 1));
  expect(inOrder([...planted, ...shared])).toEqual(inOrder(judged));
  expect([...traces.keys()]).toEqual(planted);
});

describe.each(canaries.map((canary) => ({ law: canary.law, canary })))('$law', ({ law, canary }) => {
  it('reports its planted defect, and nothing on the clean implementation', async () => {
    const trace = traces.get(law);
    if (trace === undefined) throw new Error('there is no trace');
    const subject = await subjectOf(canary);
    if (law === strangersLookAlike.id) {
      expect(strangersLookAlike.judge(trace, subject)).toBeDefined();
      expect(strangersLookAlike.judge(trace, clean)).toBeUndefined();
      return;
    }
    const judging = alwaysLaws.filter(({ id }) => canary.without?.includes(id) !== true);
    const planted = replay(subject, trace, { laws: judging });
    expect(planted.error).toBeUndefined();
    expect(planted.failure?.law).toBe(law);
    const held = replay(clean, trace);
    expect(held.error).toBeUndefined();
    expect(held.failure).toBeUndefined();
  });
});

describe('laws that see a defect sooner', () => {
  it.each(canaries.filter(({ without }) => without !== undefined))(
    'than $law are those that are left out',
    async (canary) => {
      const { failure } = replay(await subjectOf(canary), traces.get(canary.law) ?? expect.fail('there is no trace'));
      expect(canary.without).toContain(failure?.law);
    },
  );
});
