// For every rule about Xen a sequence that shows why it is there: played without the rule, Xen and the model differ after its last
// step. What was seen is kept in corpus/directed.gz, so that the tests can tell without Xen that the rule is still needed.
// A first reader may skip this file.

import { DOMID_SELF, type GrantRef, type VcpuId, domId } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import { geometries, gfnCount } from '#abi/geometry.ts';
import { grantFlags, mapFlags } from '#abi/grants.ts';
import type { Literal } from '#abi/operand.ts';
import type { Op } from '#abi/operation.ts';
import type { DomainSetup, Trace } from '#abi/trace.ts';
import type { Recorded } from './corpus.ts';
import { play } from './play.ts';
import { type RuleId, rules } from './rules.ts';
import { machineWith, replaySequence } from './sequences.ts';
import type { World } from './world.ts';

const grantEntry: Literal = {
  as: 'grantEntry',
  flags: grantFlags.permitAccess,
  domain: domId(2),
  gfn: { raw: 1 },
};

const guest = (id: number): DomainSetup => ({
  id: domId(id),
  kind: 'hvm',
  vcpus: 1,
  maxPages: 16,
  poolFrames: 40,
  grantFrames: 1,
  ram: [0, 1, 2, 3].map((gfn) => ({ path: [gfn], order: 0 })),
  grantsAt: [GRANTS_AT],
  on: [id - 1],
});

/** Where both guests see their grant frame; and another gfn at which they have nothing. */
const GRANTS_AT = 8;
const SPARE = 16;

const d1: Agent = { kind: 'vcpu', domain: domId(1), vcpu: 0 as VcpuId };
const d2: Agent = { kind: 'vcpu', domain: domId(2), vcpu: 0 as VcpuId };

const store = (gfn: number, offset: number, value: Literal): Op<'symbolic'> => ({
  kind: 'paging.write',
  gfn: { raw: gfn },
  offset,
  size: 8,
  value,
  via: 0,
  as: 'supervisor',
});

/** d1 lets d2 use its gfn 1; d2 maps it at each of `gfns`. */
const granted = (...gfns: readonly number[]): readonly (readonly [Agent, Op<'symbolic'>])[] => [
  [d1, store(GRANTS_AT, 8, grantEntry)],
  [
    d2,
    {
      kind: 'grants.map',
      elements: gfns.map((gfn) => ({
        flags: mapFlags.host,
        domain: domId(1),
        ref: 1 as GrantRef,
        gfn: { raw: gfn },
        offset: 0,
      })),
      results: { in: 'null' },
      start: { raw: 0 },
    },
  ],
];

const reserve = (kind: 'memory.populate' | 'memory.decrease', gfn: number, order: number): Op<'symbolic'> => ({
  kind,
  target: DOMID_SELF,
  extents: { by: 'value', gfns: [{ raw: gfn }] },
  order,
  start: { raw: 0 },
});

const TOP = gfnCount(geometries.x86);

/** By rule: what is done on a machine with two guests. */
const steps: Readonly<Record<RuleId, readonly (readonly [Agent, Op<'symbolic'>])[]>> = {
  'xen/unmapElsewhere': [
    ...granted(SPARE, SPARE + 1),
    [
      d2,
      {
        kind: 'grants.unmap',
        elements: [{ handle: { step: 1, index: 0 }, gfn: { raw: SPARE + 1 }, dev: 'none', offset: 0 }],
        results: { in: 'null' },
        start: { raw: 0 },
      },
    ],
  ],
  'xen/moveBeyondTables': [
    [
      d1,
      {
        kind: 'memory.addToPhysmap',
        target: DOMID_SELF,
        space: 'gmfn',
        foreign: domId(1),
        index: { raw: 1 },
        gfn: { raw: TOP },
      },
    ],
  ],
  'xen/straddleTables': [[d1, reserve('memory.populate', TOP - 1, 1)]],
  'xen/decreaseSpecial': [[d1, reserve('memory.decrease', GRANTS_AT, 0)]],
  'xen/halfRefused': [[d1, store(3, 4092, { as: 'fresh' })]],
  'xen/deadPages': [...granted(SPARE), [{ kind: 'toolstack' }, { kind: 'memory.killDomain', target: domId(1) }]],
};

/** The sequence for a rule. */
export const directed = (rule: RuleId): Trace => ({
  header: { ...machineWith([guest(1), guest(2)]), superpages: false },
  steps: steps[rule].map(([agent, op], label) => ({ label, agent, op })),
});

/** Plays the sequence of a rule without it; undefined: Xen and the model agree, and the rule is not needed. */
export async function playDirected(world: World, rule: RuleId): Promise<Recorded | undefined> {
  const sequence = replaySequence(directed(rule), { without: rule });
  const { boot, observed, memory, disagreement } = await play(world, sequence, rule);
  if (disagreement?.at !== sequence.moments.length - 1) return undefined;
  return { rule, trace: sequence.trace, boot, observed, memory };
}

/** Rules that the Xen at hand does not need. */
export async function unneeded(world: World): Promise<readonly RuleId[]> {
  const found: RuleId[] = [];
  for (const { id } of rules) if ((await playDirected(world, id)) === undefined) found.push(id);
  return found;
}
