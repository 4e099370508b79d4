// The progress line: rewritten in place on a terminal, a plain line now and then elsewhere, an object per line with --json.
// A first reader may skip it.

import { createLogUpdate } from 'log-update';

/** Where a command speaks. `say`: for good. `progress`: until the next. `record`: for machines, with --json only. */
export interface Voice {
  readonly say: (...lines: readonly string[]) => void;
  readonly progress: (line: string, data?: object) => void;
  readonly record: (data: object) => void;
  /** Wipes the progress line. */
  readonly done: () => void;
}

/** Milliseconds between two progress lines: on a terminal, in a log, for machines. */
const EVERY = { terminal: 100, log: 10_000, json: 1000 } as const;

/** At most one call per `interval` passes; the first does so after one interval unless `eager`. */
function throttled<T extends readonly unknown[]>(interval: number, eager: boolean, pass: (...parts: T) => void) {
  let last = eager ? -interval : performance.now();
  return (...parts: T): void => {
    if (performance.now() - last < interval) return;
    last = performance.now();
    pass(...parts);
  };
}

const print = (line: string): void => void process.stdout.write(`${line}\n`);

const machineVoice = (): Voice => {
  const record = (data: object): void => print(JSON.stringify(data));
  return {
    say: () => undefined,
    progress: throttled(EVERY.json, false, (_line, data) => record({ kind: 'progress', ...data })),
    record,
    done: () => undefined,
  };
};

const terminalVoice = (): Voice => {
  const update = createLogUpdate(process.stdout, { showCursor: true });
  const show = throttled(EVERY.terminal, true, (line: string) => update(line));
  return {
    say: (...lines) => {
      update.clear();
      lines.forEach(print);
    },
    progress: (line) => show(line),
    record: () => undefined,
    done: () => update.clear(),
  };
};

const logVoice = (): Voice => ({
  say: (...lines) => lines.forEach(print),
  progress: throttled(EVERY.log, false, (line: string) => print(line)),
  record: () => undefined,
  done: () => undefined,
});

/** The voice for this process: machine, terminal or log. */
export function voiceOf(json: boolean): Voice {
  if (json) return machineVoice();
  return process.stdout.isTTY ? terminalVoice() : logVoice();
}
