// XSA-328: an entry of live nested tables is written field by field. See README.md for the story.
// A first reader may skip the edits' text: all but the last-but-one turn plain functions into ones that can be paused.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-328',
  title: 'An entry of live nested tables is written in several stores',
  year: 2020,
  mechanism: 'hap',
  class: 'interleaved',
  invariants: ['PTW', 'OWN'],
  source:
    'XSA-328, "non-atomic modification of live EPT PTE"; fixed in Xen by "x86/ept: atomically modify entries in ept_next_level"',
  edits: [
    {
      file: 'hap/change.ts',
      before: "import type { Machine } from '../machine.ts';\n",
      after: "import type { Machine } from '../machine.ts';\nimport type { Step } from '../port.ts';\n",
    },
    {
      file: 'hap/change.ts',
      before: 'export function apply(m: Machine, job: Job, node: Node): void {',
      after: 'export function* apply(m: Machine, job: Job, node: Node): Step<void> {',
    },
    {
      file: 'hap/change.ts',
      before: '    else descend(m, job, place);',
      after: '    else yield* descend(m, job, place);',
    },
    {
      file: 'hap/change.ts',
      before: 'function descend(m: Machine, job: Job, place: Place): void {',
      after: 'function* descend(m: Machine, job: Job, place: Place): Step<void> {',
    },
    {
      file: 'hap/change.ts',
      before: '    apply(m, job, child);\n    if (job.code !== 0)',
      after: '    yield* apply(m, job, child);\n    if (job.code !== 0)',
    },
    {
      file: 'hap/change.ts',
      before: `  apply(m, job, child);
  storeEntry(m, { table: node.table, index }, { lo: tableLow(child.table), hi: tableHigh(child.table) });
`,
      after: `  yield* apply(m, job, child);
  if (!isLeaf) {
    storeEntry(m, { table: node.table, index }, { lo: tableLow(0), hi: tableHigh(0) });
    yield* m.port.point('store', 'table');
  }
  storeEntry(m, { table: node.table, index }, { lo: tableLow(child.table), hi: tableHigh(child.table) });
`,
    },
    {
      file: 'hap/table.ts',
      before: '  apply(m, job, rootOf(m, dom));\n',
      after: '  yield* apply(m, job, rootOf(m, dom));\n',
    },
    {
      file: 'grants/move.ts',
      before: '  apply(m, leaving, root);\n  apply(m, arriving, root);\n',
      after: '  yield* apply(m, leaving, root);\n  yield* apply(m, arriving, root);\n',
    },
  ],
  killedBy: ['hap/everyWalkedPageIsATable', 'hap/noGuestWritesTables', 'hap/nobodyReachesWhatIsNotTheirs'],
  trace: 'trace.json',
  note: 'Needs a change that links a new table, stopped between the two stores: the rights are there, the frame is not yet.',
};
