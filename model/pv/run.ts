// How the list of what is still to be done is worked off: one act in each micro-step, and then whatever can be worked out until
// the next act is due. What is worked out may look at the state, as it is right after the act.
// A first reader may skip `passOver`. The design is docs/decisions/0002.

import type { Mfn, Word } from '#abi/address.ts';
import type { Errno } from '#abi/reply.ts';
import { ask, cutAt, preemptionWithin, type Cut } from '../cut.ts';
import type { State } from '../state.ts';
import { contents } from './contents.ts';
import { descriptorFrames } from './descriptor-frames.ts';
import { descriptors } from './descriptors.ts';
import { granted } from './granted.ts';
import { references } from './references.ts';
import { roots } from './roots.ts';
import { tables } from './tables.ts';
import { types } from './types.ts';
import { writes } from './writes.ts';
import type { Effect, Performers } from './effect.ts';
import type { Act, Failing, Halt, Item, Plan, Todo } from './work.ts';

const performers: Performers<Item['do']> = {
  ...references,
  ...types,
  ...tables,
  ...contents,
  ...roots,
  ...descriptors,
  ...descriptorFrames,
  ...writes,
  ...granted,
  attempt: (state, { todo, ...failure }) => ({ state, first: [...todo, { ...failure, do: 'attempted' }] }),
  attempted: (state) => ({ state }),
  // What the log says of it is looked up where it is due (`checked`).
  check: (state) => ({ state }),
  fail: (state, { errno, parked }) => ({ state, failed: errno, parked }),
};

const perform = (state: State, item: Item): Effect =>
  (performers[item.do] as (state: State, item: Item) => Effect)(state, item);

/** Plans are worked out between two acts. */
const plans: Readonly<Record<Plan['do'], true>> = {
  validate: true,
  takeRest: true,
  dropRest: true,
  giveUp: true,
  keepOld: true,
  checkMemory: true,
  describe: true,
  update: true,
  change: true,
  edit: true,
  overwrite: true,
  fit: true,
  forgetChanged: true,
  resume: true,
  attempt: true,
  attempted: true,
  fail: true,
};

const isAct = (item: Item): item is Act => !(item.do in plans);

/** How far an operation is: what is left to do begins with an act. `failed`: nothing is left, and this is what came of it. */
export interface Ran {
  readonly cut: Cut;
  readonly todo: Todo;
  readonly failed: Errno | Halt | undefined;
  /** What was left partial by the failure. */
  readonly parked?: Mfn | undefined;
  /** What the act came upon that the caller will hear of. */
  readonly seen?: Word | undefined;
}

/** Whether an operation has not failed, but stops. */
export const isHalt = (errno: Errno | Halt | undefined): errno is Halt => errno === 'restart' || errno === 'onwards';

/** What undoes an attempt, knowing why it failed and what was left partial. */
const knowing = (undo: Todo, { errno, parked }: Failing): Todo =>
  undo
    .filter((item) => !(item.do === 'putPage' && item.unlessParked === true && item.mfn === parked))
    .map((item) => (item.do === 'giveUp' ? { ...item, errno, parked } : item));

/** What is done after a failure: up to the end of the attempt nothing. */
function passOver(todo: Todo, failing: Failing): Todo | undefined {
  const at = todo.findIndex((item) => item.do === 'attempted');
  const next = todo[at];
  if (next?.do !== 'attempted') return undefined;
  const { errno, parked } = failing;
  const isHalted = isHalt(errno);
  if (next.otherwise !== undefined && errno === 'EINVAL' && parked === undefined)
    return [...next.otherwise, ...todo.slice(at + 1)];
  return [
    ...knowing(isHalted ? next.parks : next.undo, failing),
    { do: 'fail', errno: isHalted ? errno : (next.errno ?? errno), parked },
    ...todo.slice(at + 1),
  ];
}

/** Works out what there is until an act is due or nothing is left. */
export function prepare(cut: Cut, first: Todo): Ran {
  let { state } = cut;
  let todo = first;
  for (;;) {
    const [item, ...rest] = todo;
    if (item === undefined || isAct(item)) return { cut: cutAt(cut, state), todo, failed: undefined };
    const effect = perform(state, item);
    ({ state } = effect);
    todo = effect.first === undefined ? rest : [...effect.first, ...rest];
    if (effect.failed === undefined) continue;
    const { failed: errno, parked } = effect;
    const undo = passOver(rest, { errno, parked });
    if (undo === undefined) return { cut: cutAt(cut, state), todo: [], failed: errno, parked };
    todo = undo;
  }
}

/** Whether processors forget in an act because their guest has asked for it: the log tells when. */
const isToldOf = (act: Item): boolean => act.do === 'forget' || (act.do === 'setRoot' && act.which === 'kernel');

/** A preemption check within a table: told to stop, the operation leaves it partial. */
function checked(cut: Cut, act: Extract<Act, { do: 'check' }>, rest: Todo): readonly [Cut, Todo] {
  const stopped = preemptionWithin(cut, act);
  if (stopped === undefined) return [cut, rest];
  const entries = act.way === 'takes' ? act.index : act.index + 1;
  return [stopped, [{ do: 'park', mfn: act.mfn, entries, holds: false, keeps: act.keeps, errno: 'restart' }, ...rest]];
}

/** Performs the act that is due, and works out what follows from it. */
export function runOne(before: Cut, todo: Todo): Ran {
  const [act, ...rest] = todo;
  if (act === undefined) return { cut: before, todo, failed: undefined };
  if (act.do === 'check') return prepare(...checked(before, act, rest));
  const cut = isToldOf(act) ? ask(before, ['forgotten']).cut : before;
  const { state, first = [], failed, parked, seen } = perform(cut.state, act);
  const next: Todo =
    failed === undefined ? [...first, ...rest] : [...first, { do: 'fail', errno: failed, parked }, ...rest];
  const ran = prepare(cutAt(cut, state), next);
  return { cut: ran.cut, todo: ran.todo, failed: ran.failed, parked: ran.parked, seen };
}
