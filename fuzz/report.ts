// Findings in words: the law that broke and its sentence, the shortest trace, both sides at the first difference, and the
// one command that replays it. Sentences here are for people; --json has the same as data.
// A first reader may skip it.

import pc from 'picocolors';
import { describeTrace } from '#abi/describe.ts';
import type { Trace } from '#abi/trace.ts';
import type { Failure } from '#properties/harness/law.ts';

/** A number for people: 1234567 as 1,234,567. */
export const grouped = (n: number): string => String(Math.round(n)).replaceAll(/\B(?=(\d{3})+$)/g, ',');

/** A share as a percentage without decimals. */
export const percent = (part: number, whole: number): string =>
  `${whole === 0 ? 0 : Math.round((100 * part) / whole)} %`;

/** `3 operations`, `1 operation`. */
export const counted = (n: number, thing: string): string => `${grouped(n)} ${thing}${n === 1 ? '' : 's'}`;

/** Seconds for people. */
export const seconds = (n: number): string => (n < 10 ? `${n.toFixed(1)} s` : `${Math.round(n)} s`);

const indented = (lines: readonly string[]): readonly string[] => lines.map((line) => `  ${line}`);

/** The law that broke, and how: statement, sentence of this case, both sides. */
export function failureInWords(failure: Failure): readonly string[] {
  const { law, statement, invariant, sentence, expected, actual } = failure;
  return [
    `${pc.bold(pc.red(law))} ${pc.dim(`(${invariant})`)}: ${statement}`,
    ...indented([
      `Here: ${sentence}.`,
      ...(expected === undefined ? [] : [`model:          ${expected}`]),
      ...(actual === undefined ? [] : [`implementation: ${actual}`]),
    ]),
  ];
}

/** A trace in words, its machine dimmed; what the machine is like matters less than what happens on it. */
export function traceInWords(trace: Trace): readonly string[] {
  const lines = describeTrace(trace);
  const head = lines.length - trace.steps.length;
  return indented(lines.map((line, i) => (i < head ? pc.dim(line) : line)));
}

/** How to replay a stored trace. */
export const replayCommand = (file: string, exhibit?: string): string =>
  `npm run replay -- ${file}${exhibit === undefined ? '' : ` --exhibit ${exhibit}`}`;

/** A table of text: columns padded, the first row underlined. */
export function table(rows: readonly (readonly string[])[]): readonly string[] {
  const width = (column: number): number => Math.max(...rows.map((row) => (row[column] ?? '').length));
  const widths = (rows[0] ?? []).map((_, column) => width(column));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  const [head = [], ...rest] = rows;
  return [pc.bold(line(head)), pc.dim(widths.map((n) => '-'.repeat(n)).join('  ')), ...rest.map(line)];
}
