// Moving bytes between two frames in one act: the source is read as a whole before the first word is written, so frames
// may be the same and ranges may overlap, and nobody sees half a copy.
// A first reader may skip it.

import type { Principal } from '#abi/acts.ts';
import type { Machine } from '../machine.ts';
import type { Step } from '../port.ts';

/** A byte of a frame. */
export interface ByteAt {
  readonly mfn: number;
  readonly offset: number;
}

/** Bytes per word. */
const WORD = 8;

/** The words that hold `length` bytes from `at` on: index of the first, and how many. */
interface Run {
  readonly mfn: number;
  readonly first: number;
  readonly count: number;
}

function runOf({ mfn, offset }: ByteAt, length: number): Run {
  const first = Math.floor(offset / WORD);
  return { mfn, first, count: Math.ceil((offset + length) / WORD) - first };
}

/** The words of a run, little-endian. */
function read(m: Machine, who: Principal, { mfn, first, count }: Run): DataView {
  const view = new DataView(new ArrayBuffer(count * WORD));
  for (let i = 0; i < count; i += 1) {
    const at = { mfn, index: first + i };
    view.setUint32(i * WORD, m.port.peek(who, at), true);
    view.setUint32(i * WORD + WORD / 2, m.port.hi, true);
  }
  return view;
}

function write(m: Machine, who: Principal, to: Run & { readonly view: DataView }): void {
  for (let i = 0; i < to.count; i += 1) {
    const lo = to.view.getUint32(i * WORD, true);
    const hi = to.view.getUint32(i * WORD + WORD / 2, true);
    m.port.poke(who, { mfn: to.mfn, index: to.first + i, lo, hi });
  }
}

/** Copies `length` bytes, which lie within their frames, in the name of `who`. Cost: the words they touch. */
export function* moveBytes(
  m: Machine,
  who: Principal,
  move: { readonly from: ByteAt; readonly to: ByteAt; readonly length: number },
): Step<void> {
  const { from, to, length } = move;
  yield* m.port.point('copyTo', 'guest');
  if (length === 0) return;
  const source = read(m, who, runOf(from, length));
  const run = runOf(to, length);
  const view = read(m, who, run);
  const bytes = new Uint8Array(source.buffer, from.offset % WORD, length);
  new Uint8Array(view.buffer).set(bytes, to.offset % WORD);
  write(m, who, { ...run, view });
}
