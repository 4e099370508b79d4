// XSA-149: a domain leaves memory of the hypervisor behind. See README.md for the story.
// A first reader may skip the edit's text.

import type { Exhibit } from '../exhibit.ts';

export const exhibit: Exhibit = {
  id: 'xsa-149',
  title: 'What a domain was created with is not all freed with it',
  year: 2015,
  mechanism: 'memory',
  class: 'sequential',
  invariants: ['LIFE'],
  source: 'XSA-149, "leak of main per-domain vcpu pointer array"; fixed in Xen by commit d46896ebbb',
  edits: [
    {
      file: 'memory/frames.ts',
      before: `  const frames = lastFrames(m, dom);
  f.domState.set(dom, NONE);
`,
      after: `  const frames = lastFrames(m, dom).slice(0, -1);
  f.domState.set(dom, NONE);
`,
    },
  ],
  killedBy: ['harness/nothingIsLeftBehind', 'harness/countersEqualTheModel', 'harness/bothSidesAgree'],
  trace: 'trace.json',
  note: 'The array was an allocation of its own; here the frame of the domain structure stands for all that a domain is made of.',
};
