#!/usr/bin/env node
// The command line of the live oracles: `npm run oracle -- cpu` and `npm run oracle -- xen`. Exit codes: 0 all equal, 1 a disagreement or a rule that is
// needed no more, 2 wrong use or no emulator. A first reader may skip this file.

import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { seedOf } from '#lib/prng.ts';
import { Missing } from './cpu/build.ts';
import { askCpu, type Asked, engineNames } from './cpu/command.ts';
import { oracleNames } from './cpu/rules.ts';
import { type AskedXen, askXen, NotResults } from './xen/command.ts';
import { Silent } from './xen/mailbox.ts';

const USAGE = 2;

/** What ends a command with its sentence alone. */
const unusable = [Missing, Silent, NotResults];

const refuse = (sentence: string): never => {
  throw new InvalidArgumentError(sentence);
};

const whole = (text: string): number => {
  const n = Number(text);
  return Number.isSafeInteger(n) && n > 0 ? n : refuse('It wants a whole number above 0.');
};

const oneOf =
  <T extends string>(names: readonly T[]) =>
  (text: string): T =>
    names.find((name) => name === text) ?? refuse(`There is no such one; there are ${names.join(', ')}.`);

const seed = (text: string): number =>
  /^[\w.-]{1,64}$/u.test(text) ? seedOf(text) : refuse('It wants a whole number or a word, a git hash say.');

/** The program; `end` is told the exit code. */
function program(end: (code: number) => void): Command {
  const root = new Command('oracle').description('Other implementations asked about random and directed cases.');
  root
    .command('cpu')
    .description('accesses of a processor, on QEMU and Bochs')
    .option('--engine <name>', 'these cases only: native, svm, vmx', oneOf(engineNames))
    .option('--oracle <name>', 'this emulator only: qemu, bochs', oneOf(oracleNames))
    .option('--cases <n>', 'how many random cases, over all emulators', whole, 100_000)
    .option('--seed <seed>', 'a whole number or a git hash', seed, 1)
    .option('--record <folder>', 'write all cases and answers there, one file for each emulator and way of asking')
    .option('--directed <file>', 'look for a case for each rule instead, and write them there')
    .option('--json', 'one JSON object per line instead of words')
    .action(async (asked: Asked) => end(await askCpu(asked)));
  root
    .command('xen')
    .description('memory and grant operations, on Xen itself in QEMU')
    .option('--sequences <n>', 'how many random sequences', whole, 100)
    .option('--seed <seed>', 'a whole number or a git hash', seed, 1)
    .option('--seconds <n>', 'no new sequence after so many', whole)
    .option('--xen <file>', "the hypervisor's file; without it that of Debian's package")
    .option('--results <file>', 'add a line for each sequence there, and play none again that has one')
    .option('--record <folder>', 'write all sequences on which both agree and what was seen there')
    .option('--directed <folder>', 'play the sequence of each rule instead, and write what was seen there')
    .option('--json', 'one JSON object per line instead of words')
    .action(async (asked: AskedXen) => end(await askXen(asked)));
  for (const command of [root, ...root.commands]) command.exitOverride().showHelpAfterError(false);
  return root;
}

/** Runs the command line; answers the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  let code = 0;
  try {
    await program((ended) => (code = ended)).parseAsync([...argv], { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
    if (!(error instanceof Error) || !unusable.some((kind) => error instanceof kind)) throw error;
    process.stderr.write(`${error.message}\n`);
    return USAGE;
  }
}

process.exitCode = await main(process.argv.slice(2));
