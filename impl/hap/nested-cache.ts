// Simulated hardware: what a processor remembers of nested tables, guest-physical mappings, direct-mapped and by the root that they
// come from. It stands in front of nested tables and is one itself, so a walk in two dimensions need not know of it.
//
//   cells of an entry:  bits 12..31 of the address | bits 32..51, identifier << 20 | address, rights | high half of the address
//
// A first reader may skip it. Sources: Intel SDM vol. 3C, "Information That May Be Cached", "Operations that Invalidate Cached
// Mappings" (INVEPT, of one root or of all; nothing less).

import { fieldsOf, OFF_HEAP } from '../paging/native-walker.ts';
import { NESTED_OUT, type Nested, type NestedWalk } from './nested.ts';

const { low: outLow, rights: outRights } = NESTED_OUT;
/** In place of bits 12..31 of an address, of which none has these bits: no entry. */
const NOTHING = -1;

/** Remembers guest-physical mappings. */
export class NestedCache implements Nested {
  readonly out: Int32Array;
  readonly demand: Int32Array;
  readonly walk: NestedWalk;
  readonly mask: number;
  readonly cells: Int32Array;
  /** The current root's identifier, shifted into its place. */
  readonly tag = new Int32Array(OFF_HEAP);

  /** `entries` is a power of two. `through` is the walk of `nested` that the cache stands in front of. */
  constructor(nested: Nested, through: NestedWalk, entries: number) {
    this.out = nested.out;
    this.demand = nested.demand;
    this.mask = entries - 1;
    this.cells = new Int32Array(4 * entries);
    this.invalidateAll();
    this.walk = walkThrough(this, through);
  }

  /** Switches to tables with another identifier, 0..4095, without an invalidation. */
  use(identifier: number): void {
    this.tag[0] = identifier << 20;
  }

  /** INVEPT of one root. */
  invalidateTag(identifier: number): void {
    for (let at = 0; at < this.cells.length; at += 4)
      if ((this.cells[at + 1] as number) >>> 20 === identifier) this.cells[at] = NOTHING;
  }

  /** INVEPT of all. */
  invalidateAll(): void {
    for (let at = 0; at < this.cells.length; at += 4) this.cells[at] = NOTHING;
  }
}

function walkThrough(cache: NestedCache, through: NestedWalk): NestedWalk {
  const { tag, out, demand } = cache;
  const slots = cache.mask << 2;
  const [lowTags, highTags, mappings, answers] = fieldsOf(cache.cells);

  /** Walks, and remembers what that came to. */
  function miss(low: number, high: number, use: number): number {
    const answer = through(low, high, use) | 0;
    if (answer < 0) return answer;
    const at = (low >>> 10) & slots;
    lowTags[at] = low >>> 12;
    highTags[at] = high | (tag[0] as number);
    mappings[at] = ((out[outLow] as number) & ~0xfff) | (out[outRights] as number);
    answers[at] = answer;
    return answer;
  }

  return function walk(low, high, use) {
    const at = (low >>> 10) & slots;
    const mapping = mappings[at] as number;
    const apart = (lowTags[at] as number) ^ (low >>> 12);
    const apartHigh = (highTags[at] as number) ^ (high | (tag[0] as number));
    if ((apart | apartHigh | (~mapping & (demand[use] as number))) !== 0) return miss(low, high, use) | 0;
    out[outLow] = (mapping & ~0xfff) | (low & 0xfff);
    out[outRights] = mapping & 0xfff;
    return answers[at] as number;
  };
}
