// How the list of what is still to be done is worked off: one act in each micro-step, and then whatever can be worked out until
// the next act is due. What is worked out may look at the state, as it is right after the act.
// A first reader may skip `passOver`. The design is docs/decisions/0002.

import type { Word } from '#abi/address.ts';
import type { Errno } from '#abi/reply.ts';
import { ask, cutAt, type Cut } from '../cut.ts';
import type { State } from '../state.ts';
import { contents } from './contents.ts';
import { references } from './references.ts';
import { roots } from './roots.ts';
import { tables } from './tables.ts';
import { types } from './types.ts';
import { writes } from './writes.ts';
import type { Effect, Performers } from './effect.ts';
import type { Act, Item, Plan, Todo } from './work.ts';

const performers: Performers<Item['do']> = {
  ...references,
  ...types,
  ...tables,
  ...contents,
  ...roots,
  ...writes,
  attempt: (state, { todo, errno, undo }) => ({ state, first: [...todo, { do: 'attempted', errno, undo }] }),
  attempted: (state) => ({ state }),
  fail: (state, { errno }) => ({ state, failed: errno }),
};

const perform = (state: State, item: Item): Effect =>
  (performers[item.do] as (state: State, item: Item) => Effect)(state, item);

/** Plans are worked out between two acts. */
const plans: Readonly<Record<Plan['do'], true>> = {
  validate: true,
  takeRest: true,
  dropRest: true,
  checkMemory: true,
  update: true,
  change: true,
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
  readonly failed: Errno | undefined;
  /** What the act came upon that the caller will hear of. */
  readonly seen?: Word | undefined;
}

/** What is done after a failure: up to the end of the attempt nothing. */
function passOver(todo: Todo, failed: Errno): Todo | undefined {
  const at = todo.findIndex((item) => item.do === 'attempted');
  const next = todo[at];
  if (next?.do !== 'attempted') return undefined;
  return [...next.undo, { do: 'fail', errno: next.errno ?? failed }, ...todo.slice(at + 1)];
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
    const undo = passOver(rest, effect.failed);
    if (undo === undefined) return { cut: cutAt(cut, state), todo: [], failed: effect.failed };
    todo = undo;
  }
}

/** Whether processors forget in an act because their guest has asked for it: the log tells when. */
const isToldOf = (act: Item): boolean => act.do === 'forget' || (act.do === 'setRoot' && act.which === 'kernel');

/** Performs the act that is due, and works out what follows from it. */
export function runOne(before: Cut, todo: Todo): Ran {
  const [act, ...rest] = todo;
  if (act === undefined) return { cut: before, todo, failed: undefined };
  const cut = isToldOf(act) ? ask(before, ['forgotten']).cut : before;
  const { state, first = [], failed, seen } = perform(cut.state, act);
  const next: Todo = failed === undefined ? [...first, ...rest] : [{ do: 'fail', errno: failed }, ...rest];
  return { ...prepare(cutAt(cut, state), next), seen };
}
