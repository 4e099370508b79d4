// The process that judges, as its parent sees it: started when needed, asked about one mutant at a time, ended and started anew
// when a mutant takes it along or does not come back. A first reader may skip it.

import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { projectRoot } from '#museum/source-tree.ts';
import { SILENT_MS } from './limits.ts';
import type { Said, Verdict } from './judge.ts';
import type { Mutant } from './mutants.ts';

/** Asks the judge, and keeps it alive. */
export class Court {
  #child: ChildProcess | undefined;

  /** Starts the judge if there is none. */
  async ready(): Promise<void> {
    if (this.#child !== undefined) return;
    const child = fork(fileURLToPath(new URL('./judge.ts', import.meta.url)), [], {
      cwd: projectRoot,
      execArgv: ['--conditions=ringfence-source', '--import', join(projectRoot, 'tools/source.mjs')],
      // Ctrl-C is for the parent; what the judge says to the terminal would disturb the progress line.
      detached: true,
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    this.#child = child;
    const said = await heard(child);
    if (said?.kind === 'ready') return;
    this.close();
    throw new Error('The process that judges mutants does not start.');
  }

  /** Judges one mutant. */
  async verdictOn(mutant: Mutant): Promise<Verdict> {
    await this.ready();
    const child = this.#child as ChildProcess;
    const start = performance.now();
    const answer = heard(child, SILENT_MS);
    child.send(mutant);
    const said = await answer;
    if (said?.kind === 'verdict') return said.verdict;
    if (said?.kind === 'broken')
      throw new Error(`Judging impl/${mutant.file}:${mutant.line} went wrong: ${said.message}`);
    const isGone = child.exitCode !== null || child.signalCode !== null;
    this.close();
    const milliseconds = Math.round(performance.now() - start);
    return isGone
      ? { status: 'killed', by: 'the process ended', milliseconds }
      : { status: 'timeout', by: 'no answer', milliseconds };
  }

  /** Ends the judge. */
  close(): void {
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
  }
}

/** What the process says next; undefined: it ended, or said nothing in time. */
function heard(child: ChildProcess, milliseconds?: number): Promise<Said | undefined> {
  return new Promise((resolve) => {
    const done = (said?: Said): void => {
      clearTimeout(timer);
      child.off('message', onMessage);
      child.off('exit', onExit);
      resolve(said);
    };
    const onMessage = (said: unknown): void => done(said as Said);
    const onExit = (): void => done();
    const timer = milliseconds === undefined ? undefined : setTimeout(() => done(), milliseconds);
    child.once('message', onMessage);
    child.once('exit', onExit);
  });
}
