// One sequence on Xen: the domains of its header are made by the same calls as the model's, then every operation is done, and
// what Xen answers and what its tables say is compared with the model before the next.

import { geometries } from '#abi/geometry.ts';
import { bootCalls } from '#properties/harness/boot.ts';
import { type Difference, Pairing, type Words } from './compare.ts';
import { differenceOf, expectedOf, type Heard } from './heard.ts';
import { Silent } from './mailbox.ts';
import { Handles, perform } from './perform.ts';
import type { Moment, Sequence } from './sequences.ts';
import type { Look, World } from './world.ts';
import { setTimeout as sleep } from 'node:timers/promises';

/** What Xen answered to a step, and what was seen after it. */
export interface Observed {
  readonly heard: Heard;
  readonly look: Look;
}

/** What playing a sequence came to. */
export interface Played {
  /** What was seen once the domains were there. */
  readonly boot: Look;
  /** By step, up to and including the one after which they disagree, unless nobody answered. */
  readonly observed: readonly Observed[];
  /** Memory at the end, by frames of Xen's that were compared. */
  readonly memory: ReadonlyMap<number, Words>;
  /** The first disagreement, and after which step (-1: at the start). */
  readonly disagreement: { readonly at: number; readonly difference: Difference } | undefined;
}

/** Xen frees some things later, when no processor can be looking any more (RCU): so often is looked again. */
const SETTLE_TRIES = 30;

/** Compares; what differs may only not be done yet. */
async function settled(
  world: World,
  compare: (look: Look) => Difference | undefined,
): Promise<{ readonly look: Look; readonly difference: Difference | undefined }> {
  for (let tries = 0; ; tries += 1) {
    const look = world.look();
    const difference = compare(look);
    if (difference === undefined || tries === SETTLE_TRIES) return { look, difference };
    await sleep(2);
  }
}

async function boot(world: World, { trace: { header } }: Sequence, handles: Handles): Promise<void> {
  const setups = new Map(header.domains.map((setup) => [setup.id as number, setup]));
  for (const { agent, op } of bootCalls(geometries.x86, header, () => undefined)) {
    if (agent.kind !== 'toolstack' || !('target' in op) || op.target === 0 || op.kind === 'memory.setPool') continue;
    await perform(world, handles, { agent, op });
    const setup = setups.get(op.target);
    if (op.kind === 'memory.createDomain' && (setup?.on[0] ?? -1) >= 0) await world.inhabit(op.target, op.maxPages);
  }
}

const silence = (): Difference => ({
  field: 'silence',
  sentence: 'a domain that should run does not answer',
  expected: 'an answer',
  actual: 'none',
});

/** Plays a sequence from the fresh machine. `without`: a rule that does not count. */
export async function play(world: World, sequence: Sequence, without?: string): Promise<Played> {
  await world.reset();
  const handles = new Handles();
  const pairing = new Pairing(without);
  await boot(world, sequence, handles);
  const start = await settled(world, (look) => pairing.difference(sequence.boot, look));
  const observed: Observed[] = [];
  const memory = new Map<number, Words>();
  const stop = (at: number, difference: Difference): Played => ({
    boot: start.look,
    observed,
    memory,
    disagreement: { at, difference },
  });
  if (start.difference !== undefined) return stop(-1, start.difference);
  for (const [at, moment] of sequence.moments.entries()) {
    const difference = await step(world, moment, { handles, pairing, observed });
    if (difference !== undefined) return stop(at, difference);
  }
  const difference = pairing.contents(sequence.moments.at(-1)?.state ?? sequence.boot, (mfn) => {
    const words = world.words(mfn);
    memory.set(mfn, words);
    return words;
  });
  if (difference !== undefined) return stop(sequence.moments.length - 1, difference);
  return { boot: start.look, observed, memory, disagreement: undefined };
}

async function step(
  world: World,
  moment: Moment,
  of: { readonly handles: Handles; readonly pairing: Pairing; readonly observed: Observed[] },
): Promise<Difference | undefined> {
  const { op, agent, reply, state } = moment;
  const expected = expectedOf(op, reply);
  let heard: Heard;
  try {
    heard = await perform(world, of.handles, { agent, op });
  } catch (error) {
    if (!(error instanceof Silent)) throw error;
    return silence();
  }
  noteHandles(of.handles, moment, heard);
  const answer = differenceOf(expected, heard);
  const { look, difference } = await settled(world, (seen) => of.pairing.difference(state, seen));
  of.observed.push({ heard, look });
  if (answer !== undefined)
    return { ...answer, field: `${op.kind} ${answer.field}`, sentence: 'Xen answers something else' };
  return difference && { ...difference, field: `${op.kind} ${difference.field}` };
}

/** Handles of the model that are now Xen's. */
function noteHandles(handles: Handles, { agent, op, reply }: Moment, heard: Heard): void {
  if (op.kind !== 'grants.map' || agent.kind !== 'vcpu') return;
  reply.elements.forEach(({ out: [handle] }, i) => {
    const xen = heard.handles?.[i] ?? -1;
    if (handle !== undefined && xen >= 0) handles.note(agent.domain, handle, xen);
  });
}
