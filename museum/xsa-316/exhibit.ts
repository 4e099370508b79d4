// XSA-316: the status of a refused map is that of a comparison. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-316',
  title: 'A mapping that is refused has a positive status',
  year: 2020,
  mechanism: 'grants',
  class: 'sequential',
  invariants: ['STATUS'],
  source: 'XSA-316, "Bad error path in GNTTABOP_map_grant"; fixed in Xen by commit da0c66c8f4',
  edits: [
    {
      file: 'grants/claim.ts',
      before: `  readonly status: GrantStatus;
  readonly mfn: number;
}
`,
      after: `  readonly status: GrantStatus;
  readonly mfn: number;
  readonly isCompared?: boolean;
}
`,
    },
    {
      file: 'grants/claim.ts',
      before: `  const taken = status === 'okay' ? yield* take(m, want) : refusal(status);
  yield* m.port.unlock`,
      after: `  const taken =
    status === 'okay'
      ? yield* take(m, want)
      : status === 'compared'
        ? { ...refusal('generalError'), isCompared: true }
        : refusal(status);
  yield* m.port.unlock`,
    },
    {
      file: 'grants/claim.ts',
      before: `function* mark(m: Machine, want: Wanted): Step<GrantStatus> {
`,
      after: `function* mark(m: Machine, want: Wanted): Step<GrantStatus | 'compared'> {
`,
    },
    {
      file: 'grants/claim.ts',
      before: `  return marked === 'okay' ? 'okay' : 'generalError';
`,
      after: `  return marked === 'okay' ? 'okay' : 'compared';
`,
    },
    {
      file: 'grants/map.ts',
      before: `  const { status, mfn } = yield* acquire(m, want);
  if (status !== 'okay') {
    yield* giveHandle(m, mapper, handle);
    return refused(status);
  }
`,
      after: `  const { status, mfn, isCompared } = yield* acquire(m, want);
  if (status !== 'okay') {
    yield* giveHandle(m, mapper, handle);
    return isCompared === true ? { ...refused(status), code: 1 } : refused(status);
  }
`,
    },
    {
      file: 'grants/map.ts',
      before: `function* mapOne(m: Machine, mapping: Mapping): Step<ElementReply> {
`,
      after: `function* mapOne(m: Machine, mapping: Mapping): Step<ElementReply & { readonly code?: number }> {
`,
    },
    {
      file: 'grants/map.ts',
      before: `{ to: op.results, index, status: outcome.status });
`,
      after: `{ to: op.results, index, ...outcome });
`,
    },
    {
      file: 'grants/map.ts',
      before: `    elements.push(outcome);
`,
      after: `    elements.push({ status: outcome.status, out: outcome.out });
`,
    },
    {
      file: 'grants/batch.ts',
      before: `readonly index: number; readonly status: Status },
`,
      after: `readonly index: number; readonly status: Status; readonly code?: number },
`,
    },
    {
      file: 'grants/batch.ts',
      before: `  const code = codeOf(result.status);
`,
      after: `  const code = result.code ?? codeOf(result.status);
`,
    },
  ],
  killedBy: ['harness/bothSidesAgree', 'harness/statusBitsMatchTheState', 'harness/refusalsHaveNoOtherEffects'],
  trace: 'trace.json',
  note: 'What the reply says is for the harness; a guest reads the results in its memory, and there stands the comparison.',
};
