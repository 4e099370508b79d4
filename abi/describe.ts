// Traces in words that a student can read: each operation by the sentence of its declaration, with its operands filled in.
// Works for both phases: as stored in a trace, and as executed. Sentences here are for people; nothing parses them.

import { describeAgent } from './agents.ts';
import { type Case, engines } from './case.ts';
import { elementsOf, fieldsOf, argumentsOf, type Loose, operand } from './fields.ts';
import type { Field, Fields } from './field.ts';
import { geometries } from './geometry.ts';
import type { Phase } from './operand.ts';
import { declarationOf, type Op } from './operation.ts';
import type { ElementReply, Reply } from './reply.ts';
import { type DomainSetup, type Header, isAct, type Step, type Trace } from './trace.ts';
import { vendorOf } from './vendor.ts';
import { describeFailure, describeOperand, describePath, describePause, describeWord, ordinal } from './words.ts';

/** `sourceGfn` as `source gfn`. */
const spaced = (name: string): string => name.replace(/[A-Z]/gu, (letter) => ` ${letter.toLowerCase()}`);

/** An element of a list argument: every field with its name, unless its words say it already. */
function describeElement(fields: Fields, element: Loose): string {
  const parts = Object.entries(fields).flatMap(([name, field]) => {
    const words = describeValue(field, element[name]);
    if (words === '' || words.startsWith(`${name} `)) return words === '' ? [] : [words];
    return [`${spaced(name)} ${field.type === 'gfn' ? words.replace(/^gfn /u, '') : words}`];
  });
  return parts.join(', ');
}

function describeValue(field: Field, value: unknown): string {
  // What a field means that is left out goes without saying.
  if (field.type === 'int' && field.absent !== undefined && (value ?? field.absent) === field.absent) return '';
  if (field.type === 'oneOf' && field.absent !== undefined) return value === field.absent ? '' : ` as ${String(value)}`;
  if (field.type !== 'list') return describeOperand(operand<Phase>(field, value, { name: '', position: 0 }));
  const elements = elementsOf(value);
  if (elements.length === 0) return 'nothing';
  return elements.map((element) => `(${describeElement(field.of, element)})`).join(' ');
}

/** `1 bytes` as `1 byte`. */
const singular = (text: string): string =>
  text.replace(/(?<![\w.])1 ((?:free |grant )?(?:byte|extent|page|frame|vCPU|gfn|pCPU))s\b/gu, '1 $1');

/** A declared sentence with its braces filled in. */
const fill = (says: string, fields: Fields, args: Loose): string =>
  singular(
    says.replace(/\{(\w+)\}/gu, (braces, name: string) => {
      const field = fields[name];
      return field === undefined ? braces : describeValue(field, args[name]);
    }),
  );

/** What `op` does, as a sentence without its subject: `writes a fresh tag (8 bytes) at gfn 0.0.1+0`. */
export const describeOp = (op: Op<Phase>): string =>
  fill(declarationOf(op.kind)?.says ?? op.kind, fieldsOf(op.kind), argumentsOf(op));

/** What a step does: `7: d1v0 removes gfn 0.0.1 of itself; pauses before the 1st store to a table`. */
export function describeStep(step: Step): string {
  const pause = step.pause === undefined ? '' : `; pauses ${describePause(step.pause)}`;
  if (!isAct(step)) return `${step.label}: step ${step.resume} goes on${pause}`;
  const failures = (step.failures ?? []).map((failure) => `; ${describeFailure(failure)} fails`).join('');
  const preempt = step.preempt === undefined ? '' : `; is preempted at the ${ordinal(step.preempt)} check`;
  return `${step.label}: ${describeAgent(step.agent)} ${describeOp(step.op)}${failures}${preempt}${pause}`;
}

const kindWords = { control: 'the control domain', hvm: 'a guest', pv: 'a paravirtual guest' } as const;

