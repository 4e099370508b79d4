// Stored text to traces and cases, and back. Decoding is total: every text gives a value or one sentence that says what is
// wrong and where (`steps[3].op.elements[0].gfn: ...`, or line and column if it is not JSON at all). Encoding is
// deterministic: keys in declared order, one step per line; what is encoded can be decoded.

import { invariant } from '#lib/invariant.ts';
import { type Case, CASE_VERSION } from './case.ts';
import { type Decoded, parseJson, printJson } from './json.ts';
import { machineProblem } from './machine.ts';
import { readShape, type Shape } from './shape.ts';
import { caseShape, traceShape } from './shapes.ts';
import { type Trace, TRACE_VERSION } from './trace.ts';

/** A decoded trace, or one sentence about what is wrong with the text. */
export type DecodedTrace =
  { readonly ok: true; readonly trace: Trace } | { readonly ok: false; readonly error: string };

/** A decoded case, or one sentence about what is wrong with the text. */
export type DecodedCase = { readonly ok: true; readonly case: Case } | { readonly ok: false; readonly error: string };

/** The value at a key of what may or may not be a record. */
const part = (value: unknown, name: string): unknown =>
  typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Readonly<Record<string, unknown>>)[name]
    : undefined;

/** Why a document of version `found` cannot be read; undefined if it can, or has no version at all. */
const otherVersion = (found: unknown, reads: number, path: string): string | undefined =>
  typeof found === 'number' && found !== reads
    ? `${path}: this is version ${found}; this ringfence reads version ${reads}: re-record it or use the matching release`
    : undefined;

/** The first label that stands twice. */
function twice(trace: Trace): string | undefined {
  const seen = new Map<number, number>();
  for (const [i, step] of trace.steps.entries()) {
    const first = seen.get(step.label);
    if (first !== undefined) return `steps[${i}].label: ${step.label} is the label of steps[${first}] already`;
    seen.set(step.label, i);
  }
  return undefined;
}

function checkTrace(value: unknown): Decoded<Trace> {
  const read = readShape(traceShape, value, '') as Decoded<Trace>;
  const error = read.ok ? (machineProblem(read.value.header) ?? twice(read.value)) : undefined;
  return error === undefined ? read : { ok: false, error };
}

/** The trace that `text` holds. Never throws. */
export function decodeTrace(text: string): DecodedTrace {
  const json = parseJson(text);
  if (!json.ok) return json;
  const version = otherVersion(part(part(json.value, 'header'), 'version'), TRACE_VERSION, 'header.version');
  if (version !== undefined) return { ok: false, error: version };
  const read = checkTrace(json.value);
  return read.ok ? { ok: true, trace: read.value } : read;
}

/** The case that `text` holds. Never throws. */
export function decodeCase(text: string): DecodedCase {
  const json = parseJson(text);
  if (!json.ok) return json;
  const version = otherVersion(part(json.value, 'version'), CASE_VERSION, 'version');
  if (version !== undefined) return { ok: false, error: version };
  const read = readShape(caseShape, json.value, '');
  return read.ok ? { ok: true, case: read.value as Case } : read;
}

function encode(read: Decoded<unknown>): string {
  invariant(read.ok, `what is encoded can be decoded (${read.ok ? '' : read.error})`);
  return printJson(read.value);
}

/** `trace` as text; equal traces give equal texts. A trace that could not be decoded is our mistake. */
export const encodeTrace = (trace: Trace): string => encode(checkTrace(trace));

/** `one` as text; equal cases give equal texts. */
export const encodeCase = (one: Case): string => encode(readShape(caseShape satisfies Shape, one, ''));
