// `npm run removals [-- --seed N --count N --steps N]`: draws places, takes each out, hunts it, and writes docs/removals.md.
// Progress goes to the terminal; a run that is stopped leaves the page as it was.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { drawn, huntRemoval, placesIn, type Removal } from './removals.ts';
import { projectRoot, readSources } from './source-tree.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '2026' },
    count: { type: 'string', default: '30' },
    steps: { type: 'string', default: '60000' },
  },
});
const [seed, count, steps] = [Number(values.seed), Number(values.count), Number(values.steps)];

const cell = (text: string): string => text.replaceAll('|', '\\|');

const row = ({ place, law, steps: taken }: Removal): string =>
  `| ${place.kind} | \`impl/${place.file}:${place.line}\` | \`${cell(place.text)}\` | ${law ?? '**survives**'} | ${taken} |`;

const places = placesIn(readSources('impl'));
const removals: Removal[] = [];
for (const place of drawn(places, seed, count)) {
  const removal = await huntRemoval(place, { seed: 1, steps });
  removals.push(removal);
  process.stdout.write(`${removals.length}/${count} ${row(removal)}\n`);
}

const caught = removals.filter(({ law }) => law !== undefined).length;
const page = [
  '# Places taken out of the implementation',
  '',
  `${count} of ${places.length} places in \`impl/\` (checks, flushes, references, scrubs, locks, yields on a line of their own), drawn by seed ${seed};`,
  `each is taken out alone and hunted with seed 1 for at most ${steps} completed operations. Caught: ${caught} of ${removals.length}.`,
  `\`npm run removals -- --seed ${seed} --count ${count} --steps ${steps}\` repeats it.`,
  '',
  '| kind | place | text | law that caught it | operations |',
  '|---|---|---|---|---|',
  ...removals.map(row),
  '',
].join('\n');
writeFileSync(join(projectRoot, 'docs/removals.md'), page);