function describeDomainSetup(setup: DomainSetup): string {
  const kind = kindWords[setup.kind];
  const sizes = `${setup.vcpus} vCPUs, ${setup.maxPages} pages at most, a pool of ${setup.poolFrames} frames, ${setup.grantFrames} grant frames`;
  const ram = setup.ram.map(({ path, order }) => describePath(path) + (order === 0 ? '' : ` (order ${order})`));
  const places = setup.on.map((pcpu, i) => (pcpu < 0 ? `vCPU ${i} off` : `vCPU ${i} on pCPU ${pcpu}`));
  const parts = [
    `d${setup.id} is ${kind}: ${sizes}`,
    ram.length === 0 ? 'no memory' : `memory at gfn ${ram.join(', ')}`,
    ...(setup.grantsAt === undefined ? [] : [`grant frame 0 at gfn ${describePath(setup.grantsAt)}`]),
    ...(setup.rootAt === undefined ? [] : [`vCPU 0 with paging on, its root at gfn ${describePath(setup.rootAt)}`]),
    ...places,
  ];
  return singular(parts.join('; '));
}

const flushWords = {
  eager: 'translations are flushed before a frame is freed',
  lazy: 'freed frames may keep stale translations until their next use',
} as const;

const scrubWords = { always: 'every freed frame is erased', dying: 'frames of dying domains are erased' } as const;

const scrubAtWords = { free: 'at once', later: 'later' } as const;

/** The machine, its policies, and the domains at the start: one line each. */
export function describeHeader(header: Header): string[] {
  const { levels, bitsPerLevel, frameCount } = geometries[header.geometry];
  const widths = Object.entries(header.width).map(([name, bits]) => `${spaced(name)} of ${bits} bits`);
  const iommus = header.iommus.map(
    (unit) =>
      `a ${unit.kind} unit with ${unit.levels} levels${unit.coherent ? ', coherent' : ''}${unit.superpages ? ', superpages' : ''}`,
  );
  return [
    singular(
      [
        `${header.geometry} geometry: tables of ${2 ** bitsPerLevel} entries on ${levels} levels, ${frameCount} frames`,
        `${header.pcpus} pCPUs${vendorOf(header) === 'amd' ? ' made by AMD' : ''}`,
        ...(header.pvPcids === undefined ? [] : ['kernel and user of paravirtual guests have PCIDs of their own']),
        ...(header.pvLinear === undefined ? [] : ['tables of paravirtual guests may be linear']),
        ...iommus,
        ...widths,
      ].join('; '),
    ),
    `${flushWords[header.flush]}; ${scrubWords[header.scrub]} ${scrubAtWords[header.scrubAt]}; ${header.superpages ? 'superpages are used' : 'no superpages'}`,
    ...header.domains.map(describeDomainSetup),
  ];
}

/** A whole trace, one line per domain and per step. */
export const describeTrace = (trace: Trace): string[] => [
  ...describeHeader(trace.header),
  ...trace.steps.map(describeStep),
];

/** A case: the access and its registers, then the image word by word. */
export function describeCase(one: Case): string[] {
  const { says, registers, access } = engines[one.engine];
  return [
    `${one.geometry} geometry: ${fill(says, { ...registers, ...access }, { ...one.registers, ...one.access })}`,
    ...one.image.map(({ mfn, index, word }) => `mfn 0x${mfn.toString(16)}, word ${index}: ${describeWord(word)}`),
  ];
}

const describeElementReply = (element: ElementReply): string =>
  element.out.length === 0 ? element.status : `${element.status} (gives ${element.out.join(', ')})`;

/** A reply: `ok; gives 3`, `preempted after 2; elements: okay (gives 0), badGntref`. */
export function describeReply(reply: Reply): string {
  const parts = [
    reply.done === 0 ? reply.status : `${reply.status} after ${reply.done}`,
    ...(reply.out.length === 0 ? [] : [`gives ${reply.out.join(', ')}`]),
    ...(reply.words.length === 0 ? [] : [`reads ${reply.words.map(describeWord).join(', ')}`]),
    ...(reply.elements.length === 0 ? [] : [`elements: ${reply.elements.map(describeElementReply).join(', ')}`]),
  ];
  return parts.join('; ');
}
