// Lays out an empty exhibit: npm run new:exhibit -- xsa-224. The blanks are marked with three question marks and do not
// compile or pass as they are: the compiler and the museum's tests name what is still missing.
// A first reader may skip it.

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from './docs.ts';

const exhibit = (id: string): string => `// ${id.toUpperCase()}: ??? (what the defect is, in a sentence).
// The story, and what a guest would notice, is in README.md.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: '${id}',
  title: '???',
  year: ???,
  mechanism: '???',
  class: '???',
  invariants: ['???'],
  source: '${id.toUpperCase()}; fixed by ???',
  edits: [
    {
      file: '???',
      before: \`???\`,
      after: \`???\`,
    },
  ],
  killedBy: ['???'],
  trace: 'trace.json',
  note: '???',
};
`;

const story = (id: string): string => `# ${id.toUpperCase()}: ???

**What went wrong.** ???

**What a guest could do with it.** ???

**What the edit does.** ???

**The law that notices, and why.** ???
`;

const [id = ''] = process.argv.slice(2);
const folder = join(projectRoot, 'museum', id);

if (!/^xsa-\d+[a-z]?$/.test(id)) {
  console.error('Say which: npm run new:exhibit -- xsa-224');
  process.exitCode = 2;
} else if (existsSync(folder)) {
  console.error(`museum/${id} is there already.`);
  process.exitCode = 1;
} else {
  mkdirSync(folder);
  writeFileSync(join(folder, 'exhibit.ts'), exhibit(id));
  writeFileSync(join(folder, 'README.md'), story(id));
  console.log(
    `museum/${id}: fill in the blanks, then npm run types, and npm run museum -- --id ${id} --hunt for its trace.`,
  );
}
