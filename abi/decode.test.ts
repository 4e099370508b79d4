// Decoding says what is wrong and where, never throws, and encoding is stable. Examples and mutilated documents here; round
// trips over all operations stand in properties/harness/resolve.test.ts.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DomId, domId, type GrantRef, type PcpuId, type VcpuId } from './address.ts';
import type { Case } from './case.ts';
import { decodeCase, decodeTrace, encodeCase, encodeTrace } from './decode.ts';
import { parseJson, printJson } from './json.ts';
import type { Trace } from './trace.ts';

const self = domId(0x7ff0);
const guest = { kind: 'vcpu', domain: 1 as DomId, vcpu: 0 as VcpuId } as const;

const trace: Trace = {
  header: {
    version: 1,
    geometry: 'tiny',
    width: { pin: 2 },
    pcpus: 2,
    iommus: [{ kind: 'vtd', levels: 3, coherent: false, superpages: true }],
    flush: 'lazy',
    scrub: 'always',
    scrubAt: 'later',
    superpages: true,
    domains: [
      { id: domId(0), kind: 'control', vcpus: 1, maxPages: 8, poolFrames: 4, grantFrames: 1, ram: [], on: [0] },
      {
        id: domId(1),
        kind: 'hvm',
        vcpus: 2,
        maxPages: 8,
        poolFrames: 4,
        grantFrames: 1,
        ram: [{ path: [0, 1], order: 2 }],
        grantsAt: [1, 0, 0],
        on: [1, -1],
      },
    ],
  },
  steps: [
    {
      label: 0,
      agent: guest,
      op: {
        kind: 'paging.write',
        gfn: { path: [0, 1, 2] },
        offset: 8,
        size: 8,
        value: { as: 'grantEntry', flags: 5, domain: domId(2), gfn: { raw: 3 } },
        via: 0,
        as: 'supervisor',
      },
      pause: { class: 'store', object: 'table', nth: 1 },
      failures: [{ class: 'heap', nth: 2 }],
      preempt: 3,
    },
    { label: 7, resume: 0 },
    {
      label: 8,
      agent: { kind: 'vcpu', domain: 2 as DomId, vcpu: 1 as VcpuId },
      op: {
        kind: 'grants.map',
        elements: [{ flags: 2, domain: domId(1), ref: 3 as GrantRef, gfn: { path: [] }, offset: 0 }],
        results: { in: 'guest', gfn: { path: [1] }, offset: 0 },
        start: { step: 7, index: 0 },
      },
    },
    {
      label: 9,
      agent: { kind: 'fate' },
      op: { kind: 'tlb.schedule', target: self, vcpu: 0 as VcpuId, pcpu: -1 as PcpuId },
    },
  ],
};

const sample: Case = {
  engine: 'ept',
  version: 1,
  geometry: 'x86',
  registers: { root: 5, accessedDirty: 'on' },
  access: { kind: 'write', frame: 2 ** 36 - 1 },
  image: [
    { mfn: 5, index: 511, word: { lo: 0x6007, hi: 0 } },
    { mfn: 6, index: 511, word: { lo: 0x7007, hi: 0xfff0_0000 } },
  ],
};

/** The refusal of `trace` with one place replaced. */
function refusal(edit: (value: never) => void): string {
  const copy = structuredClone(trace);
  edit(copy as never);
  const decoded = decodeTrace(JSON.stringify(copy));
  return decoded.ok ? 'accepted' : decoded.error;
}

const at = (path: string, value: unknown): string =>
  refusal((copy) => {
    const keys = path.split('.');
    let place: Record<string, unknown> = copy;
    for (const key of keys.slice(0, -1)) place = place[key] as Record<string, unknown>;
    const last = keys.at(-1) ?? '';
    if (value === undefined) delete place[last];
    else place[last] = value;
  });

