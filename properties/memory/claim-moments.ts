// What claims do to others and to who has made them, in states that must be reached.
// A first reader may read the sentences alone.

import { claimedFrames, freeFrames } from '#model/claims.ts';
import type { Sentence } from './access-moments.ts';

export const claimMoments: readonly Sentence[] = [
  {
    id: 'memory/claimsKeepOthersOut',
    invariant: 'MUST',
    statement: 'The heap refuses a frame although there are some, for they are claimed.',
    isShown: ({ log, failures, before }) =>
      claimedFrames(before) > 0 &&
      freeFrames(before) > 0 &&
      !failures.some((one) => one.class === 'heap') &&
      log.some(({ choice }) => choice.kind === 'failed' && choice.class === 'heap'),
  },
  {
    id: 'memory/claimsAreTaken',
    invariant: 'REF',
    statement: 'A domain is populated with frames that it has claimed.',
    isShown: ({ op, reply, before }) =>
      op.kind === 'memory.populate' && reply.status === 'ok' && (before.domains.get(op.target)?.claim ?? 0) > 0,
  },
];
