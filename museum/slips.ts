// Slips that model and implementation share: the same rule left out of both, or a slip in the vocabulary that both read. They
// agree with each other then, so only a law that says on its own terms what may be can see it. Each has a short trace
// (slips.json) on which its law reports it. Nobody chose these for being hard: they are what a reviewer tried.
// A first reader may skip the edits.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Trace } from '#abi/trace.ts';
import type { Edit } from './exhibit.ts';
import { projectRoot } from './source-tree.ts';
import { tracesByName } from './traces.ts';

/** A slip on both sides, and the law that must report it. Paths of edits begin with the layer. */
export interface Slip {
  readonly id: string;
  readonly law: string;
  readonly edits: readonly Edit[];
}

export const slips: readonly Slip[] = [
  {
    id: 'slip-grant-for-anybody',
    law: 'grants/everyUseWasGiven',
    edits: [
      { file: 'model/grants/entry.ts', before: 'entry.domain === use.by && ', after: '' },
      {
        file: 'impl/grants/entry.ts',
        before: 'isAccess && field(low, 16, 16) === use.by;',
        after: 'isAccess;',
      },
    ],
  },
  {
    id: 'slip-grant-written-though-read-only',
    law: 'grants/everyUseWasGiven',
    edits: [
      {
        file: 'model/grants/entry.ts',
        before: ' && (use.readOnly || !hasAll(entry.flags, grantFlags.readOnly));',
        after: ';',
      },
      {
        file: 'impl/grants/entry.ts',
        before: ' && (use.readOnly || !hasAll(low, grantFlags.readOnly));',
        after: ';',
      },
    ],
  },
  {
    id: 'slip-grant-used-by-two',
    law: 'grants/everyUseWasGiven',
    edits: [
      {
        file: 'model/grants/claim.ts',
        before: '(active.domain !== want.by || isFull(state, active, want.flags))',
        after: 'isFull(state, active, want.flags)',
      },
      {
        file: 'impl/grants/claim.ts',
        before: "  if (pinned && m.f.activeDomain.get(at) !== want.by + 1) return 'generalError';\n",
        after: '',
      },
    ],
  },
  {
    id: 'slip-read-only-mappings-written',
    law: 'hap/nobodyReachesWhatIsNotTheirs',
    edits: [{ file: 'abi/hap.ts', before: "grantRo: 'r',", after: "grantRo: 'rw'," }],
  },
  {
    id: 'slip-foreign-mappings-executed',
    law: 'hap/nobodyReachesWhatIsNotTheirs',
    edits: [{ file: 'abi/hap.ts', before: "foreign: 'rw',", after: "foreign: 'rwx'," }],
  },
  {
    id: 'slip-kept-rights-written',
    law: 'hap/nobodyReachesWhatIsNotTheirs',
    edits: [{ file: 'abi/hap.ts', before: "  r: 'r',", after: "  r: 'rw'," }],
  },
  {
    id: 'slip-foreign-mappings-by-anybody',
    law: 'hap/nobodyReachesWhatIsNotTheirs',
    edits: [
      {
        file: 'model/memory/physmap.ts',
        before: "  if (target.kind !== 'control') return { errno: 'EPERM' };\n",
        after: '',
      },
      {
        file: 'impl/memory/physmap.ts',
        before: "  if (m.f.domKind.get(target) !== CONTROL) return 'EPERM';\n",
        after: '',
      },
    ],
  },
];

/** Path of the traces, by slip, from the project's folder. */
export const slipFile = 'museum/slips.json';

/** The stored trace of each slip, by id. */
export const slipTraces = (): ReadonlyMap<string, Trace> =>
  tracesByName(readFileSync(join(projectRoot, slipFile), 'utf8'), slipFile);
