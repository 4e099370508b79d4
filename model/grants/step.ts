// Grants: a domain lets another one map or copy its frames. This file routes by kind and may be skipped.
// Sources: Xen common/grant_table.c; see README.md.

import type { GrantsOp } from '#abi/grants.ts';
import { match } from 'ts-pattern';
import { performing, type Perform } from '../progress.ts';
import { copyStep } from './copy.ts';
import { mapStep } from './map.ts';
import { query, setupTable } from './table.ts';
import { unmapStep } from './unmap.ts';

/** How a grant operation goes on. */
export const grantsStep = (op: GrantsOp<'concrete'>): Perform =>
  match<GrantsOp<'concrete'>, Perform>(op)
    .with({ kind: 'grants.map' }, (op) => performing(mapStep, op))
    .with({ kind: 'grants.unmap' }, (op) => performing(unmapStep, op))
    .with({ kind: 'grants.copy' }, (op) => performing(copyStep, op))
    .with({ kind: 'grants.setupTable' }, (op) => performing(setupTable, op))
    .with({ kind: 'grants.query' }, (op) => performing(query, op))
    .exhaustive();
