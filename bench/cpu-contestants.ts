// Who is timed in the bench `cpu`: the implementation's walkers in four arrangements, each as one pass over the accesses of a stage that
// answers a checksum of all results. A first reader may skip the loops: they differ in what they call.

import { ExtendedWalker } from '#impl/hap/ept-walker.ts';
import { guestWalkOfFour } from '#impl/hap/guest-long-walker.ts';
import { GuestWalker, type GuestWalk } from '#impl/hap/guest-walker.ts';
import { NestedCache } from '#impl/hap/nested-cache.ts';
import { StructureCache, walkThrough as throughStructures } from '#impl/hap/structure-cache.ts';
import { walkOfFour } from '#impl/paging/long-walker.ts';
import { Marks } from '#impl/paging/marks.ts';
import { NativeWalker, type Walk } from '#impl/paging/native-walker.ts';
import { TranslationCache, walkThrough } from '#impl/paging/translation-cache.ts';
import { rulesOfStage, type Stage } from './cpu-tables.ts';

/** walk: four levels. buffered: behind a TLB of 1024. nested: in two dimensions. remembered: those behind 256 directory entries and 4096 mappings. */
export type Arrangement = 'walk' | 'buffered' | 'nested' | 'remembered';

/** One pass over all accesses; the checksum. */
export type Pass = () => number;

// Results are kept to 32 bits at once, and what a pass uses are its own constants, so that compiled code sums integers and
// looks nothing up: as the native side does.

function passOver({ accesses }: Stage, walk: Walk, out: Int32Array): Pass {
  return function pass() {
    const cells = accesses;
    const translate = walk;
    let sum = 0;
    for (let at = 0; at < cells.length; at += 4) {
      const low = cells[at] as number;
      const high = Math.imul(translate(low, cells[at + 1] as number, cells[at + 2] as number), 1);
      const value = high < 0 ? high : Math.imul((out[0] as number) + high, 1);
      sum = Math.imul(Math.imul(sum, 31) + value, 1);
    }
    return sum < 0 ? sum + 2 ** 32 : sum;
  };
}

function passInTwo({ accesses }: Stage, walk: GuestWalk, out: Int32Array): Pass {
  return function pass() {
    const cells = accesses;
    const translate = walk;
    let sum = 0;
    for (let at = 0; at < cells.length; at += 4) {
      const low = cells[at] as number;
      const use = cells[at + 3] as number;
      const high = Math.imul(translate(low, cells[at + 1] as number, cells[at + 2] as number, use), 1);
      const value = high < 0 ? high : Math.imul((out[0] as number) + high, 1);
      sum = Math.imul(Math.imul(sum, 31) + value, 1);
    }
    return sum < 0 ? sum + 2 ** 32 : sum;
  };
}

/** Extended tables of a stage: with accessed and dirty flags, as a hypervisor would have it. */
export function extendedOf(stage: Stage, marks: Marks): ExtendedWalker {
  const ept = new ExtendedWalker(marks);
  ept.load({
    rootLow: stage.eptRoot,
    rootHigh: 0,
    levels: 4,
    accessedDirty: true,
    modeBasedExecute: false,
    reservedHigh: rulesOfStage(stage).reservedHigh,
    page1Gb: true,
  });
  return ept;
}

/** The pass of an arrangement over a stage. */
export function passOf(arrangement: Arrangement, stage: Stage): Pass {
  const marks = new Marks(stage.memory);
  const rules = rulesOfStage(stage);
  const { cr3 } = stage.processor;
  if (arrangement === 'walk' || arrangement === 'buffered') {
    const walker = new NativeWalker(marks);
    walker.load(rules, cr3.lo, cr3.hi);
    const walk = walkOfFour(walker);
    if (arrangement === 'walk') return passOver(stage, walk, walker.out);
    return passOver(stage, walkThrough(new TranslationCache(1024), walker, walk), walker.out);
  }
  const ept = extendedOf(stage, marks);
  const mappings = arrangement === 'nested' ? undefined : new NestedCache(ept, ept.four, 4096);
  const nested = mappings ?? ept;
  const translate = mappings?.walk ?? ept.four;
  const guest = new GuestWalker(marks, nested);
  guest.load(rules, cr3, 0);
  const walk = guestWalkOfFour(guest, translate);
  if (arrangement === 'nested') return passInTwo(stage, walk, ept.out);
  return passInTwo(stage, throughStructures(new StructureCache(256), guest, walk, translate), ept.out);
}
