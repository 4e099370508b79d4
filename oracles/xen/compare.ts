// Xen's records and tables against the model's state. Which machine frame plays which part is Xen's choice: a frame of the model
// and one of Xen's belong together when the same gfn of the same domain means them, and from then on for as long as the
// model's frame lives. Frames that no gfn has ever meant are compared by number and kind.

import { type Mfn, type Word, ZERO_WORD } from '#abi/address.ts';
import type { Frame, State } from '#model/state.ts';
import { wordAt } from '#model/words.ts';
import type { EntrySeen } from './sight.ts';
import type { Look } from './world.ts';

/** The first thing in which Xen and the model differ. `field` is the difference's identity. */
export interface Difference {
  readonly field: string;
  readonly sentence: string;
  readonly expected: string;
  readonly actual: string;
}

/** A frame by what is compared. */
interface Face {
  readonly owner: number;
  readonly allocated: boolean;
  readonly special: boolean;
  readonly count: number;
}

/** Roles that have a record of Xen's with their owner. */
const shown: Readonly<Partial<Record<Frame['role'], 'plain' | 'special'>>> = {
  ram: 'plain',
  sharedInfo: 'special',
  grantFrame: 'special',
};

/** What of a frame is compared. `isDead`: the owner is, and has let go of what Xen shows it (rule xen/deadPages). */
function faceOf(frame: Frame, isDead: boolean): Face {
  const special = shown[frame.role] === 'special';
  const isLeft = special && isDead;
  return {
    owner: frame.owner ?? -1,
    allocated: frame.allocated && !isLeft,
    special,
    count: frame.refs - (isLeft ? 1 : 0),
  };
}

const say = ({ owner, allocated, special, count }: Face): string =>
  `${special ? 'a page of the hypervisor shown to' : 'a frame of'} d${owner}, ${count} references${allocated ? ', its own among them' : ''}`;

const differs = (field: string, sentence: string, sides: { expected: unknown; actual: unknown }): Difference => ({
  field,
  sentence,
  expected: String(sides.expected),
  actual: String(sides.actual),
});

const show = (entry: { readonly mfn: number; readonly type: string } | undefined): string =>
  entry === undefined ? 'nothing' : entry.type;

/** Words of a frame that are not zero, by their index. */
export type Words = readonly (readonly [index: number, lo: number, hi: number])[];

const hex = ({ lo, hi }: Word): string => `0x${(hi * 2 ** 32 + lo).toString(16)}`;

function wordDifference(
  state: State,
  mfn: Mfn,
  of: { readonly xen: number; readonly words: Words },
): Difference | undefined {
  const words = new Map(of.words.map(([index, lo, hi]) => [index, { lo, hi }]));
  for (let index = 0; index < state.geometry.wordsPerFrame; index += 1) {
    const { lo, hi } = wordAt(state, mfn, index);
    const other = words.get(index) ?? ZERO_WORD;
    if (lo !== other.lo || hi !== other.hi)
      return differs('memory', `word ${index} of frame ${of.xen} of Xen's is not what the model has`, {
        expected: hex({ lo, hi }),
        actual: hex(other),
      });
  }
  return undefined;
}

/** Which of Xen's frames each of the model's is. One for each sequence. */
export class Pairing {
  /** By the model's frame: in which life, and Xen's frame. */
  readonly #pairs = new Map<number, { readonly incarnation: number; readonly mfn: number }>();
  readonly #without: string | undefined;

  /** `without`: a rule that does not count. */
  constructor(without?: string) {
    this.#without = without;
  }

  /** The first difference; undefined: none. */
  difference(state: State, look: Look): Difference | undefined {
    return this.#entries(state, look) ?? this.#frames(state, look);
  }

