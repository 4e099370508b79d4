// XSA-218B: a handle is given back in the second pass. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-218b',
  title: 'A handle is given back twice by two unmaps of one part each',
  year: 2017,
  mechanism: 'grants',
  class: 'sequential',
  invariants: ['FREE', 'REF'],
  source: 'XSA-218, "Races in the grant table unmap code"; fixed in Xen by commit b7f6cbb9d4',
  edits: [
    {
      file: 'grants/unmap.ts',
      before: `  if (!hasAny(left, HOST + DEVICE)) yield* giveHandle(m, mapper, handle);
  else if (done !== 0) bindHandle(m, { mapper, handle }, { ...mapped, flags: left });
  if (done !== 0) of.grips.push({ granter, ref, mfn, flags: done + and(flags, mapFlags.readOnly) });
`,
      after: `  if (done === 0) return 'okay';
  bindHandle(m, { mapper, handle }, { ...mapped, flags: hasAny(left, HOST + DEVICE) ? left : 0 });
  of.grips.push({ granter, ref, mfn, flags: done + and(flags, mapFlags.readOnly) });
  of.handles.push(handle);
`,
    },
    {
      file: 'grants/unmap.ts',
      before: `  const grips: Grip[] = [];
  let isWritten`,
      after: `  const grips: Grip[] = [];
  const handles: number[] = [];
  let isWritten`,
    },
    {
      file: 'grants/unmap.ts',
      before: `{ ...element, mapper, index, agent }, grips);
`,
      after: `{ ...element, mapper, index, agent }, { grips, handles });
`,
    },
    {
      file: 'grants/unmap.ts',
      before: `  for (const grip of grips) yield* dropGrip(m, grip);
`,
      after: `  for (const [i, grip] of grips.entries()) {
    const handle = handles[i] ?? 0;
    yield* dropGrip(m, grip);
    if (mappedAt(m, mapper, handle) === undefined) yield* giveHandle(m, mapper, handle);
  }
`,
    },
    {
      file: 'grants/unmap.ts',
      before: `unmapping: Unmapping, grips: Grip[]): Step<GrantStatus> {
`,
      after: `unmapping: Unmapping, ends: Ends): Step<GrantStatus> {
`,
    },
    {
      file: 'grants/unmap.ts',
      before: `  const of = { mapped, grips, left: NOTHING };
`,
      after: `  const of = { mapped, ...ends, left: NOTHING };
`,
    },
    {
      file: 'grants/unmap.ts',
      before: `  readonly grips: Grip[];
  left: Entry;
`,
      after: `  readonly grips: Grip[];
  readonly handles: number[];
  left: Entry;
`,
    },
    {
      file: 'grants/unmap.ts',
      before: `const HOST = mapFlags.host;
`,
      after: `interface Ends {
  readonly grips: Grip[];
  readonly handles: number[];
}

const HOST = mapFlags.host;
`,
    },
  ],
  killedBy: [
    'grants/pinsEqualUses',
    'grants/pinnedFramesLive',
    'grants/everyUseWasGiven',
    'harness/countersEqualTheModel',
    'harness/bothSidesAgree',
    'harness/noAssertionFails',
    'harness/workIsBounded',
    'harness/everyUseIsOfThePresentLife',
  ],
  trace: 'trace.json',
  note: 'Not found by any hunt yet: one call, or two at a time, must unmap both parts of a mapping, each by itself. The trace is written by hand. Two elements of one batch do it as two vCPUs do: both come to the second pass after the first.',
};
