// The process that judges mutants, one after the other as its parent asks. Every piece of the suite runs under a time limit that
// also ends an endless loop; if even that does not help, the parent ends this process.
// A first reader may skip it.

import { register } from 'node:module';
import { Script } from 'node:vm';
import { BUDGET_MS, BUSY, HANGING_MS } from './limits.ts';
import type { Mutant } from './mutants.ts';
import { Suite, type Piece } from './suite.ts';

/** What came of a mutant: found by whom, hanging where, or not found. */
export interface Verdict {
  readonly status: 'killed' | 'timeout' | 'survived';
  /** A law, a test, or the message of what was thrown. */
  readonly by?: string;
  readonly milliseconds: number;
  /** Whether the time was up before the suite was. */
  readonly isCut?: boolean;
}

/** What the process says: that it is ready, a verdict, or that judging itself went wrong. */
export type Said =
  | { readonly kind: 'ready' }
  | { readonly kind: 'verdict'; readonly verdict: Verdict }
  | { readonly kind: 'broken'; readonly message: string };

const place = globalThis as unknown as { ringfencePiece: (() => string | undefined) | undefined };
const script = new Script('ringfencePiece()');

const isTimeout = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT';

/** Whether node could not load a module: that is no mutant's doing. */
const isLoader = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && /^ERR_(?:MODULE|INVALID|UNSUPPORTED|UNKNOWN)_/u.test(String(error.code));

const messageOf = (error: unknown): string =>
  `threw: ${(error instanceof Error ? error.message : String(error)).split('\n')[0] ?? ''}`.slice(0, 120);

/** Milliseconds of processor that this process has had since. */
const usedSince = (before: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(before);
  return Math.round((user + system) / 1000);
};

/**
 * Runs a piece. The limit of a script is one of the wall: on a machine that does other things it may be over before the piece
 * has had its time, which then gets more of it.
 */
function found({ run }: Piece): string | undefined {
  place.ringfencePiece = run;
  for (let timeout = HANGING_MS; ; timeout *= 2) {
    const before = process.cpuUsage();
    try {
      return script.runInThisContext({ timeout }) as string | undefined;
    } catch (error) {
      if (!isTimeout(error) || usedSince(before) >= HANGING_MS * BUSY || timeout > 10 * HANGING_MS) throw error;
    }
  }
}

async function verdictOn(suite: Suite, mutant: Mutant): Promise<Verdict> {
  suite.prepareFor(mutant);
  const start = process.cpuUsage();
  const elapsed = (): number => usedSince(start);
  let at = 'loading';
  try {
    for await (const piece of suite.piecesFor(mutant)) {
      if (elapsed() >= BUDGET_MS) return { status: 'survived', milliseconds: elapsed(), isCut: true };
      at = piece.name;
      const by = found(piece);
      if (by !== undefined) return { status: 'killed', by, milliseconds: elapsed() };
    }
  } catch (error) {
    if (isLoader(error)) throw error;
    if (isTimeout(error)) return { status: 'timeout', by: at, milliseconds: elapsed() };
    return { status: 'killed', by: `${at} ${messageOf(error)}`, milliseconds: elapsed() };
  }
  return { status: 'survived', milliseconds: elapsed() };
}

const say = (said: Said): void => void process.send?.(said);

register('./hooks.mjs', import.meta.url);
const suite = new Suite();
let queue = Promise.resolve();
process.on('message', (mutant: Mutant) => {
  queue = queue.then(async () => {
    try {
      say({ kind: 'verdict', verdict: await verdictOn(suite, mutant) });
    } catch (error) {
      say({ kind: 'broken', message: messageOf(error) });
    }
  });
});
say({ kind: 'ready' });