describe('encoding', () => {
  test('decoding undoes it, and it is stable', () => {
    const text = encodeTrace(trace);
    const decoded = decodeTrace(text);
    expect(decoded).toEqual({ ok: true, trace });
    expect(decoded.ok && encodeTrace(decoded.trace)).toBe(text);
    const caseText = encodeCase(sample);
    const decodedCase = decodeCase(caseText);
    expect(decodedCase).toEqual({ ok: true, case: sample });
    expect(decodedCase.ok && encodeCase(decodedCase.case)).toBe(caseText);
  });

  test('a vendor is kept, and may be left out', () => {
    expect(encodeTrace(trace)).not.toContain('vendor');
    const amd: Trace = { ...trace, header: { ...trace.header, vendor: 'amd', width: { asid: 2, asidGeneration: 3 } } };
    expect(decodeTrace(encodeTrace(amd))).toEqual({ ok: true, trace: amd });
  });

  test('one step per line, keys in declared order whatever their order was', () => {
    const lines = encodeTrace(trace).split('\n');
    expect(lines).toContain('    { "label": 7, "resume": 0 },');
    expect(lines.filter((line) => line.includes('"label"')).length).toBe(trace.steps.length);
    const reversed = {
      steps: trace.steps,
      header: Object.fromEntries(Object.entries(trace.header).toReversed()),
    } as unknown as Trace;
    expect(encodeTrace(reversed)).toBe(encodeTrace(trace));
  });

  test('what could not be decoded is not encoded', () => {
    expect(() => encodeTrace({ ...trace, header: { ...trace.header, pcpus: -1 } })).toThrow('header.pcpus');
  });
});

