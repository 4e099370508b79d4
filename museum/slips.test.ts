// Every slip that both sides share, shown to be seen: its edits fit, the world with it breaks its law on its trace, and the
// world as it stands breaks none.

import { describe, expect, it } from 'vitest';
import { runTrace } from '#properties/harness/run.ts';
import { clean } from '#properties/harness/subject.ts';
import { slips, slipTraces } from './slips.ts';
import { loadWorld } from './world.ts';

const traces = slipTraces();

describe.each(slips.map((slip) => ({ id: slip.id, slip })))('$id', ({ slip }) => {
  it('is reported by its law, and nothing is without it', async () => {
    const trace = traces.get(slip.id) ?? expect.fail('there is no trace');
    const judge = await loadWorld(slip);
    expect(judge(trace)?.law).toBe(slip.law);
    expect(runTrace(clean, trace).failure).toBeUndefined();
  });
});
