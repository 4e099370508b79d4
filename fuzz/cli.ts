#!/usr/bin/env node
// Where the command line begins: `npm start`, `npm run fuzz`, `coverage`, `replay`, `museum` and `exhaust`, and `ringfence` once installed.
// What it understands is in commands.ts.

import { main } from './commands.ts';

process.exitCode = await main(process.argv.slice(2));