describe('refusals', () => {
  test.each([
    ['header', undefined, 'header: missing'],
    ['header.scrub', undefined, 'header.scrub: missing'],
    ['header.version', undefined, 'header.version: missing'],
    ['header.version', '1', 'header.version: expected an integer in 1..1, found "1"'],
    ['header.geometry', 'huge', 'header.geometry: unknown geometry "huge"; known are tiny, x86'],
    ['header.width.pins', 3, 'header.width.pins: unknown key; known are refCount, typeCount, linear, pages, pin, tlbClock, asid, asidGeneration'],
    ['header.vendor', 'via', 'header.vendor: unknown vendor "via"; known are intel, amd'],
    ['header.superpages', 1, 'header.superpages: expected true or false, found 1'],
    ['header.domains.1.ram.0.order', 64, 'header.domains[1].ram[0].order: 64 lies outside 0..63'],
    ['header.pcpus', 64, 'header.pcpus: 64 is more than 3, the most that geometry tiny has room for'],
    ['header.domains.0.on.0', 2, 'header.domains[0].on[0]: 2 is more than 1, the last processor of this machine'],
    ['header.domains.0.on', [0, 0], 'header.domains[0].on: 2 is more than 1, the number of its vCPUs'],
    ['header.domains.0.poolFrames', 4000, 'header.domains[0].poolFrames: 4000 is more than 12, the most that geometry tiny has room for (poolFrames)'],
    ['header.domains.0.grantFrames', 3, 'header.domains[0].grantFrames: 3 is more than 2, the most that geometry tiny has room for (grantFrames)'],
    ['header.domains.0.vcpus', 3, 'header.domains[0].vcpus: 3 is more than 2, the most that geometry tiny has room for (vcpusPerDomain)'],
    ['header.domains.1.id', 9, 'header.domains[1].id: 9 is more than 3, the last id that geometry tiny has room for'],
    ['header.domains.1.id', 0, 'header.domains[1].id: 0 is the id of header.domains[0] already'],
    ['header.domains.1.ram.0.order', 5, 'header.domains[1].ram[0].order: 5 is more than 4, the most that geometry tiny has room for (orderMaxControl)'],
    ['steps', {}, 'steps: expected a list, found a record'],
    ['steps.0', null, 'steps[0]: expected a record, found null'],
    ['steps.0.op', undefined, 'steps[0]: expected a record with one of the keys op, resume'],
    ['steps.0.when', 1, 'steps[0].when: unknown key; known are label, agent, op, pause, failures, preempt'],
    ['steps.0.a b', 1, 'steps[0]["a b"]: unknown key; known are label, agent, op, pause, failures, preempt'],
    ['steps.0.label', -1, 'steps[0].label: -1 lies outside 0..536870911'],
    ['steps.1.label', 0, 'steps[1].label: 0 is the label of steps[0] already'],
    ['steps.0.op.kind', undefined, 'steps[0].op.kind: missing'],
    ['steps.0.op.kind', 7, 'steps[0].op.kind: expected the name of a known operation, found 7'],
    ['steps.0.op.offset', 1.5, 'steps[0].op.offset: expected an integer in 0..65535, found 1.5'],
    ['steps.0.op.size', 9, 'steps[0].op.size: 9 lies outside 1..8'],
    ['steps.0.op.value.as', 'x', 'steps[0].op.value.as: unknown literal "x"; known are fresh, word, gfn, grantEntry, tableEntry'],
    ['steps.0.agent.kind', 'god', 'steps[0].agent.kind: unknown agent "god"; known are vcpu, device, deviceModel, toolstack, background, fate'],
    ['steps.2.op.elements.0.gfn', 12, 'steps[2].op.elements[0].gfn: expected a record, found 12'],
    ['steps.2.op.elements.0.gfn', {}, 'steps[2].op.elements[0].gfn: expected a record with one of the keys path, raw, at'],
    ['steps.2.op.elements.0.ref', undefined, 'steps[2].op.elements[0].ref: missing'],
    ['steps.2.op.start', { step: 7, index: 0, raw: 1 }, 'steps[2].op.start.raw: unknown key; known are step, index'],
  ])('%s = %j', (path, value, sentence) => {
    expect(at(path, value)).toBe(sentence);
  }); // prettier-ignore

  test('an unknown operation, also one named like a property of every object', () => {
    expect(at('steps.0.op.kind', 'memory.populat')).toMatch(
      /^steps\[0\]\.op\.kind: unknown operation "memory\.populat"; known are memory\.populate, /u,
    );
    expect(at('steps.0.op.kind', 'constructor')).toMatch(/unknown operation "constructor"/u);
    expect(at('header.toString', 1)).toMatch(/^header\.toString: unknown key/u);
  });

  test('another version is said before anything else', () => {
    const advice = 'this ringfence reads version 1: re-record it or use the matching release';
    expect(decodeTrace('{"header": {"version": 3, "new": 1}, "sets": []}')).toEqual({
      ok: false,
      error: `header.version: this is version 3; ${advice}`,
    });
    expect(decodeCase('{"version": 2}')).toEqual({ ok: false, error: `version: this is version 2; ${advice}` });
  });

  test('cases', () => {
    const registers = { root: 2 ** 40, accessedDirty: 'on' };
    expect(decodeCase(JSON.stringify({ ...sample, engine: 'npt' }))).toMatchObject({
      error: 'engine: unknown engine "npt"; known are ept, native, vmx, svm',
    });
    expect(decodeCase(JSON.stringify({ ...sample, registers }))).toMatchObject({
      error: 'registers.root: 1099511627776 lies outside 0..1099511627775',
    });
  });
});

