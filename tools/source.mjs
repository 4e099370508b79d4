// Lets node run the TypeScript of this project as it stands, at the speed of plain JavaScript and without a build:
//   node --conditions=ringfence-source --import ./tools/source.mjs FILE.ts
// The condition makes `#layer/...` mean the source; without it those imports mean dist/. Loading this file twice is harmless.
// A first reader may skip it. docs/decisions/0003 says why it is not tsx.

import { register } from 'node:module';

const loaded = Symbol.for('ringfence.source');

if (!globalThis[loaded]) {
  globalThis[loaded] = true;
  register('./source-hooks.mjs', import.meta.url);
}
