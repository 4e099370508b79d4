// A whole world with a slip in it: copies of lib, abi, model, impl and properties, edited on both sides at once, with a
// package.json of their own, so that their # imports mean one another. Model and implementation are two transcriptions of
// the same code; a slip that both share must still be seen, by what does not follow from either.
// A first reader may skip the names of the imports.

import type { Trace } from '#abi/trace.ts';
import type { Failure } from '#properties/harness/law.ts';
import type { Run } from '#properties/harness/run.ts';
import type { Subject } from '#properties/harness/subject.ts';
import type { Edit } from './exhibit.ts';
import { editedSources, importFrom, placed } from './loader.ts';
import { readSources } from './source-tree.ts';

const layers = ['lib', 'abi', 'model', 'impl', 'properties'] as const;

/** What harness and both sides of a world make of a trace. */
export type Judge = (trace: Trace) => Failure | undefined;

const manifest = JSON.stringify({
  type: 'module',
  imports: Object.fromEntries(layers.map((layer) => [`#${layer}/*.ts`, `./${layer}/*.ts`])),
});

/** Makes the world unless it is there already; answers its folder. Paths of edits begin with the layer. Throws `EditRefused`. */
export function prepareWorld(of: { readonly id: string; readonly edits: readonly Edit[] }): string {
  const sources = layers.flatMap((layer) =>
    [...readSources(layer)].map(([path, text]) => [`${layer}/${path}`, text] as const),
  );
  return placed(of.id, new Map([...editedSources(of, new Map(sources)), ['package.json', manifest]]));
}

/** The world as a judge of traces. Throws `EditRefused`. */
export async function loadWorld(of: { readonly id: string; readonly edits: readonly Edit[] }): Promise<Judge> {
  const folder = prepareWorld(of);
  const { runTrace } = (await importFrom(folder, 'properties/harness/run.ts')) as {
    readonly runTrace: (subject: Subject, trace: Trace) => Run;
  };
  const { clean } = (await importFrom(folder, 'properties/harness/subject.ts')) as { readonly clean: Subject };
  return (trace) => runTrace(clean, trace).failure;
}