describe('JSON', () => {
  test.each([
    ['', 'line 1, column 1: expected a value, found the end of the text'],
    ['{"a": 1,\n  "b": }', 'line 2, column 8: expected a value, found "}"'],
    ['{"a": 1,}', 'line 1, column 9: expected a key in double quotes, found "}"'],
    ['{"a" 1}', 'line 1, column 6: expected ":", found "1"'],
    ['[1 2]', 'line 1, column 4: expected "," or "]", found "2"'],
    ['{"a": 1 "b": 2}', 'line 1, column 9: expected "," or "}", found "\\""'],
    ['[1]\n]', 'line 2, column 1: expected the end of the text, found "]"'],
    ['["a', 'line 1, column 4: a string does not end, found the end of the text'],
    ['["a\n"]', 'line 1, column 4: a string holds a character that must be escaped, found "\\n"'],
    ['["\\x"]', 'line 1, column 3: a string holds an escape that JSON does not have, found "\\\\"'],
    ['{"a": 1, "a": 2}', 'line 1, column 10: the key "a" stands twice in one record'],
    ['['.repeat(100), 'line 1, column 66: nested more than 64 deep'],
  ])('%j', (text, error) => {
    expect(parseJson(text)).toEqual({ ok: false, error });
  });

  test('long texts do not overflow anything', () => {
    const long = 3_000_000;
    expect(parseJson(`"${'\\n'.repeat(long)}"`).ok).toBe(true);
    expect(parseJson(`"${'a'.repeat(long)}`).ok).toBe(false);
    expect(parseJson(`${' '.repeat(long)}${'1'.repeat(long)}`).ok).toBe(true);
  });

  const plain = fc.jsonValue({ maxDepth: 5 });

  test('agrees with JSON.parse on what is JSON and what it means, and printing is undone', () => {
    fc.assert(
      fc.property(plain, (value) => {
        const text = JSON.stringify(value, null, 1);
        expect(parseJson(text)).toEqual({ ok: true, value: JSON.parse(text) });
        expect(parseJson(printJson(value))).toEqual({ ok: true, value: JSON.parse(text) });
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  test('agrees with JSON.parse on what is not JSON', () => {
    const signs = fc.array(fc.constantFrom(...'{}[]:,"\\0-1.e+ \n', 'true', 'null', '"a"', '\u0001'), { maxLength: 8 });
    fc.assert(
      fc.property(signs, (parts) => {
        const text = parts.join('');
        const ours = parseJson(text);
        if (!ours.ok && ours.error.includes('stands twice')) return;
        let theirs: unknown;
        try {
          theirs = { ok: true, value: JSON.parse(text) };
        } catch {
          theirs = { ok: false, error: expect.stringMatching(/^line \d+, column \d+: /u) };
        }
        expect(ours).toEqual(theirs);
      }),
      { seed: 1, numRuns: 5000 },
    );
  });
});

describe('mutilated documents', () => {
  const lengthMax = encodeTrace(trace).length;
  const cut = fc.record({
    from: fc.nat(lengthMax),
    count: fc.nat(12),
    insert: fc.constantFrom('', '"', '}', ']', '{', ',', '0', '-1', 'null', '1e99', '"__proto__": {},', '[[['),
  });

  test('never throw, and what is refused is refused in one line with a position', () => {
    fc.assert(
      fc.property(fc.array(cut, { minLength: 1, maxLength: 3 }), fc.boolean(), (cuts, asCase) => {
        const text = cuts.reduce(
          (now, { from, count, insert }) => now.slice(0, from) + insert + now.slice(from + count),
          asCase ? encodeCase(sample) : encodeTrace(trace),
        );
        const decoded = asCase ? decodeCase(text) : decodeTrace(text);
        if (decoded.ok) return;
        expect(decoded.error).toMatch(
          /^(?:line \d+, column \d+|[a-zA-Z_][\w.[\]]*(?:\["[^\n]*"\])?|\["[^\n]*"\]|at the top): [^\n]+$/u,
        );
      }),
      { seed: 1, numRuns: 2000 },
    );
  });

  test('any JSON at all is refused with a position', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const decoded = decodeTrace(JSON.stringify(value));
        expect(decoded).toEqual({ ok: false, error: expect.stringMatching(/^[^\n]+: [^\n]+$/u) });
      }),
      { seed: 1, numRuns: 200 },
    );
  });
});
