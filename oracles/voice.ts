// Where the command speaks: a progress line rewritten in place on a terminal, a plain line now and then elsewhere, an object
// per line with --json. A first reader may skip it.

import { createLogUpdate } from 'log-update';

/** `say`: for good. `progress`: until the next. `record`: for machines, with --json only. `done`: wipes the progress line. */
export interface Voice {
  readonly say: (...lines: readonly string[]) => void;
  readonly progress: (line: string, data: object) => void;
  readonly record: (data: object) => void;
  readonly done: () => void;
}

/** Milliseconds between two progress lines: in a log, for machines. */
const EVERY = { log: 10_000, json: 1000 } as const;

/** At most one call per `interval` passes. */
function throttled(interval: number, pass: (line: string, data: object) => void): Voice['progress'] {
  let last = performance.now();
  return (line, data) => {
    if (performance.now() - last < interval) return;
    last = performance.now();
    pass(line, data);
  };
}

const print = (line: string): void => void process.stdout.write(`${line}\n`);

const nothing = (): void => undefined;

function terminalVoice(): Voice {
  const update = createLogUpdate(process.stdout, { showCursor: true });
  return {
    say: (...lines) => {
      update.clear();
      lines.forEach(print);
    },
    progress: (line) => update(line),
    record: nothing,
    done: () => update.clear(),
  };
}

/** The voice for this process. */
export function voiceOf(json: boolean): Voice {
  if (json) {
    const record = (data: object): void => print(JSON.stringify(data));
    const progress = throttled(EVERY.json, (_line, data) => record({ kind: 'progress', ...data }));
    return { say: nothing, progress, record, done: nothing };
  }
  if (process.stdout.isTTY) return terminalVoice();
  return {
    say: (...lines) => lines.forEach(print),
    progress: throttled(EVERY.log, (line) => print(line)),
    record: nothing,
    done: nothing,
  };
}
