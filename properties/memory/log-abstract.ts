// How the bitmap in a domain's pool represents the model's log of writes: read from the bytes, page by page.
// A first reader may begin at `logRows`.

import { framesPerBitmap } from '#abi/geometry.ts';
import { bit, hasAll } from '#lib/bits.ts';
import { dirtyActions } from '#impl/layout.ts';
import type { Machine } from '#impl/machine.ts';
import type { Domain } from '#model/state.ts';
import type { Row } from '../harness/difference.ts';

/** A page of a bitmap, its level, and the first gfn that it is about. */
interface Page {
  readonly mfn: number;
  readonly level: number;
  readonly first: number;
}

/** What a bitmap says: the gfns whose bits are set, ascending, and how many pages it has. */
interface Bitmap {
  readonly gfns: readonly number[];
  readonly pages: number;
}

const EMPTY: Bitmap = { gfns: [], pages: 0 };

function readPage(m: Machine, { mfn, level, first }: Page, into: { gfns: number[]; pages: number }): void {
  const { wordsPerFrame, capacity, frameCount } = m.geometry;
  const { memory } = m.f;
  into.pages += 1;
  if (mfn >= frameCount) return;
  const span = level === 0 ? capacity.dirtyBits : framesPerBitmap(m.geometry, level - 1);
  for (let index = 0; index < wordsPerFrame; index += 1) {
    const at = 2 * (mfn * wordsPerFrame + index);
    const lo = memory.get(at);
    const from = first + index * span;
    if (level > 0) {
      if (lo !== 0) readPage(m, { mfn: lo, level: level - 1, first: from }, into);
      continue;
    }
    const hi = memory.get(at + 1);
    if (lo === 0 && hi === 0) continue;
    for (let i = 0; i < 64; i += 1) if (hasAll(i < 32 ? lo : hi, bit(i % 32))) into.gfns.push(from + i);
  }
}

/** The bitmap of domain `id`, from the bytes. */
export function bitmapOf(m: Machine, id: number): Bitmap {
  const mfn = m.f.dirtyTop.get(id);
  if (mfn === 0) return EMPTY;
  const into = { gfns: [], pages: 0 };
  readPage(m, { mfn, level: m.geometry.capacity.dirtyLevels - 1, first: 0 }, into);
  return into;
}

interface Sides {
  readonly m: Machine;
  readonly domain: Domain;
}

const row = (name: string, breaks: Row<Sides>['breaks'], model: Row<Sides>['model'], machine: Row<Sides>['machine']): Row<Sides> => ({
  name,
  breaks,
  model,
  machine,
}); // prettier-ignore

/** What both sides know of the log of a domain. */
export const logRows: readonly Row<Sides>[] = [
  row('held', 'refines', ({ domain }) => domain.held, ({ m, domain }) => m.f.domHeld.get(domain.id)), // prettier-ignore
  row('logDirty', 'refines', ({ domain }) => domain.log.on, ({ m, domain }) => m.f.domLogDirty.get(domain.id) === 1), // prettier-ignore
  {
    ...row('dirty', 'LOG', ({ domain }) => domain.log.dirty.keys().join(' '), ({ m, domain }) => bitmapOf(m, domain.id).gfns.join(' ')), // prettier-ignore
    isSame: ({ m, domain: { id, log } }) => {
      const { gfns } = bitmapOf(m, id);
      return gfns.length === log.dirty.size && gfns.every((gfn) => log.dirty.has(gfn));
    },
  },
  row('dirtyPages', 'REF', ({ domain }) => domain.log.pages.reduce((sum, { size }) => sum + size, 0), ({ m, domain }) => bitmapOf(m, domain.id).pages), // prettier-ignore
  row('dirtyCount', 'refines', ({ domain }) => domain.log.count, ({ m, domain }) => m.f.dirtyCount.get(domain.id)), // prettier-ignore
  row('dirtyFailed', 'refines', ({ domain }) => domain.log.failed, ({ m, domain }) => m.f.dirtyFailed.get(domain.id)), // prettier-ignore
  row(
    'unfinished',
    'refines',
    ({ domain: { log } }) => (log.unfinished === undefined ? 'none' : `${log.unfinished.action} ${log.unfinished.by} ${log.unfinished.done}`), // prettier-ignore
    ({ m, domain: { id } }) => {
      const action = dirtyActions[m.f.dirtyAction.get(id)];
      return action === 'none' ? action : `${action} ${m.f.dirtyBy.get(id) - 1} ${m.f.dirtyDone.get(id)}`;
    },
  ),
];
