// Whether a header describes a machine that there can be: its numbers within the capacities of the geometry it names, every
// domain once, vCPUs on processors that exist. Shapes know the ranges of single numbers; what one number says about another
// is here. A machine without domains is one: the toolstack can make them.
// A first reader may skip it.

import { geometries, type Capacity } from './geometry.ts';
import type { DomainSetup, Header } from './trace.ts';

/** A number of a header, where it stands, and the most it can be. */
type Bounded = readonly [path: string, value: number, most: number, of: string];

const tooLarge = (bounds: readonly Bounded[]): string | undefined => {
  const found = bounds.find(([, value, most]) => value > most);
  if (found === undefined) return undefined;
  const [path, value, most, of] = found;
  return `${path}: ${value} is more than ${most}, ${of}`;
};

function domainProblem({ geometry, domains, pcpus }: Header, i: number): string | undefined {
  const setup = domains[i] as DomainSetup;
  const { capacity } = geometries[geometry];
  const path = `header.domains[${i}]`;
  const first = domains.findIndex(({ id }) => id === setup.id);
  if (first < i) return `${path}.id: ${setup.id} is the id of header.domains[${first}] already`;
  const room = (name: keyof Capacity): string => `the most that geometry ${geometry} has room for (${name})`;
  const last = 'the last processor of this machine';
  return tooLarge([
    [`${path}.id`, setup.id, capacity.domains - 1, `the last id that geometry ${geometry} has room for`],
    [`${path}.vcpus`, setup.vcpus, capacity.vcpusPerDomain, room('vcpusPerDomain')],
    [`${path}.poolFrames`, setup.poolFrames, capacity.poolFrames, room('poolFrames')],
    [`${path}.grantFrames`, setup.grantFrames, capacity.grantFrames, room('grantFrames')],
    ...setup.ram.map(({ order }, at): Bounded => [`${path}.ram[${at}].order`, order, capacity.orderMaxControl, room('orderMaxControl')]), // prettier-ignore
    [`${path}.on`, setup.on.length, setup.vcpus, 'the number of its vCPUs'],
    ...setup.on.map((pcpu, at): Bounded => [`${path}.on[${at}]`, pcpu, pcpus - 1, last]),
  ]);
}

/** What is wrong with a header whose shape is right, as a sentence that starts with its place; undefined: nothing. */
export function machineProblem(header: Header): string | undefined {
  const { pcpus } = geometries[header.geometry].capacity;
  const own = tooLarge([
    ['header.pcpus', header.pcpus, pcpus, `the most that geometry ${header.geometry} has room for`],
  ]);
  if (own !== undefined) return own;
  for (let i = 0; i < header.domains.length; i += 1) {
    const problem = domainProblem(header, i);
    if (problem !== undefined) return problem;
  }
  return undefined;
}
