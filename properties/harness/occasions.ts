// When a law that only reports what driving the two sides brings up had something to object to: a refusal cannot have effects
// where nothing was refused. Asked only while somebody counts checks (coverage.ts); nothing is judged here.
// A first reader may skip this file.

import type { Invariant } from '#abi/invariants.ts';
import { mechanismOf, type Mechanism } from '#abi/operation.ts';
import { frameRoles } from '#abi/roles.ts';
import type { ChoiceKind } from '#abi/choices.ts';
import { linearContext } from '#model/paging/context.ts';
import { isError } from './replies.ts';
import type { Returned, View } from './view.ts';
import { hasBuffer } from './work.ts';

type Occasion = (view: View, returned: Returned) => readonly Mechanism[];

const NONE: readonly Mechanism[] = [];

const own = ({ op }: Returned): readonly Mechanism[] => [mechanismOf(op.kind)];

const hasLogged = ({ log }: Returned, ...kinds: readonly ChoiceKind[]): boolean =>
  log.some(({ choice }) => kinds.includes(choice.kind));

/** The mechanism of the operation if it has logged such a choice. */
const logging =
  (...kinds: readonly ChoiceKind[]): Occasion =>
  (_, returned) =>
    hasLogged(returned, ...kinds) ? own(returned) : NONE;

const always: Occasion = (_, returned) => own(returned);

const forbidden: ReadonlySet<string> = new Set(['EPERM', 'permissionDenied']);

const isForbidden = ({ reply }: Returned): boolean =>
  forbidden.has(reply.status) || reply.elements.some(({ status }) => forbidden.has(status));

/** Whether the operation goes through a linear address: an access, or one that has a buffer. */
const namesLinear = ({ op }: Returned): boolean => 'via' in op || hasBuffer(op);

/** Whether a word of a grant frame was compared. */
const hasStatusWord = ({ machine, touched }: View): boolean =>
  [...touched.words].some((key) => {
    const role = machine.f.frameRole.get(Math.floor(key / machine.geometry.wordsPerFrame));
    return frameRoles[role] === 'grantFrame';
  });

const occasions: Partial<Readonly<Record<Invariant, Occasion>>> = {
  refines: always,
  CRASH: always,
  XEN: (_, returned) => (returned.worst > 0 ? own(returned) : NONE),
  ACT: (_, returned) => [
    ...(returned.worst > 0 ? own(returned) : NONE),
    ...(hasLogged(returned, 'tableTaken', 'tableGiven') ? (['hap'] as const) : NONE),
  ],
  PRIV: (_, returned) => (isForbidden(returned) ? own(returned) : NONE),
  FREE: logging('frame', 'handle', 'tableTaken', 'tableGiven', 'poolGiven'),
  STALE: logging('cached', 'combined'),
  LEAK: logging('frame', 'scrub'),
  REF: ({ touched }) => [
    ...(touched.frames.size > 0 ? (['memory'] as const) : NONE),
    ...(touched.actives.size + touched.handles.size > 0 ? (['grants'] as const) : NONE),
  ],
  M2P: ({ touched }) => (touched.places.size > 0 ? ['memory', 'hap'] : NONE),
  WALK: (_, returned) =>
    returned.agent.kind === 'vcpu' &&
    linearContext(returned.before, returned.agent) !== undefined &&
    namesLinear(returned)
      ? own(returned)
      : NONE,
  STATUS: (view) => (hasStatusWord(view) ? ['grants'] : NONE),
  ERR: (_, returned) => (isError(returned.reply) ? own(returned) : NONE),
};

/** Tells whoever counts that a law of `invariant` had something to judge in the operation that has just returned. */
export function lookAt(invariant: Invariant, view: View): void {
  const { looks, returned } = view;
  if (looks === undefined || returned === undefined) return;
  for (const mechanism of occasions[invariant]?.(view, returned) ?? NONE) looks(mechanism);
}
