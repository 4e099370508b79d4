// Tests run on the source: the condition selects .ts files behind the # imports.
import { defineConfig } from 'vitest/config';

const conditions = ['ringfence-source', 'node', 'import', 'module', 'default'];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: { include: ['**/*.test.ts'], exclude: ['node_modules/**', 'dist/**', 'build/**'], maxWorkers: 2 },
});
