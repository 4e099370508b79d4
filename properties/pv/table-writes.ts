// What a paravirtual guest's kernel writes to its lowest tables where it has them mapped for reading: each such write is an update
// that the hypervisor makes for it. A first reader may skip this file.

import type { DomId, Mfn, Word } from '#abi/address.ts';
import type { Agent } from '#abi/agents.ts';
import type { GfnOperand, Literal } from '#abi/operand.ts';
import { hasAll } from '#lib/bits.ts';
import { RIGHT_BITS } from '#model/paging/rights.ts';
import { bytesOf, wordAt, wordOf } from '#model/words.ts';
import type { Gen } from '../harness/decisions.ts';
import { linearOf, treeOf, type Page } from '../paging/tables.ts';
import { noteChange, takenBack } from './changes.ts';
import { askers, contested, indexIn, newEntry, tablesAt, type Slot } from './entries.ts';

/** A write to an entry: where the caller sees it, what is to come there, and the bytes there now. */
export interface TableWrite {
  readonly gfn: GfnOperand;
  readonly offset: number;
  readonly size: number;
  readonly value: Literal;
  readonly there: Word;
}

type Walker = Extract<Agent, { kind: 'vcpu' }>;

/** Where a vCPU sees the lowest tables of its guest, and may not write them. */
function readOnlyTables(g: Gen, agent: Walker): readonly Page[] {
  const tables = new Set<number>(tablesAt(g, agent.domain, 1));
  return treeOf(g.state, agent).pages.filter(({ gfn, guest }) => tables.has(gfn) && !hasAll(guest, RIGHT_BITS.write));
}

/** Which entry of the tables that are seen is written, and what is to stand there: rather where others are at work. */
function chosen(g: Gen, id: DomId, seen: readonly Page[]): { readonly slot: Slot; readonly value: Literal } {
  const drawn = (g.share(60) ? contested(g, id) : undefined) ?? (g.share(25) ? takenBack(g, id) : undefined);
  if (drawn !== undefined && seen.some(({ gfn }) => (gfn as number) === drawn.slot.mfn)) return drawn;
  const slot: Slot = { mfn: g.prng.pick(seen).gfn as number as Mfn, level: 1, index: indexIn(g) };
  return { slot, value: newEntry(g, id, slot) };
}

/** The bytes of an entry that are written: mostly all. What is not aligned is nothing that the hypervisor helps with. */
function bytes(g: Gen): { readonly from: number; readonly size: number } {
  if (g.share(80)) return { from: 0, size: 8 };
  const size = g.prng.pick([1, 2, 4, 4]);
  return { from: g.bends() ? 1 : size * g.prng.below(8 / size), size };
}

/** Lets the kernel of a paravirtual guest write one of its tables. Undefined: there is none that sees any. */
export function tableWrite(g: Gen): TableWrite | undefined {
  const ids = askers(g).filter((id) => g.share(5) || g.state.domains.get(id)?.writesTables === true);
  if (ids.length === 0) return undefined;
  const callers = g.callers().filter(({ domain }) => ids.includes(domain));
  if (callers.length === 0) return undefined;
  const agent: Walker = { kind: 'vcpu', ...g.prng.pick(callers) };
  const seen = readOnlyTables(g, agent);
  if (seen.length === 0) return undefined;
  g.agent = agent;
  const { slot, value } = chosen(g, agent.domain, seen);
  const page = seen.find(({ gfn }) => (gfn as number) === slot.mfn);
  if (page === undefined) return undefined;
  noteChange(g, agent.domain, slot);
  const { from, size } = bytes(g);
  return {
    gfn: g.gfn(linearOf(g.geometry, page.page)),
    offset: 8 * slot.index + from,
    size,
    value,
    there: wordOf(bytesOf(wordAt(g.state, slot.mfn, slot.index), 8).slice(from)),
  };
}
