// Synthetic mutants: nobody's bugs, and no advisory's. Each breaks one rule about reserved bits, rights, flags, addresses or flushes in a
// copy of impl/, and must be found from scratch by the general generators, as an exhibit must: mutants of walkers by random cases
// of whole accesses, mutants of flushes by random runs. The shortest case or trace found is kept in synthetic.json.
// A first reader may skip the storing. The mutants themselves are in synthetic-walks.ts and synthetic-flushes.ts.

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeCase, decodeTrace, encodeCase, encodeTrace } from '#abi/decode.ts';
import type { Trace } from '#abi/trace.ts';
import type { AccessCase } from '#properties/paging/cases.ts';
import type { UnitOf } from '#properties/paging/cases-judge.ts';
import type { Edit } from './exhibit.ts';
import { importFrom, prepareCopy } from './loader.ts';
import { projectRoot } from './source-tree.ts';

/** What kind of rule a mutant breaks. */
export const brokenRules = ['reserved bits', 'rights', 'flags', 'addresses', 'reports', 'flushes'] as const;

export interface Mutant {
  /** `synthetic-`, and the rule in two or three words. */
  readonly id: string;
  readonly title: string;
  readonly mechanism: 'paging' | 'hap' | 'tlb';
  readonly breaks: (typeof brokenRules)[number];
  /** What finds it: cases of whole accesses, or runs. */
  readonly by: 'cases' | 'runs';
  readonly edits: readonly Edit[];
  /** Ids of the laws that may catch it. */
  readonly killedBy: readonly string[];
}

/** The shortest evidence against a mutant: a case or a trace on which the copy fails and impl/ as it stands does not. */
export type Evidence =
  { readonly kind: 'case'; readonly case: AccessCase } | { readonly kind: 'trace'; readonly trace: Trace };

/** Path of the evidence, from the project's folder. */
export const syntheticFile = 'museum/synthetic.json';

type Stored = Readonly<Record<string, { readonly case?: unknown; readonly trace?: unknown }>>;

const readStored = (): Stored => {
  const path = join(projectRoot, syntheticFile);
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Stored) : {};
};

function evidenceIn(id: string, { case: one, trace }: Stored[string]): Evidence {
  const decoded = trace === undefined ? decodeCase(JSON.stringify(one)) : decodeTrace(JSON.stringify(trace));
  if (!decoded.ok) throw new Error(`${syntheticFile}, ${id}: ${decoded.error}`);
  if ('trace' in decoded) return { kind: 'trace', trace: decoded.trace };
  if (decoded.case.engine === 'ept') throw new Error(`${syntheticFile}, ${id}: not a whole access`);
  return { kind: 'case', case: decoded.case };
}

/** What is kept against `id`, if anything. */
export function evidenceOf(id: string): Evidence | undefined {
  const found = readStored()[id];
  return found === undefined ? undefined : evidenceIn(id, found);
}

/** Keeps `evidence` in the place of what there was. */
export function keepEvidence(id: string, evidence: Evidence): void {
  const text = evidence.kind === 'case' ? encodeCase(evidence.case) : encodeTrace(evidence.trace);
  const all = Object.entries({ ...readStored(), [id]: { [evidence.kind]: JSON.parse(text) as unknown } });
  const lines = all
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`);
  const path = join(projectRoot, syntheticFile);
  writeFileSync(`${path}.draft`, `{\n${lines.join(',\n')}\n}\n`);
  renameSync(`${path}.draft`, path);
}

/** The accesses of a mutant's copy. */
export async function loadUnit(mutant: Pick<Mutant, 'id' | 'edits' | 'by'>): Promise<UnitOf> {
  const folder = prepareCopy(mutant);
  const { AccessUnit } = (await importFrom(folder, 'paging/access.ts')) as {
    readonly AccessUnit: new (memory: Int32Array) => ReturnType<UnitOf>;
  };
  return (memory) => new AccessUnit(memory);
}
