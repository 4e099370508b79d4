// Tests run on the source. Test files go through vitest; everything they import is loaded by node itself through
// tools/source.mjs, because code that vitest transforms runs several times slower (docs/decisions/0003).
// The condition selects .ts files behind the # imports, here and in node.

import { defineConfig } from 'vitest/config';

const conditions = ['ringfence-source', 'node', 'import', 'module', 'default'];

const nativelyLoaded = /^(?!.*\/node_modules\/)(?!.*\.test(?:ing)?\.ts$)(?!.*\.config\.ts$).*\.ts$/;

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ['**/*.test.ts'],
    exclude: ['**/node_modules/**', 'dist/**', 'build/**'],
    pool: 'forks',
    maxWorkers: 2,
    // A guard against hanging, not a measurement: machines that do other things as well are slow.
    testTimeout: 120_000,
    execArgv: [
      '--single-threaded-gc',
      '--conditions=ringfence-source',
      '--import',
      new URL('./tools/source.mjs', import.meta.url).href,
    ],
    server: { deps: { external: [nativelyLoaded] } },
  },
});