  /**
   * The first word of a frame of RAM or of grants that differs; `read` gives those of one of Xen's frames that are not zero. Frames that no
   * gfn has ever meant are left out.
   */
  contents(state: State, read: (mfn: number) => Words): Difference | undefined {
    let wrong: Difference | undefined;
    state.frames.forEach((frame, mfn) => {
      const known = this.#pairs.get(mfn);
      const isCompared = (frame.role === 'ram' || frame.role === 'grantFrame') && frame.owner !== 0;
      if (wrong !== undefined || !isCompared || known?.incarnation !== frame.incarnation) return;
      wrong = wordDifference(state, mfn as Mfn, { xen: known.mfn, words: read(known.mfn) });
    });
    return wrong;
  }

  /** Compares what gfns mean, and pairs the frames that they mean. */
  #entries(state: State, look: Look): Difference | undefined {
    const seen = new Map<string, EntrySeen>(look.entries.map((entry) => [`d${entry.domain} ${entry.gfn}`, entry]));
    for (const { id, p2m } of state.domains.values()) {
      if (id === 0) continue;
      for (const gfn of p2m.keys()) {
        const entry = p2m.get(gfn);
        const at = `d${id} ${gfn}`;
        const other = seen.get(at);
        seen.delete(at);
        const sentence = `gfn ${gfn} of d${id} means something else`;
        if (entry?.type !== other?.type)
          return differs('entry.type', sentence, { expected: show(entry), actual: show(other) });
        if (entry === undefined || other === undefined) continue;
        const clash = this.#pair(state, entry.mfn, other.mfn);
        if (clash !== undefined) return differs('entry.frame', sentence, clash);
      }
    }
    const [left] = seen;
    if (left === undefined) return undefined;
    const [at, entry] = left;
    return differs('entry.type', `gfn ${at.split(' ')[1]} of ${at.split(' ')[0]} means something else`, {
      expected: 'nothing',
      actual: show(entry),
    });
  }

  #pair(state: State, mfn: Mfn, xen: number): { expected: string; actual: string } | undefined {
    const incarnation = state.frames.get(mfn)?.incarnation ?? 0;
    const known = this.#pairs.get(mfn);
    if (known === undefined || known.incarnation !== incarnation) this.#pairs.set(mfn, { incarnation, mfn: xen });
    else if (known.mfn !== xen) return { expected: `frame ${known.mfn} of Xen's`, actual: `frame ${xen}` };
    return undefined;
  }

  #frames(state: State, look: Look): Difference | undefined {
    const seen = new Map(look.frames.map((frame) => [frame.mfn, frame] as const));
    const unpaired: string[] = [];
    let wrong: Difference | undefined;
    state.frames.forEach((frame, mfn) => {
      if (wrong !== undefined || frame.owner === undefined || frame.owner === 0 || shown[frame.role] === undefined)
        return;
      const isDead = state.domains.get(frame.owner)?.state !== 'running';
      const face = faceOf(frame, isDead && this.#without !== 'xen/deadPages');
      if (face.count === 0) return;
      const known = this.#pairs.get(mfn);
      if (known === undefined || known.incarnation !== frame.incarnation) {
        unpaired.push(say(face));
        return;
      }
      const other = seen.get(known.mfn);
      seen.delete(known.mfn);
      wrong = faceDifference(face, other, known.mfn);
    });
    if (wrong !== undefined) return wrong;
    const expected = unpaired.toSorted().join('; ');
    const actual = [...seen.values()].map(say).toSorted().join('; ');
    return expected === actual
      ? undefined
      : differs('frames', 'other frames that no gfn means are in use', { expected, actual });
  }
}

function faceDifference(face: Face, other: Face | undefined, mfn: number): Difference | undefined {
  const sentence = `frame ${mfn} of Xen's is not what the model's is`;
  if (other === undefined) return differs('frame.owner', sentence, { expected: say(face), actual: 'free' });
  for (const name of ['owner', 'allocated', 'special', 'count'] as const)
    if (face[name] !== other[name])
      return differs(`frame.${name}`, sentence, { expected: say(face), actual: say(other) });
  return undefined;
}
